#include "train/evaluate.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"

/* What is computed of each row's logits, on the device and on the host. */
enum { VALUE_LSE, VALUE_LABEL, VALUE_TOP, VALUE_TOP_LOGIT, VALUE_CROSS, VALUES };

struct evaluator {
    const struct evaluation_setting *setting;
    struct trial *const *trials; /* [count] */
    int count;
    unsigned teach; /* what all of them are measured by */
    struct evaluation *results, *full; /* sums, until all is read */
    const struct observed *observed; /* [count]; or NULL */
    int64_t first; /* of the loaded rows, among those of the split */
    struct buffer *buffer[VALUES];
    float *lse, *label, *top_logit, *cross; /* [rows] */
    int32_t *top; /* [rows] */
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
    free(evaluator->top);
    free(evaluator->u);
    free(evaluator->h);
}

static int evaluator_allocate(struct evaluator *evaluator, struct error *error)
{
    const struct batch *batch = evaluator->setting->batch;
    const int64_t rows = batch->capacity, values = rows * batch->hidden;
    for (int i = 0; i < VALUES; i++) {
        if (buffer_create(batch->backend, (size_t)rows * sizeof(float), &evaluator->buffer[i], error) < 0)
            return -1;
    }
    if (array_alloc(&evaluator->lse, rows, error) < 0 || array_alloc(&evaluator->label, rows, error) < 0 ||
        array_alloc(&evaluator->top_logit, rows, error) < 0 ||
        array_alloc(&evaluator->cross, rows, error) < 0 || array_alloc(&evaluator->top, rows, error) < 0 ||
        array_alloc(&evaluator->u, values, error) < 0 || array_alloc(&evaluator->h, values, error) < 0)
        return -1;
    return 0;
}

static struct matrix value_rows(const struct evaluator *evaluator, int value, struct piece piece)
{
    struct buffer *buffer = evaluator->buffer[value];
    const int64_t end = piece.first + piece.rows;
    return matrix_rows(value == VALUE_TOP ? matrix_i32(buffer, end, 1) : matrix_f32(buffer, end, 1),
                       piece.first, piece.rows);
}

/* ---- the full model ---- */

/* Adds up the loss of the loaded batch, and brings its u to the host. */
static int take_full(struct evaluator *evaluator, struct error *error)
{
    const struct batch *batch = evaluator->setting->batch;
    for (int64_t r = 0; r < batch->rows; r++)
        evaluator->full->loss += batch->values[r].loss;
    if (evaluator->teach & TEACH_U)
        op_read(batch->queue, batch->u, evaluator->u);
    return queue_wait(batch->queue, error);
}

/* ---- a head ---- */

static int take_piece(struct evaluator *evaluator, const struct trial *trial, struct piece piece,
                      struct error *error)
{
    const struct batch *batch = evaluator->setting->batch;
    struct workspace *workspace = evaluator->setting->workspace;
    struct queue *queue = workspace->queue;
    const struct vocab vocab = head_vocab(trial->head, batch->output);
    const struct vocab_stats stats = {
        .lse = value_rows(evaluator, VALUE_LSE, piece),
        .label = value_rows(evaluator, VALUE_LABEL, piece),
        .top = value_rows(evaluator, VALUE_TOP, piece),
        .top_logit = value_rows(evaluator, VALUE_TOP_LOGIT, piece),
        .entropy = matrix_none(),
        .u = matrix_none(),
    };
    struct matrix h;
    if (trial_forward(trial, workspace, batch, piece, &h, error) < 0)
        return -1;
    op_vocab_stats(queue, h, &vocab, matrix_rows(batch->labels, piece.first, piece.rows), &stats);
    op_read(queue, stats.lse, evaluator->lse + piece.first);
    op_read(queue, stats.label, evaluator->label + piece.first);
    op_read(queue, stats.top, evaluator->top + piece.first);
    op_read(queue, stats.top_logit, evaluator->top_logit + piece.first);
    if (vocab.tied) {
        op_read(queue, h, evaluator->h + piece.first * batch->hidden);
    } else {
        const struct vocab teacher = {.tied = batch->output, .own = matrix_none()};
        const struct matrix cross = value_rows(evaluator, VALUE_CROSS, piece);
        op_vocab_cross(queue, h, &vocab, matrix_rows(batch->teacher, piece.first, piece.rows), &teacher, cross);
        op_read(queue, cross, evaluator->cross + piece.first);
    }
    return 0;
}

/* Computes the values of the loaded batch, in pieces that the device's memory holds. */
static int take_trial(struct evaluator *evaluator, const struct trial *trial, struct error *error)
{
    struct workspace *workspace = evaluator->setting->workspace;
    const int64_t rows = evaluator->setting->batch->rows;
    const bool by_row = trial_is_by_row(trial);
    int result;
    do {
        const int64_t pieces = workspace_pieces(workspace, by_row, rows);
        result = 0;
        for (int64_t p = 0; p < pieces && result == 0; p++)
            result = take_piece(evaluator, trial, workspace_piece(workspace, by_row, rows, p), error);
        if (result == 0)
            result = queue_wait(workspace->queue, error);
    } while (result < 0 && workspace_recover(workspace, by_row, error));
    return result;
}

