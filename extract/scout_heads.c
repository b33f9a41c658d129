#include "extract/scout_heads.h"

#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/head/teacher.h"
#include "common/model/block.h"
#include "common/model/layer.h"
#include "common/model/upload.h"

struct map_values {
    struct buffer *a, *b;
};

struct scout_heads {
    const struct model_config *config;
    struct backend *backend;
    int layers, rows;
    int64_t capacity; /* rows of a call */
    struct map_values *maps; /* [scout_map_count] */
    struct teacher *teacher;
    struct layer *last[SCOUT_BRIDGED]; /* behind a bridge; NULL: the model has none */
    struct layer_scratch *scratch;
    struct span *spans; /* sequences of a call */
    struct answer *answer; /* of a head */
    struct buffer *labels, *h; /* on the device: [capacity] i32, [capacity, hidden] */
    struct target_row *full, *values; /* [capacity] what the model says, and what a head does */
    float *u, *normed, *lse; /* [capacity, hidden], the same, [capacity] */
    struct scout_score *sums; /* [scout_map_count] */
    double full_loss;
    uint64_t tokens;
};

/* ---- life ---- */

static int open_bridges(struct scout_heads *heads, const struct model *model, int sequences,
                        struct error *error)
{
    if (heads->layers <= SCOUT_BRIDGED)
        return 0;
    for (int i = 0; i < SCOUT_BRIDGED; i++)
        if (layer_load(model, heads->layers - SCOUT_BRIDGED + i, heads->backend, WEIGHT_FORWARD,
                       &heads->last[i], error) < 0)
            return -1;
    return scratch_create(heads->config, heads->backend, (int)heads->capacity, sequences, heads->rows,
                          &heads->scratch, error);
}

static int open_all(struct scout_heads *heads, const struct model *model, const struct plan *plan,
                    struct error *error)
{
    const int64_t capacity = heads->capacity, values = capacity * heads->config->hidden;
    if (array_alloc(&heads->maps, scout_map_count(heads->layers), error) < 0 ||
        array_alloc(&heads->sums, scout_map_count(heads->layers), error) < 0 ||
        array_alloc(&heads->spans, plan->batch, error) < 0 || array_alloc(&heads->full, capacity, error) < 0 ||
        array_alloc(&heads->values, capacity, error) < 0 || array_alloc(&heads->u, values, error) < 0 ||
        array_alloc(&heads->normed, values, error) < 0 || array_alloc(&heads->lse, capacity, error) < 0 ||
        buffer_create(heads->backend, (size_t)capacity * sizeof(int32_t), &heads->labels, error) < 0 ||
        floats_create(heads->backend, capacity, heads->config->hidden, &heads->h, error) < 0 ||
        answer_create(heads->backend, capacity, false, &heads->answer, error) < 0 ||
        teacher_open(model, heads->backend, capacity, plan->resident, &heads->teacher, error) < 0)
        return -1;
    return open_bridges(heads, model, plan->batch, error);
}

int scout_heads_open(const struct model *model, struct backend *backend, const struct plan *plan, int rows,
                     struct scout_heads **result, struct error *error)
{
    struct scout_heads *heads;
    *result = NULL;
    if (array_alloc(&heads, 1, error) < 0)
        return -1;
    *heads = (struct scout_heads){.config = model_config(model),
                                  .backend = backend,
                                  .layers = model_config(model)->layers,
                                  .rows = rows,
                                  .capacity = (int64_t)plan->batch * rows};
    if (open_all(heads, model, plan, error) < 0) {
        scout_heads_close(heads);
        return -1;
    }
    *result = heads;
    return 0;
}

void scout_heads_close(struct scout_heads *heads)
{
    if (!heads)
        return;
    for (int map = 0; heads->maps && map < scout_map_count(heads->layers); map++) {
        buffer_destroy(heads->maps[map].a);
        buffer_destroy(heads->maps[map].b);
    }
    for (int i = 0; i < SCOUT_BRIDGED; i++)
        layer_destroy(heads->last[i]);
    scratch_destroy(heads->scratch);
    teacher_close(heads->teacher);
    answer_destroy(heads->answer);
    buffer_destroy(heads->labels);
    buffer_destroy(heads->h);
    free(heads->maps);
    free(heads->spans);
    free(heads->full);
    free(heads->values);
    free(heads->u);
    free(heads->normed);
    free(heads->lse);
    free(heads->sums);
    free(heads);
}

/* The last layers, a call's working memory (as row_floats of the plan counts it, and rotary tables that do not matter), states
 * of a call four times; and the maps. */
