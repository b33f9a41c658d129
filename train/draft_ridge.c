#include "train/draft_ridge.h"

#include <stdlib.h>

#include "common/base/memory.h"
#include "common/base/progress.h"
#include "common/head/draft.h"
#include "common/head/ridge.h"
#include "train/batch.h"
#include "train/draft_work.h"

struct fit {
    const struct trial *trial;
    struct batch *batch;
    struct queue *queue;
    struct tap taps[HEAD_TAPS + 1]; /* the draft's, then the final one */
    int count; /* of the draft's */
    int64_t inputs, hidden; /* (count + 1) H, H */
    struct buffer *joined; /* [rows, inputs + H]: x, y */
    struct buffer *weight; /* [rows] */
    struct buffer *ones; /* [H] */
    struct draft_work *work; /* once there is a regression */
    struct buffer *sums; /* [inputs, inputs + H] f64 */
    float *y, *w; /* host: [rows, H], [rows] */
};

static void fit_free(struct fit *fit)
{
    buffer_destroy(fit->joined);
    buffer_destroy(fit->weight);
    buffer_destroy(fit->ones);
    buffer_destroy(fit->sums);
    free(fit->y);
    free(fit->w);
    draft_work_destroy(fit->work);
    batch_destroy(fit->batch);
    queue_destroy(fit->queue);
}

static int fit_create(struct fit *fit, const struct draft_ridge_setting *setting, struct error *error)
{
    const struct stores *stores = setting->stores;
    struct backend *backend = setting->backend;
    const size_t rows = (size_t)stores->rows, hidden = (size_t)stores->config.hidden;
    fit->hidden = stores->config.hidden;
    fit->count = head_spec_taps(&fit->trial->config.spec, fit->taps);
    fit->taps[fit->count] = (struct tap){.layer = stores->config.layers};
    fit->inputs = (fit->count + 1) * fit->hidden;
    const size_t width = (size_t)fit->inputs + hidden;
    if (batch_create(stores, backend, fit->taps, fit->count + 1, TEACH_DRAFT | TEACH_STATES, stores->rows,
                     &fit->batch, error) < 0 ||
        queue_create(backend, &fit->queue, error) < 0 ||
        buffer_create(backend, rows * width * sizeof(float), &fit->joined, error) < 0 ||
        buffer_create(backend, rows * sizeof(float), &fit->weight, error) < 0 ||
        buffer_create(backend, hidden * sizeof(float), &fit->ones, error) < 0 ||
        buffer_create(backend, (size_t)fit->inputs * width * sizeof(double), &fit->sums, error) < 0 ||
        array_alloc(&fit->y, rows * hidden, error) < 0 || array_alloc(&fit->w, rows, error) < 0)
        return -1;
    for (size_t i = 0; i < hidden; i++)
        fit->y[i] = 1;
    op_write(fit->queue, matrix_f32(fit->ones, 1, fit->hidden), fit->y);
    return queue_wait(fit->queue, error);
}

/* Adds the rows of a sequence that have a next one. */
static int add_sequence(const struct fit *fit, const struct feed_batch *next, struct error *error)
{
    const int64_t rows = next->rows - 1, hidden = fit->hidden, inputs = fit->inputs;
    if (rows < 1)
        return 0;
    if (batch_load(fit->batch, next, TEACH_DRAFT, error) < 0)
        return -1;
    const struct matrix joined = matrix_f32(fit->joined, rows, inputs + hidden);
    const struct matrix e = matrix_cols(joined, inputs - hidden, hidden);
    const struct matrix y = matrix_cols(joined, inputs, hidden), weight = matrix_f32(fit->weight, rows, 1);
    for (int t = 0; t < fit->count; t++)
        op_copy(fit->queue, matrix_rows(batch_states(fit->batch, fit->taps[t]), 0, rows),
                matrix_cols(joined, t * hidden, hidden));
    op_embed(fit->queue, fit->batch->embedding, matrix_rows(fit->batch->followers, 0, rows), e);
    op_norm(fit->queue, e, matrix_f32(fit->ones, 1, hidden), fit->batch->norm_epsilon, e);
    op_copy(fit->queue, matrix_rows(batch_states(fit->batch, fit->taps[fit->count]), 1, rows), y);
    op_read(fit->queue, y, fit->y);
    if (queue_wait(fit->queue, error) < 0)
        return -1;
    ridge_weigh(fit->y, rows, hidden, fit->w);
    op_write(fit->queue, weight, fit->w);
    op_gram(fit->queue, matrix_cols(joined, 0, inputs), joined, weight,
            matrix_f64(fit->sums, inputs, inputs + hidden));
    return queue_wait(fit->queue, error);
}