/* sum_v q_v z_v + entropy(q) of one row. Both are of the q that the head is measured against. */
static double target_of_row(const struct evaluator *evaluator, const struct trial *trial, int64_t row)
{
    const struct batch *batch = evaluator->setting->batch;
    const float *h = evaluator->h + row * batch->hidden, *u = evaluator->u + row * batch->hidden;
    double sum = 0;
    if (trial->config.spec.output == OUTPUT_UNTIED)
        return (double)evaluator->cross[row] + batch->states_entropy[row];
    for (int64_t c = 0; c < batch->hidden; c++)
        sum += (double)h[c] * u[c];
    return sum + batch->values[row].entropy;
}

static void add_rows(const struct evaluator *evaluator, const struct trial *trial, struct evaluation *result,
                     const struct observed *observed)
{
    const struct batch *batch = evaluator->setting->batch;
    for (int64_t r = 0; r < batch->rows; r++) {
        const double lse = evaluator->lse[r];
        const bool agrees = evaluator->top[r] == batch->values[r].top;
        result->loss += lse - evaluator->label[r];
        result->kl += lse - target_of_row(evaluator, trial, r);
        result->agreement += agrees;
        if (observed) {
            observed->evidence[evaluator->first + r].confidence = exp(evaluator->top_logit[r] - lse);
            observed->agrees[evaluator->first + r] = agrees;
        }
    }
}

static int evaluate_trial(struct evaluator *evaluator, int index, struct error *error)
{
    struct trial *trial = evaluator->trials[index];
    if (trial->failed || trial->starved)
        return 0;
    if (take_trial(evaluator, trial, error) == 0) {
        add_rows(evaluator, trial, &evaluator->results[index],
                 evaluator->observed ? &evaluator->observed[index] : NULL);
        return 0;
    }
    if (error->kind != ERROR_NO_MEMORY)
        return -1;
    trial_starve(trial, error);
    return 0;
}

/* ---- the split ---- */

static int evaluate_batches(struct evaluator *evaluator, struct feed *feed, bool *complete, struct error *error)
{
    const struct feed_batch *next;
    const int64_t rows = evaluator->setting->stores->rows;
    while (feed_next(feed, &next, error) == 0) {
        if (!next) {
            *complete = true;
            return 0;
        }
        if (cli_interrupted())
            return 0;
        evaluator->first = (int64_t)next->first * rows;
        if (batch_load(evaluator->setting->batch, next, evaluator->teach, error) < 0 ||
            take_full(evaluator, error) < 0)
            return -1;
        for (int i = 0; i < evaluator->count; i++) {
            if (evaluate_trial(evaluator, i, error) < 0)
                return -1;
        }
    }
    return -1;
}

/* Once all trials are evaluated, marks those that have failed by their own fault. */
static int judge(const struct evaluation_setting *setting, struct trial *const *trials, int count,
                 const struct evaluation *results, struct error *error)
{
    if (trials_judge(trials, count, setting->workspace, setting->batch, error) < 0)
        return -1;
    for (int i = 0; i < count; i++) {
        if (trials[i]->failed || isfinite(results[i].loss + results[i].kl))
            continue;
        trials[i]->failed = true;
        error_set(&trials[i]->reason, "its held-out loss is not a number");
    }
    return 0;
}

static void divide(struct evaluation *evaluation, double tokens)
{
    evaluation->loss /= tokens;
    evaluation->kl /= tokens;
    evaluation->agreement /= tokens;
}

int evaluate_trials(const struct evaluation_setting *setting, struct trial *const *trials, int count,
                    struct evaluation *results, struct evaluation *full, const struct observed *observed,
                    bool *complete, struct error *error)
{
    struct evaluator evaluator = {.setting = setting,
                                  .trials = trials,
                                  .count = count,
                                  .teach = TEACH_OUTCOME,
                                  .results = results,
                                  .full = full,
                                  .observed = observed};
    struct feed *feed = NULL;
    const uint64_t sequences = setting->stores->sequences[SPLIT_HELD_OUT];
    const double tokens = (double)sequences * setting->stores->rows;
    struct feed_plan plan = {.split = SPLIT_HELD_OUT, .sequences = setting->sequences, .end = sequences};
    *complete = false;
    *full = (struct evaluation){.agreement = tokens};
    for (int i = 0; i < count; i++) {
        results[i] = (struct evaluation){0};
        evaluator.teach |= trial_measuring(&trials[i]->config);
    }
    batch_plan(setting->batch, evaluator.teach, &plan);
    int result = evaluator_allocate(&evaluator, error);
    if (result == 0)
        result = feed_open(setting->stores, &plan, setting->threads, &feed, error);
    if (result == 0)
        result = evaluate_batches(&evaluator, feed, complete, error);
    if (result < 0 && error->kind == ERROR_INTERRUPTED) /* *complete says so */
        result = 0;
    divide(full, tokens);
    for (int i = 0; i < count; i++)
        divide(&results[i], tokens);
    if (result == 0 && *complete)
        result = judge(setting, trials, count, results, error);
    for (int i = 0; i < count; i++)
        trials[i]->starved = false;
    feed_close(feed);
    evaluator_free(&evaluator);
    return result;
}
