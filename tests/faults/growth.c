/* A map that is full grows while others read: other threads, and another process whose map is too small by
 * then. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/store/internal.h"
#include "tests/codec_fixture.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

static char path[4200];

enum { STEP = 64 << 10, READERS = 2, COMMITS = 40, SEQUENCES = 5 };

/* From now on the map is full, and grows by little. */
static int make_small(struct store *store, struct error *error)
{
    store->map_growth = STEP;
    return mdb_env_set_mapsize(store->env, 1) == 0 ? 0 : error_set(error, "the map cannot be made small");
}

static int create(struct store **store, struct error *error)
{
    snprintf(path, sizeof path, "%s/store", test_folder());
    json_t *manifest = fixture_manifest(0, 1);
    int result = store_create(path, manifest, store, error);
    json_decref(manifest);
    return result;
}

static size_t map_size(const struct store *store)
{
    MDB_envinfo info;
    mdb_env_info(store->env, &info);
    return info.me_mapsize;
}

struct reading {
    struct store *store;
    atomic_uint_fast64_t committed; /* sequences */
    atomic_bool done;
    atomic_int rounds;
    struct error error[READERS];
    bool failed[READERS];
    atomic_int next;
};

/* Every record once by value, and once as bytes of the map that must stay until the reader is closed. */
static int read_round(struct reading *reading, uint64_t count, struct error *error)
{
    struct reader *reader;
    const void *record[FIXTURE_TAPS] = {0};
    size_t size[FIXTURE_TAPS];
    const struct sequence last = {SPLIT_TRAIN, count - 1};
    if (reader_open(reading->store, &reader, error) < 0)
        return -1;
    int result = 0;
    for (int tap = 0; tap < FIXTURE_TAPS && result == 0; tap++)
        result = reader_record(reader, tap, last, &record[tap], &size[tap], error);
    for (uint64_t i = count > SEQUENCES ? count - SEQUENCES : 0; i < count && result == 0; i++)
        for (int tap = 0; tap < FIXTURE_TAPS && result == 0; tap++)
            result = fixture_check(reader, tap, (struct sequence){SPLIT_TRAIN, i}, error);
    for (int tap = 0; tap < FIXTURE_TAPS && result == 0; tap++)
        result = reader_check(reader, tap, last, record[tap], size[tap], &(struct record_parts){0}, error);
    reader_close(reader);
    return result;
}

static void *read_on(void *context)
{
    struct reading *reading = context;
    const int number = atomic_fetch_add(&reading->next, 1);
    while (!atomic_load(&reading->done) && !reading->failed[number]) {
        const uint64_t count = atomic_load(&reading->committed);
        if (count == 0)
            continue;
        reading->failed[number] = read_round(reading, count, &reading->error[number]) < 0;
        atomic_fetch_add(&reading->rounds, 1);
    }
    return NULL;
}

/* Two threads that always have a reader open, one or the other, and a writer that grows the map again and
 * again. */
TEST(growth_beside_threads_that_read)
{
    struct error error;
    struct reading reading = {.next = 0};
    pthread_t thread[READERS];
    int grown = 0;
    REQUIRE_OK(create(&reading.store, &error));
    REQUIRE_OK(make_small(reading.store, &error));
    for (int i = 0; i < READERS; i++)
        REQUIRE(pthread_create(&thread[i], NULL, read_on, &reading) == 0);
    int result = 0;
    for (int i = 0; i < COMMITS && result == 0; i++) {
        const size_t before = map_size(reading.store);
        result = fixture_fill(reading.store, SPLIT_TRAIN, SEQUENCES, &error);
        grown += map_size(reading.store) > before;
        if (result == 0)
            atomic_store(&reading.committed, (uint64_t)(i + 1) * SEQUENCES);
    }
    atomic_store(&reading.done, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(thread[i], NULL);
        if (reading.failed[i])
            test_fail(__FILE__, __LINE__, "%s", reading.error[i].text);
    }
    REQUIRE_OK(result);
    CHECK(grown > COMMITS / 4 && atomic_load(&reading.rounds) >= READERS);
    REQUIRE_OK(fixture_check_all(reading.store, &error));
    store_close(reading.store);
}

/* ---- threads that would wait for each other ---- */

struct task {
    struct store *store;
    struct error error;
    const struct coder *coder;
    int result;
    atomic_bool done;
};

/* Tokens alone, for which no tap's coder is made, until the map has grown. */
static void *write_tokens(void *context)
{
    struct task *task = context;
    task->result = store_begin(task->store, &task->error);
    for (uint64_t i = 0; i < 4000 && task->result == 0; i++)
        task->result = fixture_put_tokens(
            task->store, (struct sequence){SPLIT_TRAIN, store_sequences(task->store, SPLIT_TRAIN)},
            &task->error);
    if (task->result == 0)
        task->result = store_commit(task->store, &task->error);
    atomic_store(&task->done, true);
    return NULL;
}

static void *make_coder(void *context)
{
    struct task *task = context;
    task->result = store_coder(task->store, 1, &task->coder, &task->error);
    atomic_store(&task->done, true);
    return NULL;
}

