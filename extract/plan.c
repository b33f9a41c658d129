#include "extract/plan.h"

#include <math.h>

#include "common/base/clock.h"
#include "common/head/teacher.h"
#include "common/model/block.h"
#include "common/model/layers.h"
#include "common/store/record.h"

#define MOST_ROWS      4096
#define JOB_BYTES      (128u << 20)
#define MOST_ENCODERS  16
#define PROCESS_BYTES  ((uint64_t)200 << 20) /* code, tables, a transaction of the store */
#define PAGE           4096
#define WIDENED_ROWS   512 /* of a weight and per thread, that preparing holds as f32; */
#define WIDENED_LEAST  4096 /* or so many */
#define EMBEDDED_BYTES 65536 /* of the file that reading one row of the embedding brings into memory */

/* Floats of working memory for a row: the residual, its norm, a half's sum; what each half projects and
 * mixes. */
static uint64_t row_floats(const struct model_config *config)
{
    const struct block *block = block_of(config);
    int64_t floats = 3 * (int64_t)config->hidden;
    for (int i = 0; i < BLOCK_HALVES; i++)
        floats += half_projected(config, &block->half[i]) + half_mixed(config, &block->half[i]);
    return (uint64_t)floats;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Working memory of preparing a layer: rows of one of its weights as f32. */
static uint64_t widened_bytes(const struct model_config *config, int threads)
{
    const struct block *block = block_of(config);
    const uint64_t hidden = (uint64_t)config->hidden;
    const uint64_t most = WIDENED_ROWS * (uint64_t)threads, rows = most > WIDENED_LEAST ? most : WIDENED_LEAST;
    uint64_t values = 0;
    for (int i = 0; i < BLOCK_HALVES; i++) {
        const uint64_t in = smaller(rows, (uint64_t)half_projected(config, &block->half[i])) * hidden;
        const uint64_t out = smaller(rows, hidden) * (uint64_t)half_mixed(config, &block->half[i]);
        values = values > in ? values : in;
        values = values > out ? values : out;
    }
    return sizeof(float) * values;
}

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most)
{
    return value < least ? least : value > most ? most : value;
}

struct plan_file plan_file(const struct model *model)
{
    return (struct plan_file){layers_file_bytes(model, model_config(model)->layers),
                              model_tensor(model, 0, ROLE_EMBEDDING)->bytes};
}

uint64_t plan_memory(const struct backend *backend, uint64_t memory)
{
    const uint64_t own = backend_memory(backend), most = own - own / 16;
    return own > 0 && (memory == 0 || most < memory) ? most : memory;
}

struct plan_machine plan_machine(const struct backend *backend, int threads, uint64_t memory)
{
    return (struct plan_machine){.math = backend_math(backend),
                                 .threads = threads,
                                 .activations = backend_activations(backend),
                                 .working = backend_working(backend),
                                 .memory = memory};
}

/* What a device holds to do its part of encoding (common/transform): a fitted codec's basis for each tap, and
 * what it makes of a call, whose states have that many bytes. */
static uint64_t transform_bytes(const struct store_info *info, uint64_t states)
{
    const uint64_t hidden = (uint64_t)info->hidden;
    uint64_t bases = 0, made = 0;
    for (int tap = 0; tap < info->taps; tap++) {
        const struct codec *codec = info->codec[tap].codec;
        if (!codec->transform)
            continue;
        made = states;
        bases += codec->fit ? sizeof(float) * hidden * (hidden + 1) : 0;
    }
    return bases + made;
}

