#include "train/regressions.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/base/progress.h"
#include "common/head/ridge.h"
#include "train/feed.h"

struct regression regression_of(const struct head_spec *spec, const struct model_config *model)
{
    return (struct regression){spec->tap, head_spec_goal(spec, model)};
}

bool regression_same(struct regression a, struct regression b)
{
    return tap_compare(a.from, b.from) == 0 && tap_compare(a.to, b.to) == 0;
}

int regressions_list(struct regression *pairs, int count, struct regression pair)
{
    int index = 0;
    while (index < count && !regression_same(pairs[index], pair))
        index++;
    pairs[index] = pair;
    return index == count ? count + 1 : count;
}

struct regressions {
    struct queue *queue;
    int64_t hidden;
    int count;
    struct ridge_sums *sums; /* [count] */
    struct regression *pair; /* [count] */
    struct tap *tap; /* [taps] of all pairs, each once */
    int taps;
};

static int find_tap(const struct regressions *regressions, struct tap tap)
{
    int t = 0;
    while (t < regressions->taps && tap_compare(regressions->tap[t], tap) != 0)
        t++;
    return t;
}

static void add_tap(struct regressions *regressions, struct tap tap)
{
    const int t = find_tap(regressions, tap);
    regressions->tap[t] = tap;
    regressions->taps += t == regressions->taps;
}

/* A sequence's states at one tap, on the device; and those of a tap that maps lead to, with their weights. */
struct fit {
    struct regressions *regressions;
    struct buffer *states;
    struct ridge_rows *rows;
};

/* The maps to one tap. */
static int fit_goal(const struct fit *fit, const struct feed_batch *batch, struct tap goal, struct error *error)
{
    struct regressions *regressions = fit->regressions;
    const struct matrix states = matrix_f32(fit->states, batch->rows, regressions->hidden);
    feed_write(regressions->queue, batch->states[find_tap(regressions, goal)], 1, states);
    if (ridge_rows_set(fit->rows, regressions->queue, states, error) < 0)
        return -1;
    for (int i = 0; i < regressions->count; i++) {
        if (tap_compare(regressions->pair[i].to, goal) != 0)
            continue;
        feed_write(regressions->queue, batch->states[find_tap(regressions, regressions->pair[i].from)], 1,
                   states);
        ridge_sums_add(&regressions->sums[i], regressions->queue, fit->rows, states);
    }
    return 0;
}

static int fit_sequence(const struct fit *fit, const struct feed_batch *batch, struct error *error)
{
    const struct regressions *regressions = fit->regressions;
    for (int i = 0; i < regressions->count; i++) {
        const struct tap goal = regressions->pair[i].to;
        bool before = false;
        for (int j = 0; j < i && !before; j++)
            before = tap_compare(regressions->pair[j].to, goal) == 0;
        if (!before && fit_goal(fit, batch, goal, error) < 0)
            return -1;
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

int regressions_read(const struct stores *stores, struct backend *backend, int threads,
                     const struct regression *pairs, int count, struct regressions **result,
                     struct error *error)
{
    struct feed_plan plan = {.split = SPLIT_TRAIN, .sequences = 1, .end = stores->sequences[SPLIT_TRAIN]};
    struct regressions *made = NULL;
    struct fit fit = {0};
    int outcome = -1;
    *result = NULL;
    if (array_alloc(&made, 1, error) < 0)
        goto done;
    *made = (struct regressions){.hidden = stores->config.hidden, .count = count};
    if (array_alloc(&made->sums, count, error) < 0 || array_alloc(&made->pair, count, error) < 0 ||
        array_alloc(&made->tap, 2 * count, error) < 0 ||
        fit_create(made, backend, stores->rows, &fit, error) < 0)
        goto done;
    memcpy(made->pair, pairs, (size_t)count * sizeof *pairs);
    for (int i = 0; i < count; i++)
        add_tap(made, pairs[i].from);
    for (int i = 0; i < count; i++)
        add_tap(made, pairs[i].to);
    plan.tap = made->tap;
    plan.taps = made->taps;
    outcome = fit_split(&fit, stores, &plan, threads, error);
done:
    ridge_rows_destroy(fit.rows);
    buffer_destroy(fit.states);
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
    free(regressions->pair);
    free(regressions->tap);
    free(regressions);
}

int regressions_solve(const struct regressions *regressions, int pair, float *a, float *b, struct error *error)
{
    double *values;
    if (ridge_sums_read(&regressions->sums[pair], regressions->queue, &values, error) < 0)
        return -1;
    int result = ridge_solve(values, regressions->hidden, regressions->hidden, a, b, error);
    free(values);
    return result;
}

int regressions_lower(const struct regressions *regressions, int pair, const float *a, const float *b, int rank,
                      float *u, float *v, float *c, struct error *error)
{
    double *values;
    if (ridge_sums_read(&regressions->sums[pair], regressions->queue, &values, error) < 0)
        return -1;
    int result = ridge_lower(values, regressions->hidden, a, b, rank, u, v, c, error);
    free(values);
    return result;
}
