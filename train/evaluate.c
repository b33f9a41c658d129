#include "train/evaluate.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"

/* Values per row of a head's logits, on the device and on the host. */
enum { VALUE_LSE, VALUE_LABEL, VALUE_TOP, VALUE_TOP_LOGIT, VALUE_CROSS, VALUES };

struct evaluator {
    const struct evaluation_setting *setting;
    struct buffer *buffer[VALUES];
    float *lse, *label, *top_logit, *cross, *entropy; /* [rows] */
    int32_t *top, *full_top; /* [rows] */
    float *u, *h; /* [rows, H] */
};

static void evaluator_free(struct evaluator *evaluator)
{
    for (int i = 0; i < VALUES; i++)
        buffer_destroy(evaluator->buffer[i]);
    free(evaluator->lse);
    free(evaluator->label);
    free(evaluator->top_logit);
    free(evaluator->cross);
    free(evaluator->entropy);
    free(evaluator->top);
    free(evaluator->full_top);
    free(evaluator->u);
    free(evaluator->h);
}

static int evaluator_allocate(struct evaluator *evaluator, struct error *error)
{
    const struct shared *shared = evaluator->setting->shared;
    const int64_t rows = shared->capacity, values = rows * shared->hidden;
    for (int i = 0; i < VALUES; i++) {
        if (buffer_create(shared->backend, (size_t)rows * sizeof(float), &evaluator->buffer[i], error) < 0)
            return -1;
    }
    if (array_alloc(&evaluator->lse, rows, error) < 0 || array_alloc(&evaluator->label, rows, error) < 0 ||
        array_alloc(&evaluator->top_logit, rows, error) < 0 ||
        array_alloc(&evaluator->cross, rows, error) < 0 || array_alloc(&evaluator->entropy, rows, error) < 0 ||
        array_alloc(&evaluator->top, rows, error) < 0 || array_alloc(&evaluator->full_top, rows, error) < 0 ||
        array_alloc(&evaluator->u, values, error) < 0 || array_alloc(&evaluator->h, values, error) < 0)
        return -1;
    return 0;
}

static struct matrix value_rows(const struct evaluator *evaluator, int value)
{
    const int64_t rows = evaluator->setting->shared->rows;
    return value == VALUE_TOP ? matrix_i32(evaluator->buffer[value], rows, 1)
                              : matrix_f32(evaluator->buffer[value], rows, 1);
}

/* ---- the full model ---- */

/* Brings the teacher's values of the loaded batch to the host and adds up its loss. */
static int take_full(struct evaluator *evaluator, struct evaluation *full, struct error *error)
{
    const struct shared *shared = evaluator->setting->shared;
    op_read(shared->queue, shared->lse, evaluator->lse);
    op_read(shared->queue, shared->label, evaluator->label);
    op_read(shared->queue, shared->top, evaluator->full_top);
    op_read(shared->queue, shared->entropy, evaluator->entropy);
    op_read(shared->queue, shared->u, evaluator->u);
    if (queue_wait(shared->queue, error) < 0)
        return -1;
    for (int64_t r = 0; r < shared->rows; r++)
        full->loss += (double)evaluator->lse[r] - evaluator->label[r];
    return 0;
}

/* ---- a head ---- */

static int take_trial(struct evaluator *evaluator, struct trial *trial, struct error *error)
{
    const struct shared *shared = evaluator->setting->shared;
    struct queue *queue = trial->queue;
    const struct vocab vocab = head_vocab(trial->head, shared->output);
    const struct vocab_stats stats = {
        .lse = value_rows(evaluator, VALUE_LSE),
        .label = value_rows(evaluator, VALUE_LABEL),
        .top = value_rows(evaluator, VALUE_TOP),
        .top_logit = value_rows(evaluator, VALUE_TOP_LOGIT),
        .entropy = matrix_none(),
        .u = matrix_none(),
    };
    struct matrix h = trial_forward(trial, evaluator->setting->workspace, shared);
    op_vocab_stats(queue, h, &vocab, shared->labels, &stats);
    op_read(queue, stats.lse, evaluator->lse);
    op_read(queue, stats.label, evaluator->label);
    op_read(queue, stats.top, evaluator->top);
    op_read(queue, stats.top_logit, evaluator->top_logit);
    if (vocab.tied) {
        op_read(queue, h, evaluator->h);
    } else {
        const struct vocab teacher = {.tied = shared->output, .own = matrix_none()};
        op_vocab_cross(queue, h, &vocab, shared->teacher, &teacher, value_rows(evaluator, VALUE_CROSS));
        op_read(queue, value_rows(evaluator, VALUE_CROSS), evaluator->cross);
    }
    return queue_wait(queue, error);
}