int plan_make(const struct model_config *config, struct plan_file file, const struct store_info *info,
              const struct plan_machine *machine, struct plan *plan, struct error *error)
{
    const enum math math = machine->math;
    const int threads = machine->threads;
    const uint64_t memory = machine->memory;
    const uint64_t rows = (uint64_t)info->rows;
    const uint64_t row_bytes = sizeof(float) * row_floats(config);
    const uint64_t state_bytes = sizeof(float) * rows * (uint64_t)config->hidden;
    const uint64_t layer_bytes = (uint64_t)block_values(config) * (math == MATH_BF16 ? 2 : 4);
    const bool target = store_find_target(info) >= 0;
    const struct tap last = target ? (struct tap){.layer = config->layers} : info->tap[info->taps - 1];
    const uint64_t output_bytes = target ? teacher_weight_bytes(config, math) : 0;

    *plan = (struct plan){.layers = last.layer, .half = last.mid, .resident = true, .group = 1};
    uint64_t most_rows = clamp(machine->activations / row_bytes, 1, MOST_ROWS);
    plan->batch = (int)clamp(most_rows / rows, 1, MOST_ROWS);
    plan->encoders = (int)clamp((uint64_t)threads, 1, MOST_ENCODERS);
    plan->jobs = (int)clamp(JOB_BYTES / (2 * state_bytes), (uint64_t)plan->encoders + 2,
                            2 * (uint64_t)plan->batch * (uint64_t)info->taps + (uint64_t)plan->encoders + 2);
    plan->layer = layer_bytes;
    plan->weights = layer_bytes * (uint64_t)plan->layers + output_bytes;

    plan->call = (uint64_t)plan->batch * state_bytes;
    const uint64_t device =
        machine->working > 0 ? machine->working + file.embedding + transform_bytes(info, plan->call) : 0;
    const uint64_t fixed = PROCESS_BYTES + device + (uint64_t)plan->batch * rows * row_bytes +
                           2 * (uint64_t)plan->jobs * state_bytes +
                           (target ? teacher_working_bytes(config, (int64_t)plan->batch * info->rows) : 0);
    plan->peak = fixed + plan->weights;

    /* Two layers and what making one takes; while the last one computes, the output weight too, in its two
     * forms, and its file. */
    const uint64_t embedded = clamp((uint64_t)plan->batch * rows * EMBEDDED_BYTES, 0, file.embedding);
    plan->least = fixed + 2 * layer_bytes + file.layer + widened_bytes(config, threads) + output_bytes / 2 * 3 +
                  embedded + plan->call;
    return memory == 0 || plan->peak <= memory ? 0 : plan_stream(plan, memory, error);
}

int plan_stream(struct plan *plan, uint64_t memory, struct error *error)
{
    const bool target = plan->weights > plan->layer * (uint64_t)plan->layers;
    char text[32];
    if (memory < plan->least)
        return error_set_kind(
            error, ERROR_USAGE, "memory (--memory, or the device's): this model needs at least %s%s",
            format_bytes((double)(plan->least < plan->peak ? plan->least : plan->peak), text, sizeof text),
            target ? "; --no-target takes less" : "");
    plan->resident = false;
    plan->group = (int)clamp(1 + (memory - plan->least) / plan->call, 1, INT32_MAX / MOST_ROWS);
    plan->peak = plan->least + (uint64_t)(plan->group - 1) * plan->call;
    return 0;
}

int plan_group(const struct plan *plan, const struct forward_times *times, uint64_t calls)
{
    const double load = times->read + times->prepare;
    const double output = (double)plan->weights / ((double)plan->layers * (double)plan->layer) - 1;
    const double unhidden = PLAN_PREPARE * (times->prepare + output * load);
    const double wanted = ceil((load > unhidden ? load : unhidden) / times->call);
    uint64_t group = wanted < (double)plan->group ? (uint64_t)wanted : (uint64_t)plan->group;
    group = clamp(group, 1, calls > 0 ? calls : 1);
    const uint64_t batches = (calls + group - 1) / group;
    return (int)(batches > 0 ? (calls + batches - 1) / batches : 1);
}

/* Bytes of a record's payload, at most; of a codec that is fitted far more than it will be: a bit a value above
 * what was asked for, or nine. */
static uint64_t payload_bytes(const struct store_info *info, int tap)
{
    const struct codec_choice *choice = &info->codec[tap];
    if (!choice->codec->fit)
        return choice->codec->bound(info->rows, info->hidden);
    const double bits = choice->goal == CODEC_BITS ? choice->value + 1 : 9;
    return (uint64_t)(bits / 8 * info->rows * info->hidden) + PAGE;
}

uint64_t plan_tap_bytes(const struct store_info *info, int tap, uint64_t sequences)
{
    uint64_t record = sizeof(struct record_header) + payload_bytes(info, tap);
    if (tap == store_find_target(info))
        record += columns_bytes(&info->columns, info->rows);
    /* A record of LMDB's lies in whole pages behind a header of 16 bytes, and has a key. */
    uint64_t pages = (record + 16 + PAGE - 1) / PAGE;
    return sequences * (pages * PAGE + 64);
}

uint64_t plan_missing_bytes(const struct store *store)
{
    const struct store_info *info = store_info(store);
    uint64_t bytes = 0;
    for (int tap = 0; tap < info->taps; tap++)
        for (int split = 0; split < SPLIT_COUNT; split++)
            bytes += plan_tap_bytes(info, tap,
                                    store_sequences(store, (enum split)split) -
                                        store_progress(store, tap, (enum split)split));
    return bytes;
}
