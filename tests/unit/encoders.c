/* encoders.c: states through encoders and writer: the order in the store, what survives a failure, and
 * whose failure is reported. */
#include <math.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "extract/encoders.h"
#include "extract/order.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

enum { TRAIN = 40, HELD_OUT = 9, ALL = TRAIN + HELD_OUT };

static struct error error;
static const struct plan plan = {.jobs = 7, .encoders = 3};

/* Of a store that holds nothing yet. */
static const struct order whole = {.count = {TRAIN, HELD_OUT}, .shards = 1};

static struct sequence sequence_at(uint64_t index)
{
    return order_at(&whole, index);
}

/* A store with tokens and no states. */
static struct store *make_store(void)
{
    struct store *store = NULL;
    char path[512];
    json_t *manifest = fixture_manifest(0, 1);
    snprintf(path, sizeof path, "%s/store", test_folder());
    if (store_create(path, manifest, &store, &error) < 0 || store_begin(store, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    json_decref(manifest);
    for (uint64_t i = 0; store && i < ALL; i++)
        if (fixture_put_tokens(store, sequence_at(i), &error) < 0)
            test_fail(__FILE__, __LINE__, "%s", error.text);
    if (store && store_commit(store, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    return store;
}

static void submit(struct encoders *encoders, int tap, uint64_t index)
{
    struct job *job = encoders_job(encoders, NULL);
    REQUIRE(job);
    job->tap = tap;
    job->index = index;
    fixture_states(tap, sequence_at(index), job->states);
    fixture_values(sequence_at(index), job->values);
    encoders_submit(encoders, job);
}

static void check_records(struct store *store, int tap, uint64_t count)
{
    struct reader *reader;
    float states[FIXTURE_ROWS * FIXTURE_HIDDEN], expected[FIXTURE_ROWS * FIXTURE_HIDDEN];
    CHECK(store_all_progress(store, tap) == count);
    REQUIRE_OK(reader_open(store, &reader, &error));
    for (uint64_t i = 0; i < count; i++) {
        fixture_states(tap, sequence_at(i), expected);
        REQUIRE_OK(reader_states(reader, tap, sequence_at(i), states, &error));
        CHECK(memcmp(states, expected, sizeof states) == 0);
    }
    reader_close(reader);
}

static int open_encoders(struct store *store, struct encoders **encoders)
{
    const struct order rest = order_of(store);
    return encoders_open(store, &rest, &plan, encoders, &error);
}

TEST(encoders_store_everything)
{
    struct store *store = make_store();
    struct encoders *encoders;
    struct encoders_report report;
    uint64_t bytes[FIXTURE_TAPS];
    REQUIRE(store);
    REQUIRE_OK(open_encoders(store, &encoders));
    for (uint64_t i = 0; i < ALL; i++)
        for (int tap = 0; tap < FIXTURE_TAPS; tap++)
            submit(encoders, tap, i);
    REQUIRE_OK(encoders_close(encoders, &report, &error));
    CHECK(report.records == ALL * FIXTURE_TAPS);
    CHECK(strcmp(report.encode.name, "encode") == 0 && strcmp(report.write.name, "write") == 0);
    REQUIRE_OK(records_bytes(store, bytes, &error));
    for (int tap = 0; tap < FIXTURE_TAPS; tap++) {
        check_records(store, tap, ALL);
        CHECK(store_progress(store, tap, SPLIT_TRAIN) == TRAIN);
        CHECK(bytes[tap] > ALL * sizeof(struct record_header));
    }
    store_close(store);
}

/* Taps far apart in progress, as a super-batch has them, and a second run that goes on. */
TEST(encoders_go_on_where_each_tap_is)
{
    struct store *store = make_store();
    struct encoders *encoders;
    struct encoders_report report;
    uint64_t bytes[FIXTURE_TAPS], more[FIXTURE_TAPS];
    REQUIRE(store);
    REQUIRE_OK(open_encoders(store, &encoders));
    for (uint64_t i = 0; i < TRAIN + 3; i++)
        submit(encoders, 0, i);
    for (uint64_t i = 0; i < 2; i++)
        submit(encoders, 1, i);
    REQUIRE_OK(encoders_close(encoders, &report, &error));
    check_records(store, 0, TRAIN + 3);
    check_records(store, 1, 2);
    check_records(store, 2, 0);
    REQUIRE_OK(records_bytes(store, bytes, &error));
    REQUIRE_OK(open_encoders(store, &encoders));
    for (uint64_t i = 2; i < ALL; i++)
        submit(encoders, 1, i);
    REQUIRE_OK(encoders_close(encoders, &report, &error));
    check_records(store, 1, ALL);
    REQUIRE_OK(records_bytes(store, more, &error));
    CHECK(more[0] == bytes[0] && more[1] > bytes[1]);
    store_close(store);
}

TEST(encoders_refuse_states_that_are_no_numbers)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN, -NAN};
    for (int i = 0; i < 4; i++) {
        struct store *store = make_store();
        struct encoders *encoders;
        struct encoders_report report;
        struct job *job;
        REQUIRE(store);
        REQUIRE_OK(open_encoders(store, &encoders));
        for (uint64_t index = 0; index < ALL && (job = encoders_job(encoders, NULL)); index++) {
            job->tap = 1;
            job->index = index;
            fixture_states(1, sequence_at(index), job->states);
            if (index == TRAIN + 2)
                job->states[FIXTURE_ROWS * FIXTURE_HIDDEN - 1] = bad[i];
            encoders_submit(encoders, job);
        }
        CHECK(encoders_close(encoders, &report, &error) < 0);
        CHECK_TEXT(error.text, "tap 2, held-out sequence 2: a state is not a finite number");
        store_close(store);
    }
}

/* The first reason is kept; who waits for a job is woken. */
TEST(encoders_failure_of_another_stage)
{
    struct store *store = make_store();
    struct encoders *encoders;
    struct encoders_report report;
    struct error reason;
    REQUIRE(store);
    REQUIRE_OK(open_encoders(store, &encoders));
    submit(encoders, 0, 0);
    error_set(&reason, "first reason");
    encoders_fail(encoders, &reason);
    error_set(&reason, "second reason");
    encoders_fail(encoders, &reason);
    CHECK(!encoders_job(encoders, NULL));
    CHECK(encoders_close(encoders, &report, &error) < 0);
    CHECK_TEXT(error.text, "first reason");
    store_close(store);
}

/* Records of a store, as another process finds them. */
static uint64_t count_elsewhere(const struct store *store)
{
    int status = 0;
    fflush(NULL);
    const pid_t process = fork();
    if (process == 0) {
        struct store *seen;
        const bool open = store_open(store_path(store), STORE_READ, &seen, &error) == 0;
        _exit(open ? (int)store_all_progress(seen, 0) : 255);
    }
    return process > 0 && waitpid(process, &status, 0) == process && WIFEXITED(status)
               ? (uint64_t)WEXITSTATUS(status)
               : 0;
}

/* What a kill leaves of a slow run. */
TEST(encoders_commit_though_nothing_more_comes)
{
    struct store *store = make_store();
    struct encoders *encoders;
    struct encoders_report report;
    REQUIRE(store);
    REQUIRE_OK(open_encoders(store, &encoders));
    for (uint64_t i = 0; i < 3; i++) {
        submit(encoders, 0, i);
        for (int tries = 0; tries < 500 && count_elsewhere(store) <= i; tries++)
            usleep(20000);
        CHECK(count_elsewhere(store) == i + 1);
    }
    REQUIRE_OK(encoders_close(encoders, &report, &error));
    check_records(store, 0, 3);
    store_close(store);
}

/* The writer alone: jobs in any order come out in theirs. */
TEST(writer_puts_in_order)
{
    struct store *store = make_store();
    struct writer *writer;
    struct codec_worker *worker;
    static struct job jobs[ALL];
    int given_back = 0;
    REQUIRE(store);
    REQUIRE_OK(codec_worker_create(&worker, &error));
    REQUIRE_OK(writer_create(store, &whole, &writer, &error));
    for (uint64_t k = 0; k < ALL; k++) {
        struct job *job = &jobs[k], *done = NULL;
        const uint64_t index = k ^ 3; /* fours, backwards; the last one alone */
        float states[FIXTURE_ROWS * FIXTURE_HIDDEN];
        job->tap = 2;
        job->index = index < ALL ? index : k;
        fixture_states(2, sequence_at(job->index), states);
        const struct coder *coder;
        REQUIRE_OK(store_coder(store, 2, &coder, &error));
        const struct record_key key = record_key(store_info(store), coder, 2, sequence_at(job->index));
        REQUIRE_OK(
            record_encode(worker, &key, &(struct record_states){.states = states}, &job->record, &error));
        REQUIRE_OK(writer_put(writer, job, &done, &error));
        CHECK((done != NULL) == (k % 4 == 3 || k == ALL - 1));
        for (; done; done = done->next)
            given_back++;
    }
    CHECK(given_back == ALL);
    REQUIRE_OK(writer_finish(writer, &error));
    check_records(store, 2, ALL);
    writer_destroy(writer);
    codec_worker_destroy(worker);
    for (int k = 0; k < ALL; k++)
        free(jobs[k].record.bytes);
    store_close(store);
}

TEST_MAIN