uint64_t scout_heads_bytes(const struct model_config *config, enum math math, int64_t rows)
{
    const struct block *block = block_of(config);
    const uint64_t hidden = (uint64_t)config->hidden, floats = sizeof(float);
    uint64_t columns = 7 * hidden;
    for (int i = 0; i < BLOCK_HALVES; i++)
        columns += (uint64_t)(half_projected(config, &block->half[i]) + half_mixed(config, &block->half[i]));
    return SCOUT_BRIDGED * (uint64_t)block_values(config) * (math == MATH_BF16 ? 2 : 4) +
           floats * (uint64_t)rows * columns +
           floats * (uint64_t)scout_map_count(config->layers) * hidden * (hidden + 1);
}

int scout_heads_set(struct scout_heads *heads, int map, const float *a, const float *b, struct error *error)
{
    const int64_t hidden = heads->config->hidden;
    return floats_upload(heads->backend, a, hidden, hidden, &heads->maps[map].a, error) < 0 ||
                   floats_upload(heads->backend, b, 1, hidden, &heads->maps[map].b, error) < 0
               ? -1
               : 0;
}

/* ---- measuring ---- */

/* h = the head's states of a call, behind the final norm. */
static struct matrix forward(struct scout_heads *heads, const struct scout_call *call, int map)
{
    const int64_t hidden = heads->config->hidden, rows = (int64_t)call->sequences * call->rows;
    const struct matrix h = matrix_f32(heads->h, rows, hidden);
    const struct scout_map of = scout_map(heads->layers, map);
    op_gemm(call->queue, call->tap[of.tap], false, matrix_f32(heads->maps[map].a, hidden, hidden), false, h,
            OP_STORE);
    op_add_bias(call->queue, matrix_f32(heads->maps[map].b, 1, hidden), h);
    for (int i = 0; i < SCOUT_BRIDGED && of.to < heads->layers; i++) {
        layer_attention(heads->last[i], call->queue, heads->scratch, heads->spans, call->sequences, h);
        layer_mlp(heads->last[i], call->queue, heads->scratch, h);
    }
    op_norm(call->queue, h, ends_final_norm(teacher_ends(heads->teacher)), heads->config->norm_epsilon, h);
    return h;
}

static double dot(const float *a, const float *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

static int measure_map(struct scout_heads *heads, const struct scout_call *call, int map, struct error *error)
{
    const int64_t hidden = heads->config->hidden, rows = (int64_t)call->sequences * call->rows;
    const struct vocab vocab = {.tied = ends_output(teacher_ends(heads->teacher)), .own = matrix_none()};
    const struct matrix labels = matrix_i32(heads->labels, rows, 1);
    const struct vocab_stats stats = answer_stats(heads->answer, rows);
    struct scout_score *sums = &heads->sums[map];
    const struct matrix h = forward(heads, call, map);
    op_vocab_stats(call->queue, h, &vocab, labels, &stats);
    op_read(call->queue, h, heads->normed);
    op_read(call->queue, stats.lse, heads->lse);
    if (answer_read(heads->answer, call->queue, rows, heads->values, error) < 0)
        return -1;
    for (int64_t r = 0; r < rows; r++) {
        const struct target_row *full = &heads->full[r], *own = &heads->values[r];
        sums->loss += own->loss;
        sums->kl += (double)heads->lse[r] - dot(heads->normed + r * hidden, heads->u + r * hidden, hidden) -
                    full->entropy;
        sums->agreement += own->top == full->top;
    }
    return 0;
}

int scout_heads_measure(struct scout_heads *heads, const struct scout_call *call, struct error *error)
{
    const int64_t rows = (int64_t)call->sequences * call->rows;
    struct matrix u;
    if (teacher_ask(heads->teacher, call->queue, call->tap[heads->layers], call->labels, heads->full, &u,
                    error) < 0)
        return -1;
    op_read(call->queue, u, heads->u);
    op_write(call->queue, matrix_i32(heads->labels, rows, 1), call->labels);
    if (queue_wait(call->queue, error) < 0)
        return -1;
    for (int s = 0; s < call->sequences; s++)
        heads->spans[s] = (struct span){.rows = call->rows};
    for (int map = 0; map < scout_map_count(heads->layers); map++) {
        if (cli_interrupted())
            return error_set_kind(error, ERROR_INTERRUPTED, "interrupted");
        if (measure_map(heads, call, map, error) < 0)
            return -1;
    }
    for (int64_t r = 0; r < rows; r++)
        heads->full_loss += heads->full[r].loss;
    heads->tokens += (uint64_t)rows;
    return 0;
}

uint64_t scout_heads_scores(const struct scout_heads *heads, struct scout_score *scores,
                            struct scout_score *full)
{
    const double tokens = heads->tokens > 0 ? (double)heads->tokens : 1;
    for (int map = 0; map < scout_map_count(heads->layers); map++) {
        const struct scout_score *sums = &heads->sums[map];
        scores[map] = (struct scout_score){sums->loss / tokens, sums->kl / tokens, sums->agreement / tokens};
    }
    *full = (struct scout_score){heads->full_loss / tokens, 0, 1};
    return heads->tokens;
}
