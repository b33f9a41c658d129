#include "generate/options.h"

#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/option.h"
#include "common/device/options.h"

enum {
    OPTION_MODEL = 256,
    OPTION_POLICY,
    OPTION_PROMPT,
    OPTION_PROMPT_FILE,
    OPTION_TOKENS,
    OPTION_TEMPERATURE,
    OPTION_TOP_K,
    OPTION_TOP_P,
    OPTION_SEED,
    OPTION_EXIT,
    OPTION_THRESHOLD,
    OPTION_SHOW,
    OPTION_JSON
};

static const struct argp_option option_list[] = {
    {"model", OPTION_MODEL, "PATH", 0, "A GGUF file, or a folder with config.json and safetensors", 1},
    {"policy", OPTION_POLICY, "DIR", 0, "Exits and thresholds, as train writes them (RUN/policy)", 1},
    {"prompt", OPTION_PROMPT, "TEXT", 0, "The text to go on from (default: standard input)", 2},
    {"prompt-file", OPTION_PROMPT_FILE, "FILE", 0,
     "The same, from a file; the line feed at the end of either is left out", 2},
    {"tokens", OPTION_TOKENS, "N", 0, "The most tokens to generate (default: 128)", 2},
    {"temperature", OPTION_TEMPERATURE, "T", 0,
     "Sample at this temperature; 0: always the likeliest token (default: 0)", 3},
    {"top-k", OPTION_TOP_K, "K", 0, "Sample among the K likeliest tokens only; 0: all (default: 0)", 3},
    {"top-p", OPTION_TOP_P, "P", 0, "Sample among the likeliest tokens that share P (default: 1)", 3},
    {"seed", OPTION_SEED, "N", 0, "Seed of the samples (default: 0)", 3},
    {"exit", OPTION_EXIT, "RULE", 0,
     "off: the full model; confidence: leave where a head is sure (default: confidence with --policy)", 4},
    {"threshold", OPTION_THRESHOLD, "P", 0, "Leave at this probability, whatever the policy says", 4},
    {"show", OPTION_SHOW, NULL, 0, "Print a table after the text: where each token left", 5},
    {"json", OPTION_JSON, NULL, 0, "Print one JSON object instead of the text", 5},
    {0},
};

static void check_options(struct argp_state *state, const struct generate_options *options)
{
    if (!options->model)
        argp_error(state, "--model is missing");
    if (options->prompt && options->prompt_file)
        argp_error(state, "--prompt and --prompt-file: give one of them");
    if (!options->policy && options->exit_given && !options->exit_off)
        argp_error(state, "--exit confidence needs the exits of a --policy");
    if (!isnan(options->threshold) && (!options->policy || options->exit_off))
        argp_error(state, "--threshold needs the exits of a --policy, and --exit not off");
    if (options->show && options->json)
        argp_error(state, "--show and --json: give one of them, --json tells where each token left, too");
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    static const char *const rules[] = {"off", "confidence", NULL};
    struct generate_options *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &options->device; break;
    case OPTION_MODEL: options->model = text; break;
    case OPTION_POLICY: options->policy = text; break;
    case OPTION_PROMPT: options->prompt = text; break;
    case OPTION_PROMPT_FILE: options->prompt_file = text; break;
    case OPTION_TOKENS: options->tokens = (int)option_integer(state, "tokens", text, 1, 1 << 24); break;
    case OPTION_TEMPERATURE: options->temperature = option_number(state, "temperature", text, 0, 1000); break;
    case OPTION_TOP_K: options->top_k = (int)option_integer(state, "top-k", text, 0, 1 << 28); break;
    case OPTION_TOP_P: options->top_p = option_number(state, "top-p", text, 0, 1); break;
    case OPTION_SEED: options->seed = (uint64_t)option_integer(state, "seed", text, 0, INT64_MAX); break;
    case OPTION_EXIT:
        options->exit_given = true;
        options->exit_off = option_word(state, "exit", text, rules) == 0;
        break;
    case OPTION_THRESHOLD: options->threshold = option_number(state, "threshold", text, 0, 2); break;
    case OPTION_SHOW: options->show = true; break;
    case OPTION_JSON: options->json = true; break;
    case ARGP_KEY_ARG: argp_error(state, "\"%s\" is too much: write the prompt as --prompt TEXT", text); break;
    case ARGP_KEY_END: check_options(state, options); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child children[] = {{.argp = &device_argp}, {0}};

static const struct argp parser = {
    .options = option_list,
    .parser = parse_option,
    .children = children,
    .doc =
        "Goes on from a text. With a policy, each token leaves the model at the first exit whose head is sure "
        "enough of it; states that stopped there go on later, if a later token needs them.\v"
        "The text goes to standard output, speed and depth to standard error. Special tokens in the prompt "
        "(<|im_start|>) are taken as such, so a chat is written as the model was taught it; a begin-of-text "
        "token goes before it "
        "where the model was taught so, once; generation stops "
        "at a token that ends a text or a turn, after --tokens, or where the model's context is full.\n"
        "--threshold 1.1 never leaves: the checks run, and the text is the full model's.",
};

void generate_options_parse(int argc, char **argv, struct generate_options *options)
{
    *options =
        (struct generate_options){.device = {.name = "auto"}, .tokens = 128, .top_p = 1, .threshold = NAN};
    cli_parse(&parser, argc, argv, 0, options);
}
