/* The batch of a step depends on the step only, however the feed came to it. */
#include "tests/trial_bench.h"

#include "common/base/hash.h"
#include "train/step_feed.h"

enum { STEPS = 12 };

static int hash_of_step(struct step_feed *feed, int64_t step, uint64_t *hash, struct error *error)
{
    const struct feed_batch *next;
    if (step_feed_next(feed, step, TEACH_U, &next, error) < 0)
        return -1;
    if (!next)
        return error_set(error, "there is no batch of step %lld", (long long)step);
    if (next->first != (uint64_t)(step * SEQUENCES))
        return error_set(error, "the batch of step %lld begins at %llu", (long long)step,
                         (unsigned long long)next->first);
    *hash = hash_bytes(next->labels, (size_t)next->rows * sizeof *next->labels, 0);
    return 0;
}

TEST(step_feed_gives_each_step_its_batch)
{
    static const int64_t steps[] = {7, 8, 3, 4, 5, 11, 0};
    struct error error = {0};
    struct bench bench;
    uint64_t expected[STEPS], found;
    double waited = 0;
    REQUIRE_OK(bench_open(&bench, &error));
    struct step_feed feed = {.stores = &bench.stores,
                             .batch = bench.batch,
                             .seed = 6,
                             .sequences = SEQUENCES,
                             .steps = STEPS,
                             .threads = 2};
    step_feed_close(&feed);
    CHECK(step_feed_waited(&feed) == 0);
    for (int64_t step = 0; step < STEPS; step++)
        REQUIRE_OK(hash_of_step(&feed, step, &expected[step], &error));
    CHECK(expected[0] != expected[1]);
    /* Forwards and backwards; the time that closed feeds have waited is not forgotten. */
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        REQUIRE_OK(hash_of_step(&feed, steps[i], &found, &error));
        CHECK(found == expected[steps[i]]);
        CHECK(step_feed_waited(&feed) >= waited);
        waited = step_feed_waited(&feed);
    }
    CHECK(waited > 0);
    step_feed_close(&feed);
    CHECK(step_feed_waited(&feed) == waited);
    bench_close(&bench);
}

/* A feed that is open goes on: it is not opened again for every step. */
TEST(step_feed_reads_ahead)
{
    struct error error = {0};
    struct bench bench;
    uint64_t hash;
    REQUIRE_OK(bench_open(&bench, &error));
    struct step_feed feed = {
        .stores = &bench.stores, .batch = bench.batch, .sequences = SEQUENCES, .steps = STEPS, .threads = 1};
    REQUIRE_OK(hash_of_step(&feed, 2, &hash, &error));
    const struct feed *opened = feed.feed;
    REQUIRE_OK(hash_of_step(&feed, 3, &hash, &error));
    CHECK(feed.feed == opened && feed.waited == 0);
    REQUIRE_OK(hash_of_step(&feed, 5, &hash, &error));
    CHECK(feed.waited > 0);
    step_feed_close(&feed);
    bench_close(&bench);
}

/* The states [SEQUENCES rows, H] of a tap in the first batch. */
static int states_of(struct bench *bench, struct tap tap, float *states, uint64_t *records, struct error *error)
{
    struct step_feed feed = {
        .stores = &bench->stores, .batch = bench->batch, .sequences = SEQUENCES, .steps = 1, .threads = 1};
    const struct feed_batch *next;
    struct feed_plan plan = {0};
    batch_plan(bench->batch, TEACH_U, &plan);
    *records = (uint64_t)plan.taps;
    if (step_feed_next(&feed, 0, TEACH_U, &next, error) < 0 ||
        batch_load(bench->batch, next, TEACH_U, error) < 0)
        return -1;
    op_read(bench->batch->queue, batch_states(bench->batch, tap), states);
    const int result = queue_wait(bench->batch->queue, error);
    step_feed_close(&feed);
    return result;
}

/* A batch that is used for some taps reads these only, and they are the same. */
TEST(step_feed_reads_the_taps_that_are_used)
{
    struct error error = {0};
    struct bench bench;
    const struct tap tap = {2, true};
    static float all[SEQUENCES * 16 * 24], some[SEQUENCES * 16 * 24];
    uint64_t records;
    REQUIRE_OK(bench_open_store(&bench, &small_fixture, TEACH_U, &error));
    batch_use(bench.batch, &tap, 1);
    REQUIRE_OK(states_of(&bench, tap, some, &records, &error));
    CHECK(records == 1 && some[0] != 0);
    batch_use(bench.batch, bench.batch->tap, bench.batch->taps);
    REQUIRE_OK(states_of(&bench, tap, all, &records, &error));
    CHECK(records == (uint64_t)bench.batch->taps && records > 1 && memcmp(all, some, sizeof all) == 0);
    bench_close(&bench);
}

TEST_MAIN
