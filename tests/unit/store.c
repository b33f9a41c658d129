/* Stores: what is put comes back, in this process and the next; what must be refused is. */
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/repair/repair.h"
#include "common/repair/salvage.h"
#include "common/repair/verify.h"
#include "common/store/extend.h"
#include "common/store/format.h"
#include "common/store/internal.h"
#include "common/store/manifest.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

static char path[4096 + 16];

static const char *new_path(void)
{
    snprintf(path, sizeof path, "%s/store", test_folder());
    return path;
}

/* A new store at new_path(). */
static int create(int shard, int shards, struct store **store, struct error *error)
{
    json_t *manifest = fixture_manifest(shard, shards);
    int result = store_create(new_path(), manifest, store, error);
    json_decref(manifest);
    return result;
}

static int create_filled(uint64_t train, uint64_t held_out, struct store **store, struct error *error)
{
    return create(0, 1, store, error) < 0 || fixture_fill(*store, SPLIT_TRAIN, train, error) < 0 ||
                   fixture_fill(*store, SPLIT_HELD_OUT, held_out, error) < 0
               ? -1
               : 0;
}

TEST(store_create_and_open)
{
    struct error error;
    struct store *store;
    REQUIRE_OK(create(0, 1, &store, &error));
    CHECK(store_exists(path));
    store_close(store);

    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    const struct store_info *info = store_info(store);
    CHECK(info->layers == 4 && info->hidden == FIXTURE_HIDDEN && info->vocab == 1000);
    CHECK(info->rows == FIXTURE_ROWS && info->taps == FIXTURE_TAPS && info->shard == 0 && info->shards == 1);
    CHECK(info->tap[0].mid && info->tap[1].layer == 2 && info->tap[2].layer == 4); /* sorted */
    CHECK(strcmp(info->codec[0].name, "raw") == 0 && strcmp(info->codec[1].name, "lossless") == 0);
    CHECK(store_find_tap(store, (struct tap){4, false}, &error) == 2);
    CHECK(store_find_tap(store, (struct tap){3, false}, &error) == -1);
    CHECK_TEXT(error.text, "no tap 3; the store has 2.mid, 2, final");
    CHECK(strcmp(json_string_value(json_object_get(store_manifest(store), "command")),
                 "extract --taps 2,2.mid,final") == 0);
    CHECK(store_sequences(store, SPLIT_TRAIN) == 0 && !store_is_sealed(store));
    CHECK(store_begin(store, &error) < 0);
    CHECK_TEXT(error.text, "reading only");
    store_close(store);

    json_t *manifest = fixture_manifest(0, 1);
    CHECK(store_create(path, manifest, &store, &error) < 0);
    CHECK_TEXT(error.text, "a store already");
    json_decref(manifest);
    CHECK(store_open("/nonexistent/store", STORE_READ, &store, &error) < 0);
    CHECK_TEXT(error.text, "no store here");
}

TEST(store_round_trip)
{
    struct error error;
    struct store *store;
    REQUIRE_OK(create_filled(20, 5, &store, &error));
    REQUIRE_OK(fixture_check_all(store, &error));
    REQUIRE_OK(fixture_fill(store, SPLIT_TRAIN, 7, &error)); /* behind the held-out keys */
    store_close(store);
    for (enum store_mode mode = STORE_READ; mode <= STORE_WRITE; mode++) {
        REQUIRE_OK(store_open(path, mode, &store, &error));
        CHECK(store_sequences(store, SPLIT_TRAIN) == 27 && store_sequences(store, SPLIT_HELD_OUT) == 5);
        for (int tap = 0; tap < FIXTURE_TAPS; tap++)
            CHECK(store_progress(store, tap, SPLIT_TRAIN) == 27 &&
                  store_progress(store, tap, SPLIT_HELD_OUT) == 5);
        REQUIRE_OK(fixture_check_all(store, &error));
        store_close(store);
    }
}

TEST(store_missing_sequences_are_errors)
{
    struct error error;
    struct store *store;
    struct reader *reader;
    int32_t ids[FIXTURE_ROWS + 1];
    float states[FIXTURE_ROWS * FIXTURE_HIDDEN];
    REQUIRE_OK(create_filled(3, 1, &store, &error));
    REQUIRE_OK(reader_open(store, &reader, &error));
    CHECK(reader_tokens(reader, (struct sequence){SPLIT_TRAIN, 3}, ids, &error) < 0);
    CHECK_TEXT(error.text, "no train sequence 3 (tokens)");
    CHECK(reader_states(reader, 2, (struct sequence){SPLIT_HELD_OUT, 1}, states, &error) < 0);
    CHECK_TEXT(error.text, "no held-out sequence 1 (final)");
    CHECK(reader_tokens(reader, (struct sequence){7, 0}, ids, &error) < 0);
    reader_close(reader);
    store_close(store);
}