/* sum_v q_v z_v of one row. */
static double cross_of_row(const struct evaluator *evaluator, const struct trial *trial, int64_t row)
{
    const int64_t hidden = evaluator->setting->shared->hidden;
    const float *h = evaluator->h + row * hidden, *u = evaluator->u + row * hidden;
    double sum = 0;
    if (trial->config.spec.output == OUTPUT_UNTIED)
        return evaluator->cross[row];
    for (int64_t c = 0; c < hidden; c++)
        sum += (double)h[c] * u[c];
    return sum;
}

static void add_rows(const struct evaluator *evaluator, const struct trial *trial, struct evaluation *result,
                     struct outcome *outcomes)
{
    for (int64_t r = 0; r < evaluator->setting->shared->rows; r++) {
        const double lse = evaluator->lse[r];
        const bool agrees = evaluator->top[r] == evaluator->full_top[r];
        result->loss += lse - evaluator->label[r];
        result->kl += lse - cross_of_row(evaluator, trial, r) - evaluator->entropy[r];
        result->agreement += agrees;
        if (outcomes)
            outcomes[r] = (struct outcome){(float)exp(evaluator->top_logit[r] - lse), agrees};
    }
}

static void evaluate_trial(struct evaluator *evaluator, struct trial *trial, struct evaluation *result,
                           struct outcome *outcomes)
{
    if (trial->failed)
        return;
    if (take_trial(evaluator, trial, &trial->reason) < 0) {
        trial->failed = true;
        return;
    }
    add_rows(evaluator, trial, result, outcomes);
}

/* ---- the split ---- */

static int evaluate_batches(struct evaluator *evaluator, struct feed *feed, struct trial *const *trials,
                            int count, struct evaluation *results, struct evaluation *full,
                            struct outcome *const *outcomes, bool *complete, struct error *error)
{
    const struct feed_batch *batch;
    const int64_t rows = evaluator->setting->stores->rows;
    while (feed_next(feed, &batch, error) == 0) {
        if (!batch) {
            *complete = true;
            return 0;
        }
        if (cli_interrupted())
            return 0;
        if (shared_load(evaluator->setting->shared, batch, TEACH_U | TEACH_OUTCOME, error) < 0 ||
            take_full(evaluator, full, error) < 0)
            return -1;
        for (int i = 0; i < count; i++)
            evaluate_trial(evaluator, trials[i], &results[i],
                           outcomes ? outcomes[i] + (int64_t)batch->first * rows : NULL);
    }
    return -1;
}

static void divide(struct evaluation *evaluation, double tokens)
{
    evaluation->loss /= tokens;
    evaluation->kl /= tokens;
    evaluation->agreement /= tokens;
}

int evaluate_trials(const struct evaluation_setting *setting, struct trial *const *trials, int count,
                    struct evaluation *results, struct evaluation *full, struct outcome *const *outcomes,
                    bool *complete, struct error *error)
{
    struct evaluator evaluator = {.setting = setting};
    struct feed *feed = NULL;
    const uint64_t sequences = setting->stores->sequences[SPLIT_HELD_OUT];
    const double tokens = (double)sequences * setting->stores->rows;
    const struct feed_plan plan = {
        .split = SPLIT_HELD_OUT,
        .tap = setting->shared->tap,
        .taps = setting->shared->taps,
        .sequences = setting->sequences,
        .end = sequences,
    };
    *complete = false;
    *full = (struct evaluation){.agreement = tokens};
    for (int i = 0; i < count; i++)
        results[i] = (struct evaluation){0};
    int result = evaluator_allocate(&evaluator, error);
    if (result == 0)
        result = feed_open(setting->stores, &plan, setting->threads, &feed, error);
    if (result == 0)
        result = evaluate_batches(&evaluator, feed, trials, count, results, full, outcomes, complete, error);
    divide(full, tokens);
    for (int i = 0; i < count; i++) {
        divide(&results[i], tokens);
        if (*complete && !trials[i]->failed && !isfinite(results[i].loss + results[i].kl)) {
            trials[i]->failed = true;
            error_set(&trials[i]->reason, "its held-out loss is not a number");
        }
    }
    feed_close(feed);
    evaluator_free(&evaluator);
    return result;
}
