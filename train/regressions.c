#include "train/regressions.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/base/progress.h"
#include "common/head/ridge.h"
#include "train/feed.h"

struct regressions {
    struct queue *queue;
    int64_t hidden;
    int count;
    struct ridge_sums *sums; /* [count] */
};

/* A sequence's states at one tap, on the device; and its final states with their weights. */
struct fit {
    struct regressions *regressions;
    struct buffer *states;
    struct ridge_rows *rows;
};

static int fit_sequence(const struct fit *fit, const struct feed_batch *batch, struct error *error)
{
    struct regressions *regressions = fit->regressions;
    const int count = regressions->count;
    const struct matrix states = matrix_f32(fit->states, batch->rows, regressions->hidden);
    feed_write(regressions->queue, batch->states[count], 1, states);
    if (ridge_rows_set(fit->rows, regressions->queue, states, error) < 0)
        return -1;
    for (int t = 0; t < count; t++) {
        feed_write(regressions->queue, batch->states[t], 1, states);
        ridge_sums_add(&regressions->sums[t], regressions->queue, fit->rows, states);
    }
    return queue_wait(regressions->queue, error);
}

static int fit_split(const struct fit *fit, const struct stores *stores, const struct feed_plan *plan,
                     int threads, struct error *error)
{
    const struct feed_batch *batch;
    struct progress progress;
    struct feed *feed;
    int result;
    if (feed_open(stores, plan, threads, &feed, error) < 0)
        return -1;
    progress_start(&progress, "ridge", "sequences", plan->end);
    while ((result = feed_next(feed, &batch, error)) == 0 && batch) {
        if ((result = fit_sequence(fit, batch, error)) < 0)
            break;
        progress_update(&progress, batch->first + 1);
    }
    progress_finish(&progress);
    feed_close(feed);
    return result;
}

static int fit_create(struct regressions *regressions, struct backend *backend, int64_t rows, struct fit *fit,
                      struct error *error)
{
    const int64_t hidden = regressions->hidden;
    *fit = (struct fit){.regressions = regressions};
    if (queue_create(backend, &regressions->queue, error) < 0 ||
        buffer_create(backend, (size_t)(rows * hidden) * sizeof(float), &fit->states, error) < 0 ||
        ridge_rows_create(backend, hidden, hidden, rows, &fit->rows, error) < 0)
        return -1;
    for (int t = 0; t < regressions->count; t++) {
        if (ridge_sums_create(backend, hidden, hidden, &regressions->sums[t], error) < 0)
            return -1;
    }
    return 0;
}

int regressions_read(const struct stores *stores, struct backend *backend, int threads, const struct tap *taps,
                     int count, struct regressions **result, struct error *error)
{
    struct feed_plan plan = {
        .split = SPLIT_TRAIN, .taps = count + 1, .sequences = 1, .end = stores->sequences[SPLIT_TRAIN]};
    struct regressions *made = NULL;
    struct tap *all = NULL;
    struct fit fit = {0};
    int outcome = -1;
    *result = NULL;
    if (array_alloc(&made, 1, error) < 0)
        goto done;
    *made = (struct regressions){.hidden = stores->config.hidden, .count = count};
    if (array_alloc(&made->sums, count, error) < 0 || array_alloc(&all, count + 1, error) < 0 ||
        fit_create(made, backend, stores->rows, &fit, error) < 0)
        goto done;
    memcpy(all, taps, (size_t)count * sizeof *all);
    all[count] = (struct tap){.layer = stores->config.layers};
    plan.tap = all;
    outcome = fit_split(&fit, stores, &plan, threads, error);
done:
    ridge_rows_destroy(fit.rows);
    buffer_destroy(fit.states);
    free(all);
    if (outcome == 0)
        *result = made;
    else
        regressions_free(made);
    return outcome;
}

void regressions_free(struct regressions *regressions)
{
    if (!regressions)
        return;
    for (int t = 0; regressions->sums && t < regressions->count; t++)
        ridge_sums_free(&regressions->sums[t]);
    queue_destroy(regressions->queue);
    free(regressions->sums);
    free(regressions);
}

int regressions_solve(const struct regressions *regressions, int tap, float *a, float *b, struct error *error)
{
    double *values;
    if (ridge_sums_read(&regressions->sums[tap], regressions->queue, &values, error) < 0)
        return -1;
    int result = ridge_solve(values, regressions->hidden, regressions->hidden, a, b, error);
    free(values);
    return result;
}