TEST(store_transactions)
{
    struct error error;
    struct store *store;
    struct reader *before, *after;
    struct codec_worker *worker;
    const struct sequence first = {SPLIT_TRAIN, 0};
    REQUIRE_OK(codec_worker_create(&worker, &error));
    REQUIRE_OK(create(0, 1, &store, &error));
    CHECK(fixture_put_tokens(store, first, &error) < 0);
    CHECK_TEXT(error.text, "outside a transaction");
    CHECK(store_commit(store, &error) < 0);
    REQUIRE_OK(reader_open(store, &before, &error));
    REQUIRE_OK(store_begin(store, &error));
    CHECK(store_begin(store, &error) < 0);
    CHECK(fixture_put_record(store, worker, 0, first, &error) < 0);
    CHECK_TEXT(error.text, "has no tokens yet");
    CHECK(store_set_progress(store, 0, SPLIT_TRAIN, 1, &error) < 0);
    REQUIRE_OK(fixture_put_tokens(store, first, &error));
    CHECK(store_sequences(store, SPLIT_TRAIN) == 1 && store->pending > 0);
    REQUIRE_OK(fixture_put_record(store, worker, 1, first, &error));
    REQUIRE_OK(store_commit(store, &error));
    CHECK(store->pending == 0);

    /* A reader sees what was committed when it was opened. */
    REQUIRE_OK(reader_open(store, &after, &error));
    CHECK(fixture_check(after, 1, first, &error) == 0);
    CHECK(fixture_check(before, 1, first, &error) < 0);
    reader_close(before);
    reader_close(after);

    /* What was not committed is gone. */
    REQUIRE_OK(store_begin(store, &error));
    REQUIRE_OK(fixture_put_tokens(store, (struct sequence){SPLIT_TRAIN, 1}, &error));
    store_close(store);
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    CHECK(store_sequences(store, SPLIT_TRAIN) == 1);

    /* It is time to commit when much waits. */
    REQUIRE_OK(store_begin(store, &error));
    for (int i = 0; i < 7000 && !store_commit_due(store); i++)
        REQUIRE_OK(fixture_put_record(store, worker, 0, first, &error));
    CHECK(store_commit_due(store) && store->pending >= 64 << 20 && store->pending < 65 << 20);
    REQUIRE_OK(store_commit(store, &error));
    CHECK(!store_commit_due(store));
    store_close(store);
    codec_worker_destroy(worker);
}

TEST(store_refuses_bad_values)
{
    struct error error;
    struct store *store;
    int32_t ids[FIXTURE_ROWS + 1] = {0};
    const int32_t late[] = {0, 9}, twice[] = {3, 3};
    struct codec_worker *worker;
    const struct coder *coder;
    struct record record = {0};
    float states[FIXTURE_ROWS * FIXTURE_HIDDEN] = {0};
    const struct sequence first = {SPLIT_TRAIN, 0};
    REQUIRE_OK(codec_worker_create(&worker, &error));
    REQUIRE_OK(create_filled(1, 0, &store, &error));
    REQUIRE_OK(store_begin(store, &error));
    ids[4] = 1000;
    CHECK(store_put_tokens(store, SPLIT_TRAIN, ids, NULL, 0, &error) < 0);
    CHECK_TEXT(error.text, "train sequence 1: token 4 is 1000, outside the vocabulary of 1000");
    ids[4] = -1;
    CHECK(store_put_tokens(store, SPLIT_TRAIN, ids, NULL, 0, &error) < 0);
    ids[4] = 0;
    CHECK(store_put_tokens(store, SPLIT_TRAIN, ids, late, 2, &error) < 0);
    CHECK(store_put_tokens(store, SPLIT_TRAIN, ids, twice, 2, &error) < 0);
    CHECK(store_sequences(store, SPLIT_TRAIN) == 1);
    REQUIRE_OK(store_coder(store, 1, &coder, &error));
    const struct record_key key = record_key(store_info(store), coder, 1, first);
    REQUIRE_OK(record_encode(worker, &key, &(struct record_states){.states = states}, &record, &error));
    CHECK(store_put_record(store, 0, first, record.bytes, record.size, &error) < 0);
    CHECK_TEXT(error.text, "tap 2.mid, train sequence 0: the record is another one: tap 2, train sequence 0");
    CHECK(store_put_record(store, 1, first, record.bytes, 10, &error) < 0);
    REQUIRE_OK(store_put_record(store, 1, first, record.bytes, record.size, &error)); /* replaces */
    REQUIRE_OK(store_commit(store, &error));
    struct reader *reader;
    REQUIRE_OK(reader_open(store, &reader, &error));
    states[0] = 1;
    REQUIRE_OK(reader_states(reader, 1, first, states, &error));
    CHECK(states[0] == 0);
    reader_close(reader);
    store_close(store);
    free(record.bytes);
    codec_worker_destroy(worker);
}

