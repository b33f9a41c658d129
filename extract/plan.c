#include "extract/plan.h"

#include "common/base/clock.h"
#include "common/head/teacher.h"
#include "common/store/target.h"

#define ACTIVATION_BYTES (64u << 20)
#define MOST_ROWS        4096
#define JOB_BYTES        (128u << 20)
#define MOST_ENCODERS    16
#define PROCESS_BYTES    ((uint64_t)200 << 20) /* code, tables, a transaction of the store */
#define PAGE             4096

/* Floats of working memory for a row: residual, normed, attention's q, k, v and output, the MLP's gate,
 * up and their product. */
static uint64_t row_floats(const struct model_config *config)
{
    uint64_t q = (uint64_t)config->heads * (uint64_t)config->head_size;
    uint64_t kv = (uint64_t)config->kv_heads * (uint64_t)config->head_size;
    return 3 * (uint64_t)config->hidden + 2 * q + 2 * kv + 3 * (uint64_t)config->intermediate;
}

static uint64_t layer_values(const struct model_config *config)
{
    uint64_t hidden = (uint64_t)config->hidden;
    uint64_t q = (uint64_t)config->heads * (uint64_t)config->head_size;
    uint64_t kv = (uint64_t)config->kv_heads * (uint64_t)config->head_size;
    return hidden * (2 * q + 2 * kv + 3 * (uint64_t)config->intermediate);
}

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most)
{
    return value < least ? least : value > most ? most : value;
}

int plan_make(const struct model_config *config, const struct store_info *info, enum math math, int threads,
              uint64_t memory, struct plan *plan, struct error *error)
{
    const uint64_t rows = (uint64_t)info->rows;
    const uint64_t row_bytes = sizeof(float) * row_floats(config);
    const uint64_t state_bytes = sizeof(float) * rows * (uint64_t)config->hidden;
    const uint64_t layer_bytes = layer_values(config) * (math == MATH_BF16 ? 2 : 4);
    const bool target = store_find_target(info) >= 0;
    const struct tap last = target ? (struct tap){.layer = config->layers} : info->tap[info->taps - 1];
    const uint64_t output_bytes = target ? teacher_weight_bytes(config, math) : 0;

    *plan = (struct plan){.layers = last.layer, .half = last.mid, .resident = true, .group = 1};
    uint64_t most_rows = clamp(ACTIVATION_BYTES / row_bytes, 1, MOST_ROWS);
    plan->batch = (int)clamp(most_rows / rows, 1, MOST_ROWS);
    plan->encoders = (int)clamp((uint64_t)threads, 1, MOST_ENCODERS);
    plan->jobs = (int)clamp(JOB_BYTES / (2 * state_bytes), (uint64_t)plan->encoders + 2,
                            2 * (uint64_t)plan->batch * (uint64_t)info->taps + (uint64_t)plan->encoders + 2);
    plan->weights = layer_bytes * (uint64_t)plan->layers + output_bytes;

    const uint64_t call_bytes = (uint64_t)plan->batch * state_bytes; /* the residuals of a call */
    const uint64_t fixed = PROCESS_BYTES + (uint64_t)plan->batch * rows * row_bytes +
                           2 * (uint64_t)plan->jobs * state_bytes +
                           (target ? teacher_working_bytes(config, (int64_t)plan->batch * info->rows) : 0);
    plan->peak = fixed + plan->weights;
    if (memory == 0 || plan->peak <= memory)
        return 0;

    /* One layer prepared, and as much again of its file and of what preparing it takes; or that layer still,
     * and the output weight in its two forms with as much of its file. */
    const uint64_t layer_turn = 2 * layer_bytes, output_turn = layer_bytes + output_bytes / 2 * 3;
    const uint64_t least = fixed + (output_turn > layer_turn ? output_turn : layer_turn) + call_bytes;
    char text[32];
    if (memory < least)
        return error_set(error, "--memory: this model needs at least %s",
                         format_bytes((double)least, text, sizeof text));
    plan->resident = false;
    plan->group = (int)clamp(1 + (memory - least) / call_bytes, 1, INT32_MAX / MOST_ROWS);
    plan->peak = least + (uint64_t)(plan->group - 1) * call_bytes;
    return 0;
}

uint64_t plan_tap_bytes(const struct store_info *info, int tap, uint64_t sequences)
{
    uint64_t record = sizeof(struct record_header) + info->codec[tap].codec->bound(info->rows, info->hidden);
    if (tap == store_find_target(info))
        record += (uint64_t)info->rows * sizeof(struct target_row);
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