/* ---- the norm's scale ---- */

#define CALIBRATED 2 /* sequences */
static const float factors[] = {1, 0.7f, 0.5f, 0.35f, 0.25f};
enum { FACTORS = sizeof factors / sizeof factors[0] };

/* The draft's scale, and how the loss depends on what it is multiplied by. */
struct calibration {
    struct matrix scale;
    float *values, *scaled; /* [H] as it was, and times a factor */
    double loss[FACTORS];
};

static void write_scale(const struct fit *fit, const struct calibration *calibration, float factor)
{
    for (int64_t i = 0; i < fit->hidden; i++)
        calibration->scaled[i] = factor * calibration->values[i];
    op_write(fit->queue, calibration->scale, calibration->scaled);
}

/* Adds the losses of a sequence. */
static int try_factors(struct fit *fit, const struct feed_batch *next, struct calibration *calibration,
                       struct error *error)
{
    const struct piece piece = {0, next->rows};
    if (batch_load(fit->batch, next, TEACH_DRAFT | TEACH_STATES, error) < 0 ||
        draft_work_need(&fit->work, fit->trial, fit->batch, fit->queue, next->rows, next->rows, error) < 0)
        return -1;
    for (int f = 0; f < FACTORS; f++) {
        write_scale(fit, calibration, factors[f]);
        op_read(fit->queue, draft_work_loss(fit->work, fit->queue, fit->trial, fit->batch, piece), fit->w);
        if (queue_wait(fit->queue, error) < 0)
            return -1;
        for (int64_t r = 0; r < next->rows; r++)
            calibration->loss[f] += (double)fit->w[r];
    }
    return 0;
}

static int calibrate(struct fit *fit, const struct draft_ridge_setting *setting, struct error *error)
{
    const struct stores *stores = setting->stores;
    const uint64_t all = stores->sequences[SPLIT_TRAIN];
    struct feed_plan plan = {.split = SPLIT_TRAIN,
                             .shuffled = true,
                             .seed = setting->seed,
                             .sequences = 1,
                             .end = all < CALIBRATED ? all : CALIBRATED};
    struct calibration calibration = {.scale = draft_scale(fit->trial->head)};
    const struct feed_batch *next;
    struct feed *feed = NULL;
    int best = 0, result = -1;
    batch_plan(fit->batch, TEACH_DRAFT | TEACH_STATES, &plan);
    if (array_alloc(&calibration.values, fit->hidden, error) < 0 ||
        array_alloc(&calibration.scaled, fit->hidden, error) < 0)
        goto done;
    op_read(fit->queue, calibration.scale, calibration.values);
    if (queue_wait(fit->queue, error) < 0 || feed_open(stores, &plan, setting->threads, &feed, error) < 0)
        goto done;
    while ((result = feed_next(feed, &next, error)) == 0 && next) {
        if ((result = try_factors(fit, next, &calibration, error)) < 0)
            goto done;
    }
    for (int f = 1; f < FACTORS; f++)
        best = calibration.loss[f] < calibration.loss[best] ? f : best;
    write_scale(fit, &calibration, factors[best]);
    if (result == 0)
        result = queue_wait(fit->queue, error);
done:
    feed_close(feed);
    free(calibration.values);
    free(calibration.scaled);
    return result;
}

/* ---- the regression ---- */

static int add_sequences(const struct fit *fit, const struct draft_ridge_setting *setting, struct error *error)
{
    const struct stores *stores = setting->stores;
    const uint64_t all = stores->sequences[SPLIT_TRAIN];
    const uint64_t enough = (DRAFT_RIDGE_TOKENS + (uint64_t)stores->rows - 1) / (uint64_t)stores->rows;
    struct feed_plan plan = {.split = SPLIT_TRAIN,
                             .shuffled = true,
                             .seed = setting->seed,
                             .sequences = 1,
                             .end = enough < all ? enough : all};
    const struct feed_batch *next;
    struct progress progress;
    struct feed *feed;
    int result;
    batch_plan(fit->batch, TEACH_DRAFT, &plan);
    if (feed_open(stores, &plan, setting->threads, &feed, error) < 0)
        return -1;
    progress_start(&progress, "draft ridge", "sequences", plan.end);
    while ((result = feed_next(feed, &next, error)) == 0 && next) {
        if ((result = add_sequence(fit, next, error)) < 0)
            break;
        progress_update(&progress, next->first + 1);
    }
    progress_finish(&progress);
    feed_close(feed);
    return result;
}