TEST(store_notes)
{
    struct error error;
    struct store *store;
    void *value;
    size_t size;
    REQUIRE_OK(create(0, 1, &store, &error));
    REQUIRE_OK(store_get_note(store, "corpus", &value, &size, &error));
    CHECK(value == NULL);
    for (int i = 0; i < 2; i++) {
        REQUIRE_OK(store_begin(store, &error));
        REQUIRE_OK(store_put_note(store, "corpus", i ? "page 70\0x" : "page 7", i ? 9 : 6, &error));
        REQUIRE_OK(store_put_note(store, "empty", "", 0, &error));
        REQUIRE_OK(store_commit(store, &error));
    }
    store_close(store);
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    REQUIRE_OK(store_get_note(store, "corpus", &value, &size, &error));
    CHECK(value && size == 9 && memcmp(value, "page 70\0x", 9) == 0);
    free(value);
    REQUIRE_OK(store_get_note(store, "empty", &value, &size, &error));
    CHECK(value && size == 0);
    free(value);
    store_close(store);
}

TEST(store_sources)
{
    struct error error;
    struct store *store;
    struct source_shape shape;
    void *data;
    const int64_t large = (40 << 20) / 4 / 256; /* three parts */
    float *values = malloc((size_t)large * 256 * sizeof *values);
    for (int64_t i = 0; i < large * 256; i++)
        values[i] = (float)i;
    REQUIRE_OK(create(0, 1, &store, &error));
    REQUIRE_OK(store_begin(store, &error));
    REQUIRE_OK(store_put_source(store, "output", (struct source_shape){DTYPE_F32, large, 256}, values, &error));
    REQUIRE_OK(
        store_put_source(store, "12/mlp_gate", (struct source_shape){DTYPE_Q8_0, 2, 64}, values, &error));
    CHECK(store_put_source(store, "a#b", (struct source_shape){DTYPE_F32, 1, 1}, values, &error) < 0);
    CHECK(store_put_source(store, "none", (struct source_shape){DTYPE_F32, 0, 1}, values, &error) < 0);
    REQUIRE_OK(store_commit(store, &error));
    store_close(store);

    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    REQUIRE_OK(store_get_source(store, "output", &shape, &data, &error));
    CHECK(shape.type == DTYPE_F32 && shape.rows == large && shape.cols == 256);
    CHECK(memcmp(data, values, (size_t)large * 256 * sizeof *values) == 0);
    free(data);
    REQUIRE_OK(store_get_source(store, "12/mlp_gate", &shape, &data, &error));
    CHECK(shape.type == DTYPE_Q8_0 && shape.rows == 2 && shape.cols == 64 && memcmp(data, values, 136) == 0);
    free(data);
    CHECK(store_get_source(store, "embedding", &shape, &data, &error) < 0);
    CHECK_TEXT(error.text, "has no embedding");
    struct store_usage usage;
    REQUIRE_OK(store_measure(store, STORE_SOURCE, &usage, &error));
    CHECK(usage.values == 4 && usage.bytes > 40 << 20 && usage.bytes < (40 << 20) + 65536);
    store_close(store);
    free(values);
}

/* A map that is full is grown, and the transaction done again. */
TEST(store_map_grows)
{
    struct error error;
    struct store *store;
    struct reader *reader;
    MDB_envinfo before, after;
    REQUIRE_OK(create(0, 1, &store, &error));
    CHECK(mdb_env_set_mapsize(store->env, 1) == 0); /* as much as is used */
    mdb_env_info(store->env, &before);
    REQUIRE_OK(fixture_fill(store, SPLIT_TRAIN, 100, &error));
    mdb_env_info(store->env, &after);
    CHECK(before.me_mapsize < 1 << 20 && after.me_mapsize > before.me_mapsize);
    REQUIRE_OK(fixture_check_all(store, &error));

    /* Not under a reader, whose pages would be gone. The store then wants to be opened again. */
    CHECK(mdb_env_set_mapsize(store->env, 1) == 0);
    REQUIRE_OK(reader_open(store, &reader, &error));
    CHECK(fixture_fill(store, SPLIT_TRAIN, 100, &error) < 0);
    CHECK_TEXT(error.text, "open readers");
    CHECK(fixture_check(reader, 0, (struct sequence){SPLIT_TRAIN, 99}, &error) == 0);
    reader_close(reader);
    CHECK(store_begin(store, &error) < 0);
    CHECK_TEXT(error.text, "open the store again");
    store_close(store);
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    CHECK(store_sequences(store, SPLIT_TRAIN) == 100);
    REQUIRE_OK(fixture_fill(store, SPLIT_TRAIN, 100, &error));
    store_close(store);
}