/* A store with klt at tap 1, opened again, so that its coder is not made yet. */
static int create_with_parameters(struct store **store, struct error *error)
{
    float states[FIXTURE_ROWS * FIXTURE_HIDDEN];
    struct string parameters = {0};
    json_t *manifest = fixture_manifest(0, 1);
    json_object_set_new(json_array_get(json_object_get(manifest, "taps"), 1), "codec", json_string("klt:4"));
    snprintf(path, sizeof path, "%s/store", test_folder());
    fixture_states(1, (struct sequence){SPLIT_TRAIN, 0}, states);
    int result = store_create(path, manifest, store, error);
    json_decref(manifest);
    if (result == 0)
        result =
            codec_fixture_fit(codec_find_id(5), states, FIXTURE_ROWS, FIXTURE_HIDDEN, 0.1, &parameters, error);
    if (result == 0)
        result = store_begin(*store, error);
    if (result == 0)
        result = store_put_parameters(*store, 1, parameters.data, parameters.length, error);
    if (result == 0)
        result = store_commit(*store, error);
    if (result == 0)
        result = fixture_fill(*store, SPLIT_TRAIN, 2, error);
    string_free(&parameters);
    store_close(*store);
    *store = NULL;
    return result < 0 ? -1 : store_open(path, STORE_WRITE, store, error);
}

/* While the writer waits for this thread's reader, the thread asks for more of the store: another reader, and a
 * coder, which another thread asks for, too. Nobody may wait for ever: the alarm ends the test. */
TEST(growth_waits_for_no_one_who_waits_for_it)
{
    struct error error;
    struct store *store;
    struct reader *reader, *second;
    struct task writer = {.result = -1}, other = {.result = -1};
    pthread_t writing, making;
    float states[FIXTURE_ROWS * FIXTURE_HIDDEN];
    alarm(60);
    REQUIRE_OK(create_with_parameters(&store, &error));
    REQUIRE_OK(make_small(store, &error));
    writer.store = other.store = store;
    REQUIRE_OK(reader_open(store, &reader, &error));
    REQUIRE(pthread_create(&writing, NULL, write_tokens, &writer) == 0);
    usleep(200000);
    CHECK(!atomic_load(&writer.done));
    REQUIRE(pthread_create(&making, NULL, make_coder, &other) == 0);
    usleep(100000);
    CHECK(!atomic_load(&other.done));
    REQUIRE_OK(reader_states(reader, 1, (struct sequence){SPLIT_TRAIN, 1}, states, &error));
    REQUIRE_OK(reader_open(store, &second, &error));
    REQUIRE_OK(reader_states(second, 1, (struct sequence){SPLIT_TRAIN, 0}, states, &error));
    reader_close(reader);
    CHECK(!atomic_load(&writer.done));
    reader_close(second);
    pthread_join(writing, NULL);
    pthread_join(making, NULL);
    alarm(0);
    error = writer.error;
    REQUIRE_OK(writer.result);
    error = other.error;
    REQUIRE_OK(other.result);
    CHECK(store_sequences(store, SPLIT_TRAIN) == 4002 && other.coder);
    store_close(store);
}

/* ---- a map that cannot grow ---- */

/* In a process of its own, whose addresses end: what fails is said, and reading on is an error as well. */
static int fill_without_addresses(void)
{
    struct error error, reading;
    struct store *store;
    struct reader *reader;
    struct rlimit limit;
    long pages = 0;
    if (store_open(path, STORE_WRITE, &store, &error) < 0 || make_small(store, &error) < 0)
        return 1;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld", &pages) != 1 || fclose(file) != 0)
        return 2;
    limit.rlim_cur = limit.rlim_max = (rlim_t)(pages * sysconf(_SC_PAGESIZE)) + (16u << 20);
    store->map_growth = (size_t)1 << 30;
    if (setrlimit(RLIMIT_AS, &limit) < 0 || fixture_fill(store, SPLIT_TRAIN, 50, &error) == 0)
        return 3;
    if (!strstr(error.text, "ulimit -v") || reader_open(store, &reader, &reading) == 0)
        return 4;
    if (!strstr(reading.text, "open the store again"))
        return 5;
    store_close(store);
    return 0;
}

TEST(growth_without_addresses_is_an_error)
{
    struct error error;
    struct store *store;
    int status;
    REQUIRE_OK(create(&store, &error));
    REQUIRE_OK(fixture_fill(store, SPLIT_TRAIN, 3, &error));
    store_close(store);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0)
        _exit(fill_without_addresses());
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    CHECK(store_sequences(store, SPLIT_TRAIN) == 3);
    REQUIRE_OK(fixture_check_all(store, &error));
    store_close(store);
}

/* ---- another process ---- */

static int fill_in_a_process(uint64_t count)
{
    struct error error;
    struct store *store;
    int status;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0)
        _exit(store_open(path, STORE_WRITE, &store, &error) < 0 ||
              fixture_fill(store, SPLIT_TRAIN, count, &error) < 0);
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* The map of one who reads is too small for what another process has written: the next reader makes it
 * larger. */
TEST(growth_by_another_process)
{
    struct error error;
    struct store *store;
    struct reader *reader, *second;
    REQUIRE_OK(create(&store, &error));
    REQUIRE_OK(fixture_fill(store, SPLIT_TRAIN, 2, &error));
    store_close(store);
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    REQUIRE_OK(make_small(store, &error));
    REQUIRE_OK(reader_open(store, &reader, &error));
    REQUIRE(fill_in_a_process(50) == 0);

    /* Not under a reader, whose pages would be gone. */
    CHECK(reader_open(store, &second, &error) < 0);
    CHECK_TEXT(error.text, "has grown since it was opened");
    REQUIRE_OK(fixture_check(reader, 0, (struct sequence){SPLIT_TRAIN, 1}, &error));
    reader_close(reader);
    REQUIRE_OK(reader_open(store, &reader, &error));
    REQUIRE_OK(fixture_check(reader, 0, (struct sequence){SPLIT_TRAIN, 51}, &error));
    reader_close(reader);
    store_close(store);
}

TEST_MAIN
