/* trial_bench.h: trials on a small made store: what tests of training and of evaluation begin with.
 *
 *     struct bench bench;
 *     bench_open(&bench, &error);
 *     bench_load(&bench, &error);                              // the next batch
 *     bench_trial(&bench, &config, INIT_COPY, &trial, &error);
 *     take_step(&bench, trial, steps, &result, &error);
 *     bench_close(&bench);
 */
#ifndef OFFRAMP_TESTS_TRIAL_BENCH_H
#define OFFRAMP_TESTS_TRIAL_BENCH_H

#include "tests/test.h"
#include "tests/train_fixture.h"
#include "train/feed.h"
#include "train/step.h"

static const struct {
    const char *kind;
    struct tap tap;
} kinds[] = {{"norm", {1, false}},
             {"affine", {1, false}},
             {"mlp", {2, true}},
             {"block", {3, false}},
             {"bridge", {1, false}}};

enum { KINDS = sizeof kinds / sizeof kinds[0], SEQUENCES = 4 };

/* Everything a trial needs. */
struct bench {
    const char *folder;
    struct stores stores;
    struct backend *backend;
    struct batch *batch;
    struct workspace *workspace;
    struct feed *feed;
};

enum { TEACH_ALL = TEACH_U | TEACH_OUTCOME | TEACH_STATES | TEACH_STATES_ENTROPY };

static inline int bench_open_on(struct bench *bench, const char *device, enum math math,
                                const struct train_fixture *fixture, unsigned teach, struct error *error)
{
    char path[4096];
    struct tap taps[KINDS];
    *bench = (struct bench){0};
    for (int k = 0; k < KINDS; k++)
        taps[k] = kinds[k].tap;
    bench->folder = test_folder();
    snprintf(path, sizeof path, "%s/store", bench->folder);
    if (train_fixture_create(fixture, path, error) < 0 ||
        stores_open((const char *[]){path}, 1, &bench->stores, error) < 0 ||
        backend_open(device, &(struct backend_options){.threads = 2, .math = math}, &bench->backend, error) < 0)
        return -1;
    const int64_t rows = SEQUENCES * (int64_t)bench->stores.rows;
    if (batch_create(&bench->stores, bench->backend, taps, KINDS, teach, rows, &bench->batch, error) < 0 ||
        workspace_create(bench->backend, SEQUENCES, bench->stores.rows, bench->stores.config.hidden, 16,
                         &bench->workspace, error) < 0)
        return -1;
    struct feed_plan plan = {.split = SPLIT_TRAIN, .shuffled = true, .sequences = SEQUENCES, .end = UINT64_MAX};
    batch_plan(bench->batch, teach, &plan);
    return feed_open(&bench->stores, &plan, 1, &bench->feed, error);
}

static inline int bench_open_store(struct bench *bench, const struct train_fixture *fixture, unsigned teach,
                                   struct error *error)
{
    return bench_open_on(bench, "ref", MATH_F32, fixture, teach, error);
}

static inline int bench_open(struct bench *bench, struct error *error)
{
    return bench_open_store(bench, &small_fixture, TEACH_ALL, error);
}

static inline void bench_close(struct bench *bench)
{
    feed_close(bench->feed);
    workspace_destroy(bench->workspace);
    batch_destroy(bench->batch);
    backend_close(bench->backend);
    stores_close(&bench->stores);
}

static inline int bench_load(struct bench *bench, struct error *error)
{
    const struct feed_batch *next;
    if (feed_next(bench->feed, &next, error) < 0)
        return -1;
    return batch_load(bench->batch, next, TEACH_U | TEACH_STATES, error);
}

static inline struct trial_config make_config(int kind, enum head_output output, enum trial_loss loss)
{
    struct error error;
    struct trial_config config = {
        .spec = {.kind = head_kind_find(kinds[kind].kind, &error),
                 .output = output,
                 .tap = kinds[kind].tap,
                 .to = strcmp(kinds[kind].kind, "bridge") ? 0 : 2},
        .loss = loss,
        .share = 0.5,
        .temperature = 1,
        .rate = 3e-3,
        .warmup = 2,
        .clip = 1,
        .beta1 = 0.9,
        .beta2 = 0.95,
        .epsilon = 1e-5,
    };
    snprintf(config.id, sizeof config.id, "%s-%s-%s", kinds[kind].kind, head_output_name(output),
             trial_loss_name(loss));
    return config;
}

static inline int bench_trial(struct bench *bench, const struct trial_config *config, enum head_init init,
                              struct trial **trial, struct error *error)
{
    const struct head_source source = stores_head_source(&bench->stores);
    if (trial_create(config, &bench->stores.config, bench->backend, trial, error) < 0)
        return -1;
    return head_initialise((*trial)->head, init, 5, &source, error);
}

/* A step of a trial alone. */
static inline int take_step(struct bench *bench, struct trial *trial, int64_t steps,
                            struct trial_result *result, struct error *error)
{
    if (trials_step(&trial, 1, bench->workspace, bench->batch, steps, result, error) < 0)
        return -1;
    *error = trial->reason;
    return trial->failed ? -1 : 0;
}

#endif