/* Runs `function` in a child process; true when it returned true. */
static bool in_child(bool (*function)(void))
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(function() ? 0 : 1);
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool second_writer_is_refused(void)
{
    struct error error = {0};
    struct store *store;
    bool refused =
        store_open(path, STORE_WRITE, &store, &error) < 0 && strstr(error.text, "is writing to this store");
    char process[32];
    snprintf(process, sizeof process, "process %d", (int)getppid());
    return refused && strstr(error.text, process);
}

static bool reader_beside_writer_works(void)
{
    struct error error;
    struct store *store;
    bool works = store_open(path, STORE_READ, &store, &error) == 0 &&
                 store_sequences(store, SPLIT_TRAIN) == 4 && fixture_check_all(store, &error) == 0;
    store_close(store);
    return works;
}

TEST(store_second_writer)
{
    struct error error;
    struct store *store;
    REQUIRE_OK(create_filled(4, 2, &store, &error));
    CHECK(in_child(second_writer_is_refused));
    CHECK(in_child(reader_beside_writer_works));
    store_close(store);
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    store_close(store);
}

/* Whoever may remove a store asks this, also of one that is damaged. */
TEST(store_was_finished_or_not)
{
    char data[4200];
    struct error error;
    struct store *store;
    REQUIRE_OK(create_filled(4, 2, &store, &error));
    CHECK(store_was_finished(path, &error) == -1);
    CHECK_TEXT(error.text, "is writing to this store");
    store_close(store);
    CHECK(store_was_finished(path, &error) == 0);
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    REQUIRE_OK(store_seal(store, &error));
    store_close(store);
    CHECK(store_was_finished(path, &error) == 1);
    snprintf(data, sizeof data, "%s/data.mdb", path);
    REQUIRE(truncate(data, 100) == 0);
    CHECK(store_was_finished(path, &error) == 1);
}

