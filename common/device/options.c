#include "common/device/options.h"

#include "common/base/option.h"

enum { MOST_THREADS = 4096 };
enum { OPTION_DEVICE = 256, OPTION_MATH, OPTION_THREADS };

static error_t parse_threads(int key, char *text, struct argp_state *state)
{
    int *threads = state->input;
    if (key != OPTION_THREADS)
        return ARGP_ERR_UNKNOWN;
    *threads = (int)option_integer(state, "threads", text, 1, MOST_THREADS);
    return 0;
}

static error_t parse_device(int key, char *text, struct argp_state *state)
{
    struct device_options *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &options->backend.threads; return 0;
    case OPTION_DEVICE:
        options->name = device_names()[option_word(state, "device", text, device_names())];
        return 0;
    case OPTION_MATH:
        options->backend.math = MATH_F32 + option_word(state, "math", text, math_names());
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option threads_options[] = {{"threads", OPTION_THREADS, "N", 0,
                                                      "Threads that compute (default: one per processor)",
                                                      DEVICE_OPTIONS_GROUP},
                                                     {0}};

static const struct argp_option device_options[] = {
    {"device", OPTION_DEVICE, "NAME", 0, "auto, cpu, cuda or ref (default: auto)", DEVICE_OPTIONS_GROUP},
    {"math", OPTION_MATH, "MODE", 0,
     "f32, tf32 or bf16 inputs of products, with f32 sums (default: f32; on cuda bf16)", DEVICE_OPTIONS_GROUP},
    {0}};

static const struct argp_child device_children[] = {{.argp = &threads_argp}, {0}};

const struct argp threads_argp = {.options = threads_options, .parser = parse_threads};
const struct argp device_argp = {
    .options = device_options, .parser = parse_device, .children = device_children};