/* sums [inputs, inputs + H] to a [inputs, H], and the moment of e. */
static int solve(const struct fit *fit, const double *sums, float *a, double *moment, struct error *error)
{
    const int64_t inputs = fit->inputs, hidden = fit->hidden, width = inputs + hidden;
    double *gram = NULL, *cross = NULL;
    int result = -1;
    if (array_alloc(&gram, inputs * inputs, error) < 0 || array_alloc(&cross, inputs * hidden, error) < 0)
        goto done;
    for (int64_t r = 0; r < inputs; r++) {
        for (int64_t c = 0; c < inputs; c++)
            gram[r * inputs + c] = sums[r * width + c];
        for (int64_t c = 0; c < hidden; c++)
            cross[c * inputs + r] = sums[r * width + inputs + c];
    }
    for (int64_t r = 0; r < hidden; r++) {
        for (int64_t c = 0; c < hidden; c++)
            moment[r * hidden + c] = sums[(inputs - hidden + r) * width + inputs - hidden + c];
    }
    if (ridge_solve_gram(gram, inputs, cross, hidden, error) < 0) {
        error_prefix(error, "a draft");
        goto done;
    }
    for (int64_t r = 0; r < inputs; r++) {
        for (int64_t c = 0; c < hidden; c++)
            a[r * hidden + c] = (float)cross[c * inputs + r];
    }
    result = 0;
done:
    free(gram);
    free(cross);
    return result;
}

/* Whether it is of these taps. */
static bool is_of(const struct draft_regression *regression, const struct trial *trial)
{
    struct tap taps[HEAD_TAPS];
    const int count = head_spec_taps(&trial->config.spec, taps);
    bool same = regression->a && regression->count == count;
    for (int t = 0; t < count && same; t++)
        same = tap_compare(regression->taps[t], taps[t]) == 0;
    return same;
}

void draft_regression_free(struct draft_regression *regression)
{
    free(regression->a);
    free(regression->moment);
    *regression = (struct draft_regression){0};
}

int draft_ridge_fit(struct draft_regression *regression, const struct trial *trial,
                    const struct draft_ridge_setting *setting, struct error *error)
{
    struct fit fit = {.trial = trial};
    double *sums = NULL;
    if (is_of(regression, trial))
        return 0;
    draft_regression_free(regression);
    regression->count = head_spec_taps(&trial->config.spec, regression->taps);
    int result = fit_create(&fit, setting, error);
    const int64_t values = fit.inputs * (fit.inputs + fit.hidden);
    if (result == 0)
        result = add_sequences(&fit, setting, error);
    if (result == 0 && (array_alloc(&sums, values, error) < 0 ||
                        array_alloc(&regression->moment, fit.hidden * fit.hidden, error) < 0 ||
                        array_alloc(&regression->a, fit.inputs * fit.hidden, error) < 0))
        result = -1;
    if (result == 0) {
        op_read(fit.queue, matrix_f64(fit.sums, fit.inputs, fit.inputs + fit.hidden), sums);
        result = queue_wait(fit.queue, error);
    }
    if (result == 0) {
        regression->solved = solve(&fit, sums, regression->a, regression->moment, &regression->reason) == 0;
        if (!regression->solved && error_is_machines(&regression->reason)) {
            *error = regression->reason;
            result = -1;
        }
    }
    if (result < 0)
        draft_regression_free(regression);
    free(sums);
    fit_free(&fit);
    return result;
}

int draft_ridge_use(const struct draft_regression *regression, struct trial *trial,
                    const struct draft_ridge_setting *setting, struct error *error)
{
    struct fit fit = {.trial = trial};
    int result = draft_use_regression(trial->head, regression->a, regression->moment, setting->seed, error);
    if (result == 0)
        result = fit_create(&fit, setting, error);
    if (result == 0)
        result = calibrate(&fit, setting, error);
    fit_free(&fit);
    return result;
}