/* LMDB would take the first one's locks along when the second is closed. */
TEST(store_opened_twice)
{
    struct store *store, *again;
    struct error error;
    int status;
    REQUIRE_OK(create_filled(4, 2, &store, &error));
    CHECK(store_open(store_path(store), STORE_READ, &again, &error) < 0);
    CHECK_TEXT(error.text, "this process has the store open already");
    store_close(store);
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    CHECK(store_open(path, STORE_READ, &again, &error) < 0);
    CHECK_TEXT(error.text, "this process has the store open already");
    fflush(stdout);
    pid_t child = fork(); /* another process may */
    if (child == 0) {
        const bool opened = store_open(path, STORE_READ, &again, &error) == 0;
        if (opened)
            store_close(again);
        _exit(opened ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    store_close(store);
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    store_close(store);
}

/* The sequences of all shards are those of the split, each once. */
TEST(store_shares_of_sequences)
{
    for (int shards = 1; shards <= 4; shards++)
        for (uint64_t count = 0; count < 12; count++) {
            bool seen[12] = {false};
            uint64_t all = 0;
            for (int shard = 0; shard < shards; shard++) {
                const struct store_info info = {.shard = shard, .shards = shards};
                const uint64_t own = store_share(&info, count);
                for (uint64_t i = 0; i < own; i++) {
                    const struct sequence sequence = store_sequence(&info, SPLIT_HELD_OUT, i);
                    REQUIRE(sequence.split == SPLIT_HELD_OUT && sequence.index < count &&
                            !seen[sequence.index]);
                    seen[sequence.index] = true;
                }
                all += own;
            }
            CHECK(all == count);
        }
}

TEST(store_seal)
{
    struct error error;
    struct store *store;
    struct codec_worker *worker;
    char lock[4200];
    REQUIRE_OK(codec_worker_create(&worker, &error));
    REQUIRE_OK(create_filled(4, 2, &store, &error));
    REQUIRE_OK(store_begin(store, &error));
    REQUIRE_OK(fixture_put_tokens(store, (struct sequence){SPLIT_HELD_OUT, 2}, &error));
    REQUIRE_OK(store_commit(store, &error));
    CHECK(store_seal(store, &error) < 0);
    CHECK_TEXT(error.text, "tap 2.mid has 2 of 3 held-out sequences");
    REQUIRE_OK(store_begin(store, &error));
    for (int tap = 0; tap < FIXTURE_TAPS; tap++) {
        REQUIRE_OK(fixture_put_record(store, worker, tap, (struct sequence){SPLIT_HELD_OUT, 2}, &error));
        REQUIRE_OK(store_set_progress(store, tap, SPLIT_HELD_OUT, 3, &error));
    }
    REQUIRE_OK(store_commit(store, &error));
    REQUIRE_OK(store_seal(store, &error));
    CHECK(store_is_sealed(store));
    CHECK(store_begin(store, &error) < 0);
    CHECK_TEXT(error.text, "sealed");
    store_close(store);

    /* Read without locks: a lock file that was taken away is not made again. */
    snprintf(lock, sizeof lock, "%s/lock.mdb", path);
    CHECK(unlink(lock) == 0);
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    CHECK(store_is_sealed(store));
    REQUIRE_OK(fixture_check_all(store, &error));
    CHECK(!file_exists(lock));
    store_close(store);
    codec_worker_destroy(worker);
}

/* This user may write anywhere when it is root: then as another. */
static bool drop_rights(void)
{
    return getuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0);
}

static bool reading_without_write_permission_works(void)
{
    struct error error;
    struct store *store = NULL;
    bool works = drop_rights() && store_open(path, STORE_WRITE, &store, &error) < 0 &&
                 store_open(path, STORE_READ, &store, &error) == 0 && fixture_check_all(store, &error) == 0;
    store_close(store);
    return works;
}

static bool reading_without_locks_is_refused(void)
{
    struct error error;
    struct store *store;
    return drop_rights() && store_open(path, STORE_READ, &store, &error) < 0 &&
           strstr(error.text, "is being written");
}

/* The folder, its lock file and those above it, as somebody who may only read finds them. */
static void protect_folder(bool protected)
{
    char file[4200];
    snprintf(file, sizeof file, "%s/..", path);
    CHECK(chmod(file, 0755) == 0);
    CHECK(chmod(path, protected ? 0555 : 0755) == 0);
    snprintf(file, sizeof file, "%s/lock.mdb", path);
    CHECK(chmod(file, protected ? 0444 : 0644) == 0);
}

TEST(store_read_only_folder)
{
    struct error error;
    struct store *store;
    REQUIRE_OK(create_filled(4, 2, &store, &error));
    protect_folder(true);
    CHECK(in_child(reading_without_locks_is_refused));
    for (int sealed = 0; sealed < 2; sealed++) {
        store_close(store);
        protect_folder(true);
        CHECK(in_child(reading_without_write_permission_works));
        protect_folder(false);
        REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
        REQUIRE_OK(store_seal(store, &error));
    }
    store_close(store);
}

/* The last commit of a sealed store is the seal: a file without it lies about what it is. */
TEST(store_that_lost_its_seal)
{
    struct error error;
    struct store *store;
    char marker[4200];
    REQUIRE_OK(create_filled(4, 2, &store, &error));
    store_close(store);
    snprintf(marker, sizeof marker, "%s/sealed", path);
    REQUIRE_OK(file_write(marker, "", 0, &error));
    for (enum store_mode mode = STORE_READ; mode <= STORE_WRITE; mode++) {
        CHECK(store_open(path, mode, &store, &error) < 0);
        CHECK_TEXT(error.text, "lost its last commit");
    }

    /* Killed between the seal and its file: the next writer makes up for it. */
    CHECK(unlink(marker) == 0);
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    REQUIRE_OK(store_seal(store, &error));
    store_close(store);
    CHECK(unlink(marker) == 0);
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    CHECK(store_is_sealed(store));
    store_close(store);
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    CHECK(file_exists(marker));
    store_close(store);
}

/* Changes the value of a key in meta behind the store's back. */
static void change_meta(const char *key, const void *data, size_t size)
{
    MDB_env *env;
    MDB_txn *transaction;
    MDB_dbi meta;
    MDB_val name = {strlen(key), (void *)(uintptr_t)key}, value = {size, (void *)(uintptr_t)data};
    CHECK(mdb_env_create(&env) == 0 && mdb_env_set_maxdbs(env, 4) == 0 &&
          mdb_env_open(env, path, 0, 0644) == 0);
    CHECK(mdb_txn_begin(env, NULL, 0, &transaction) == 0 && mdb_dbi_open(transaction, "meta", 0, &meta) == 0);
    CHECK((data ? mdb_put(transaction, meta, &name, &value, 0) : mdb_del(transaction, meta, &name, NULL)) == 0);
    CHECK(mdb_txn_commit(transaction) == 0);
    mdb_env_close(env);
}

/* Whatever is asked of the store, the answer is this. */
static void check_refused(const char *part)
{
    const struct verify_options options = {.processes = 1};
    struct verify_result result;
    struct salvage_report report;
    struct store *store;
    struct error error;
    CHECK(store_open(path, STORE_READ, &store, &error) < 0);
    CHECK_TEXT(error.text, part);
    CHECK(store_open(path, STORE_WRITE, &store, &error) < 0);
    CHECK_TEXT(error.text, part);
    CHECK(store_verify(path, &options, &result, &error) < 0);
    CHECK_TEXT(error.text, part);
    CHECK(store_salvage(path, &report, &error) < 0);
    CHECK_TEXT(error.text, part);
}

TEST(store_of_another_version)
{
    struct error error;
    struct store *store;
    struct string framed = {0};
    const uint32_t first = 1, newer = STORE_VERSION + 1;
    REQUIRE_OK(create_filled(4, 2, &store, &error));
    store_close(store);
    change_meta("version", &first, sizeof first); /* as format 1 had it */
    check_refused(
        "was made by an older offramp (format 1, this program reads 2): extract it again: name another folder, "
        "or remove this one");
    meta_frame("version", &newer, sizeof newer, &framed);
    change_meta("version", framed.data, framed.length);
    check_refused("was made by a newer offramp (format 3, this program reads 2): use a newer program");
    string_free(&framed);
}

/* A flipped bit is damage, whatever number it makes; building the store anew mends it. */
TEST(store_version_every_bit_counts)
{
    struct error error;
    struct store *store;
    struct string framed = {0};
    struct salvage_report report;
    const uint32_t version = STORE_VERSION;
    REQUIRE_OK(create_filled(4, 2, &store, &error));
    store_close(store);
    meta_frame("version", &version, sizeof version, &framed);
    for (size_t bit = 0; bit < framed.length * 8; bit++) {
        framed.data[bit / 8] ^= (char)(1 << bit % 8);
        change_meta("version", framed.data, framed.length);
        framed.data[bit / 8] ^= (char)(1 << bit % 8);
        CHECK(store_open(path, STORE_READ, &store, &error) < 0);
        CHECK_TEXT(error.text, "\"version\" is damaged");
        REQUIRE_OK(store_salvage(path, &report, &error));
        REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
        CHECK(store_sequences(store, SPLIT_TRAIN) == 4 && store_sequences(store, SPLIT_HELD_OUT) == 2);
        store_close(store);
    }
    string_free(&framed);
}

/* Keys and headers hold these numbers. */
TEST(store_split_numbers_are_pinned)
{
    CHECK(SPLIT_TRAIN == 0 && SPLIT_HELD_OUT == 1 && SPLIT_COUNT == 2);
}

TEST(store_damaged_meta)
{
    static const char *const keys[] = {"version", "manifest", "state"};
    struct error error;
    struct store *store;
    for (int i = 0; i < 3; i++)
        for (int missing = 0; missing < 2; missing++) {
            REQUIRE_OK(create_filled(1, 1, &store, &error));
            store_close(store);
            change_meta(keys[i], missing ? NULL : "{\"damaged\": true}", missing ? 0 : 17);
            CHECK(store_open(path, STORE_READ, &store, &error) < 0);
            CHECK_TEXT(error.text, keys[i]);
        }
}

TEST(store_cut_short)
{
    struct error error;
    struct store *store;
    struct stat status;
    char data[4200];
    REQUIRE_OK(create_filled(10, 1, &store, &error));
    store_close(store);
    snprintf(data, sizeof data, "%s/data.mdb", path);
    REQUIRE_OK(stat(data, &status));
    for (off_t size = status.st_size - 1; size >= 0; size = size > 5000 ? size / 2 : size - 500) {
        CHECK(truncate(data, size) == 0);
        CHECK(store_open(path, STORE_READ, &store, &error) < 0);
        CHECK_TEXT(error.text, "cut short");
    }
}

/* A creation that was killed leaves no store, and the next one none of its remains. */
TEST(store_creation_is_whole)
{
    struct error error;
    struct store *store;
    char fresh[4200];
    snprintf(fresh, sizeof fresh, "%s/data.mdb.new", new_path());
    REQUIRE_OK(directory_create(path, &error));
    REQUIRE_OK(file_write(fresh, "half", 4, &error));
    CHECK(!store_exists(path));
    CHECK(store_open(path, STORE_WRITE, &store, &error) < 0);
    json_t *manifest = fixture_manifest(0, 1);
    REQUIRE_OK(store_create(path, manifest, &store, &error));
    CHECK(!file_exists(fresh));
    json_decref(manifest);
    store_close(store);
}

TEST(store_wrong_manifests)
{
    static const struct {
        const char *key, *json, *part;
    } bad[] = {
        {"model", "{}", "layers"},
        {"model", "[]", "model"},
        {"model", "{\"layers\": 0, \"hidden\": 1, \"vocab\": 1}", "layers"},
        {"model", "{\"layers\": 4, \"hidden\": 1e3, \"vocab\": 1}", "hidden"},
        {"rows", "0", "rows"},
        {"taps", "[]", "taps"},
        {"taps", "{}", "taps"},
        {"taps", "[{\"name\": \"9\", \"codec\": \"raw\"}]", "layers are 1 .. 4"},
        {"taps", "[{\"name\": \"2\", \"codec\": \"zip\"}]", "no codec \"zip\""},
        {"taps", "[{\"name\": \"2\"}]", "codec"},
        {"taps", "[{\"name\": \"4\", \"codec\": \"raw\"}, {\"name\": \"final\", \"codec\": \"raw\"}]", "twice"},
        {"shard", "{\"index\": 2, \"count\": 2}", "index"},
    };
    struct error error;
    struct store *store;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *manifest = fixture_manifest(0, 1);
        json_object_set_new(manifest, bad[i].key, json_loads(bad[i].json, JSON_DECODE_ANY, NULL));
        CHECK(store_create(new_path(), manifest, &store, &error) < 0);
        CHECK_TEXT(error.text, bad[i].part);
        CHECK(!store_exists(path));
        json_decref(manifest);
    }
}

