/* Memory runs out at every allocation of the codecs, the vocabulary and the store in turn: each call fails with
 * a reason or does its work, nothing crashes, and (under the address sanitizer) nothing leaks. */
#include <stdio.h>
#include <string.h>

#include "common/base/hash_index.h"
#include "common/repair/salvage.h"
#include "common/store/shards.h"
#include "common/text/bpe.h"
#include "tests/codec_fixture.h"
#include "tests/failing_memory.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

static char path[4200];

/* ---- what runs out of memory ---- */

static int use_codecs(struct error *error)
{
    struct codec_worker *worker;
    float states[6 * 10], decoded[6 * 10];
    struct record record = {0};
    for (int i = 0; i < 60; i++)
        states[i] = (float)i;
    int result = codec_worker_create(&worker, error);
    for (int i = 0; codec_table()[i] && result == 0; i++) {
        struct coder *coder;
        result = codec_fixture_coder(codec_table()[i], 10, &coder, error);
        const struct record_key key = {coder, {3, false}, {SPLIT_TRAIN, 1}, 6, NULL, 0};
        if (result == 0)
            result = record_encode(worker, &key, &(struct record_states){.states = states}, &record, error);
        if (result == 0)
            result = record_decode(worker, &key, record.bytes, record.size,
                                   &(struct record_parts){.states = decoded}, error);
        coder_destroy(coder);
    }
    free(record.bytes);
    codec_worker_destroy(worker);
    return result;
}

static int write_store(const json_t *manifest, struct error *error)
{
    struct store *store;
    static float tensor[8][32];
    if (store_create(path, manifest, &store, error) < 0)
        return -1;
    int result = fixture_fill(store, SPLIT_TRAIN, 3, error);
    if (result == 0)
        result = store_begin(store, error);
    if (result == 0)
        result = store_put_note(store, "position", "here", 4, error);
    if (result == 0)
        result = store_put_source(store, "output", (struct source_shape){DTYPE_F32, 8, 32}, tensor, error);
    if (result == 0)
        result = store_commit(store, error);
    if (result == 0)
        result = store_seal(store, error);
    store_close(store);
    return result;
}

static int read_store(struct error *error)
{
    struct store *store;
    struct source_shape shape;
    void *data, *note;
    size_t size;
    if (store_open(path, STORE_READ, &store, error) < 0)
        return -1;
    int result = fixture_check_all(store, error);
    if (result == 0 && (result = store_get_source(store, "output", &shape, &data, error)) == 0)
        free(data);
    if (result == 0 && (result = store_get_note(store, "position", &note, &size, error)) == 0)
        free(note);
    store_close(store);
    return result;
}

static int read_shards(struct error *error)
{
    const char *const paths[] = {path};
    struct shards *shards;
    struct shards_reader *reader = NULL;
    int32_t ids[FIXTURE_ROWS + 1];
    if (shards_open(paths, 1, &shards, error) < 0)
        return -1;
    int result = shards_reader_open(shards, &reader, error);
    if (result == 0)
        result = shards_reader_tokens(reader, (struct sequence){SPLIT_TRAIN, 2}, ids, error);
    shards_reader_close(reader);
    shards_close(shards);
    return result;
}

/* Of a store that is whole, and stays so wherever it fails. */
static int salvage_store(struct error *error)
{
    struct salvage_report report;
    struct error other;
    int result = store_salvage(path, &report, error);
    const int turn = until_failure;
    until_failure = 0;
    if (read_store(&other) < 0)
        test_fail(__FILE__, __LINE__, "%s", other.text);
    until_failure = turn;
    return result;
}

/* Runs `work` with the first, second, ... allocation failing, until it gets by with none that failed. */
static void fail_in_turn(int (*work)(struct error *error))
{
    int turn = 0, refused = 0;
    do {
        struct error error = {0};
        failed = false;
        until_failure = ++turn;
        int result = work(&error);
        until_failure = 0;
        refused += result < 0;
        if (result < 0 && !failed)
            test_fail(__FILE__, __LINE__, "turn %d: failed without a reason: %s", turn, error.text);
        if (result < 0 && !*error.text)
            test_fail(__FILE__, __LINE__, "turn %d: no error text", turn);
    } while (failed && turn < 10000);
    CHECK(turn < 10000 && refused > 3);
}

/* An index that could not grow finds what it found before. */
static int use_index(struct error *error)
{
    struct hash_index index = {0};
    int result = 0;
    uint32_t count = 0;
    while (count < 100 && (result = hash_index_put(&index, count, count, error)) == 0)
        count++;
    CHECK(index.count == count);
    for (uint32_t i = 0; i < 100; i++) {
        struct hash_probe probe = {.key = i};
        CHECK(hash_index_next(&index, &probe) == (i < count ? i : HASH_INDEX_END));
    }
    hash_index_free(&index);
    return result;
}

static int use_vocabulary(struct error *error)
{
    struct bpe_merge merges[] = {{0, 1, 2}};
    const struct bpe_rules rules = {.merges = merges, .count = 1, .unknown = -1};
    struct bpe_work work = {0};
    struct token_list ids = {0};
    struct vocab vocab;
    struct bpe *bpe = NULL;
    char name[16];
    int result = vocab_create(&vocab, 40, error);
    for (int id = 0; id < 40 && result == 0; id++) {
        snprintf(name, sizeof name, id < 2 ? "%c" : id == 2 ? "ab" : "token%d", id < 2 ? 'a' + id : id);
        result = vocab_set(&vocab, id, name, strlen(name), TOKEN_MODEL, error);
    }
    if (result == 0)
        result = bpe_create(&vocab, &rules, &bpe, error);
    if (result == 0)
        result = bpe_encode(bpe, "abab", 4, &work, &ids, error);
    if (result == 0)
        CHECK(ids.count == 2 && ids.data[1] == 2);
    free(ids.data);
    bpe_work_free(&work);
    bpe_destroy(bpe);
    vocab_free(&vocab);
    return result;
}

TEST(memory_vocabulary)
{
    fail_in_turn(use_index);
    fail_in_turn(use_vocabulary);
}

TEST(memory_codecs)
{
    fail_in_turn(use_codecs);
}

static int create_and_write(struct error *error)
{
    static json_t *manifest;
    int turn = until_failure;
    until_failure = 0;
    if (!manifest)
        manifest = fixture_manifest(0, 1);
    snprintf(path, sizeof path, "%s/store", test_folder());
    until_failure = turn;
    int result = write_store(manifest, error);
    until_failure = 0;
    if (store_exists(path)) { /* whatever failed, what there is is whole */
        struct error other;
        struct store *store;
        if (store_open(path, STORE_WRITE, &store, &other) < 0 || fixture_check_all(store, &other) < 0)
            test_fail(__FILE__, __LINE__, "%s", other.text);
        store_close(store);
    }
    if (result == 0) {
        json_decref(manifest);
        manifest = NULL;
    }
    return result;
}

TEST(memory_writing)
{
    fail_in_turn(create_and_write);
}

TEST(memory_reading)
{
    struct error error;
    REQUIRE_OK(create_and_write(&error));
    fail_in_turn(read_store);
    fail_in_turn(read_shards);
}

TEST(memory_salvaging)
{
    struct error error;
    REQUIRE_OK(create_and_write(&error));
    fail_in_turn(salvage_store);
}

/* jansson allocates through this program, so that its failures count too. */
static void *json_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

int main(int argc, char **argv)
{
    json_set_alloc_funcs(json_malloc, free);
    return test_main(argc, argv);
}