TEST(store_manifest_compare)
{
    struct error error;
    static const char *const ignored[] = {"command", NULL}, *const inner[] = {"command", "model.hidden", NULL};
    json_t *stored = fixture_manifest(0, 1), *wanted = fixture_manifest(0, 1);
    json_object_set_new(wanted, "command", json_string("another"));
    CHECK(manifest_compare(stored, wanted, ignored, &error) == 0);
    CHECK(manifest_compare(stored, wanted, NULL, &error) < 0);
    CHECK_TEXT(error.text, "\"command\" differs");
    json_object_set_new(json_object_get(wanted, "model"), "hidden", json_integer(64));
    CHECK(manifest_compare(stored, wanted, ignored, &error) < 0);
    CHECK_TEXT(error.text, "\"model.hidden\" differs: the store has 640, this command wants 64");
    CHECK(manifest_compare(stored, wanted, inner, &error) == 0);
    json_object_del(json_object_get(wanted, "model"), "hidden");
    CHECK(manifest_compare(stored, wanted, ignored, &error) < 0);
    CHECK_TEXT(error.text, "wants none");
    json_object_set_new(json_object_get(wanted, "model"), "hidden", json_integer(FIXTURE_HIDDEN));
    json_object_set_new(wanted, "seed", json_integer(1));
    CHECK(manifest_compare(stored, wanted, ignored, &error) < 0);
    CHECK_TEXT(error.text, "\"seed\" differs: the store has none, this command wants 1");
    json_decref(stored);
    json_decref(wanted);
}

/* Pages of [from, from + size) that the system has in memory. */
static size_t cached_pages(const void *from, size_t size)
{
    static unsigned char in_memory[4096];
    const uintptr_t page = (uintptr_t)from / 4096 * 4096;
    const size_t pages = ((uintptr_t)from + size - page + 4095) / 4096;
    size_t count = 0;
    if (pages > sizeof in_memory || mincore((void *)page, pages * 4096, in_memory) < 0)
        return 0;
    for (size_t i = 0; i < pages; i++)
        count += in_memory[i] & 1;
    return count;
}

TEST(store_reads_ahead)
{
    enum { ROWS = 256, COLS = 1024, LAST = 5 };
    static float states[ROWS * COLS];
    static int32_t ids[ROWS + 1];
    struct error error;
    struct store *store;
    struct reader *reader;
    struct codec_worker *worker;
    const struct coder *coder;
    struct record record = {0};
    const void *bytes;
    size_t size;
    char data[sizeof path + 16];
    json_t *manifest = json_pack("{s:{s:i, s:i, s:i}, s:i, s:[{s:s, s:s}]}", "model", "layers", 2, "hidden",
                                 COLS, "vocab", 8, "rows", ROWS, "taps", "name", "1", "codec", "raw");
    new_path();
    snprintf(data, sizeof data, "%s/data.mdb", path);
    REQUIRE_OK(store_create(path, manifest, &store, &error));
    json_decref(manifest);
    REQUIRE_OK(codec_worker_create(&worker, &error));
    REQUIRE_OK(store_coder(store, 0, &coder, &error));
    REQUIRE_OK(store_begin(store, &error));
    for (uint64_t i = 0; i <= LAST; i++) {
        const struct sequence sequence = {SPLIT_TRAIN, i};
        REQUIRE_OK(store_put_tokens(store, SPLIT_TRAIN, ids, NULL, 0, &error));
        const struct record_key key = record_key(store_info(store), coder, 0, sequence);
        REQUIRE_OK(record_encode(worker, &key, &(struct record_states){.states = states}, &record, &error));
        REQUIRE_OK(store_put_record(store, 0, sequence, record.bytes, record.size, &error));
    }
    REQUIRE_OK(store_commit(store, &error));
    store_close(store);
    codec_worker_destroy(worker);
    free(record.bytes);

    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    REQUIRE_OK(reader_open(store, &reader, &error));
    CHECK(reader_ahead(reader, 0, (struct sequence){SPLIT_TRAIN, LAST + 1}) == 0);
    REQUIRE_OK(reader_record(reader, 0, (struct sequence){SPLIT_TRAIN, 2}, &bytes, &size, &error));
    int file = open(data, O_RDONLY);
    REQUIRE(file >= 0);
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    close(file);
    if (cached_pages(bytes, size) > size / 4096 / 2) {
        test_skip("this file system keeps files in memory");
    } else {
        CHECK(reader_ahead(reader, 0, (struct sequence){SPLIT_TRAIN, 2}) == size);
        for (int i = 0; i < 500 && cached_pages(bytes, size) < size / 4096; i++)
            usleep(10000);
        CHECK(cached_pages(bytes, size) >= size / 4096);
    }
    reader_close(reader);
    store_close(store);
}

/* Bytes of mapped files in this process's memory. */
static size_t mapped_memory(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    size_t kilobytes = 0;
    char line[256];
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "RssFile: %zu kB", &kilobytes) == 1)
            break;
    if (file)
        fclose(file);
    return kilobytes * 1024;
}

/* What a writer has read does not stay in its memory, and can be read again. */
TEST(store_commit_releases_pages)
{
    enum { ROWS = 1024, COLS = 8192, BYTES = ROWS * COLS * 4 };
    struct error error;
    struct store *store;
    struct reader *reader;
    struct source_shape shape;
    void *data;
    float *values = calloc(BYTES, 1);
    REQUIRE(values);
    for (int i = 0; i < ROWS * COLS; i++)
        values[i] = (float)i;
    REQUIRE_OK(create_filled(3, 1, &store, &error));
    REQUIRE_OK(store_begin(store, &error));
    REQUIRE_OK(store_put_source(store, "output", (struct source_shape){DTYPE_F32, ROWS, COLS}, values, &error));
    REQUIRE_OK(store_commit(store, &error));
    size_t before = mapped_memory();
    if (before == 0) {
        test_skip("this system does not tell what a process has mapped");
        store_close(store);
        free(values);
        return;
    }
    REQUIRE_OK(store_get_source(store, "output", &shape, &data, &error));
    free(data);
    CHECK(mapped_memory() > before + BYTES / 2);
    REQUIRE_OK(reader_open(store, &reader, &error));
    REQUIRE_OK(store_begin(store, &error));
    REQUIRE_OK(store_put_note(store, "note", "n", 1, &error));
    REQUIRE_OK(store_commit(store, &error));
    CHECK(mapped_memory() < before + BYTES / 4);
    for (uint64_t i = 0; i < 3; i++)
        REQUIRE_OK(fixture_check(reader, 0, (struct sequence){SPLIT_TRAIN, i}, &error));
    reader_close(reader);
    REQUIRE_OK(store_get_source(store, "output", &shape, &data, &error));
    CHECK(memcmp(data, values, BYTES) == 0);
    free(data);
    free(values);
    store_close(store);
}

/* A finished store is read without locks: what a reader has of it is not written over, however often it is
 * repaired, or though it grows. */
static void check_kept(bool grows)
{
    struct error error;
    struct store *store, *other;
    struct reader *reader;
    struct codec_worker *worker;
    struct states_view view;
    const int tap = 0; /* 2.mid, raw */
    const struct sequence sequence = {SPLIT_TRAIN, 3};
    float expected[FIXTURE_ROWS * FIXTURE_HIDDEN];
    REQUIRE_OK(create_filled(10, 0, &store, &error));
    REQUIRE_OK(store_seal(store, &error));
    store_close(store);

    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    REQUIRE_OK(reader_open(store, &reader, &error));
    REQUIRE_OK(reader_view(reader, tap, sequence, NULL, &view, &error));
    CHECK(view.type == DTYPE_BF16);
    REQUIRE_OK(store_open(path, STORE_WRITE, &other, &error));
    REQUIRE_OK(codec_worker_create(&worker, &error));
    if (grows) {
        const uint64_t there[SPLIT_COUNT] = {9, 0};
        json_t *manifest = fixture_manifest(0, 1);
        REQUIRE_OK(extend_begin(other, manifest, there, &error));
        json_decref(manifest);
        REQUIRE_OK(store_commit(other, &error));
    }
    for (uint64_t i = 0; i < 40; i++) {
        REQUIRE_OK(grows ? store_begin(other, &error) : repair_begin(other, &error));
        REQUIRE_OK(fixture_put_record(other, worker, tap, (struct sequence){SPLIT_TRAIN, (3 + i) % 9}, &error));
        REQUIRE_OK(store_commit(other, &error));
    }
    if (!grows)
        REQUIRE_OK(repair_finish(other, &error));
    fixture_states(tap, sequence, expected);
    for (int i = 0; i < FIXTURE_ROWS * FIXTURE_HIDDEN; i++) {
        uint16_t bits;
        memcpy(&bits, (const char *)view.values + (size_t)i * sizeof bits, sizeof bits);
        REQUIRE(bf16_to_f32(bits) == expected[i]);
    }
    reader_close(reader);
    store_close(store);
    store_close(other);
    codec_worker_destroy(worker);
}

TEST(store_repair_keeps_what_is_read)
{
    check_kept(false);
}

TEST(store_growth_keeps_what_is_read)
{
    check_kept(true);
}

TEST_MAIN
