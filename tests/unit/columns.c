/* The columns of a target: known ones are found by name wherever they are, others are kept as they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/model/safetensors.h"
#include "common/repair/repair.h"
#include "common/repair/salvage.h"
#include "common/repair/verify.h"
#include "common/store/shards.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

/* What a later program may write: columns that are not known, and the usual ones in another order. */
#define MORE                                                                                                   \
    "[{\"name\": \"words\", \"type\": \"i32\", \"width\": 3},"                                                 \
    " {\"name\": \"loss\", \"type\": \"f32\", \"width\": 1},"                                                  \
    " {\"name\": \"best_probability\", \"type\": \"f16\", \"width\": 8},"                                      \
    " {\"name\": \"top\", \"type\": \"i32\", \"width\": 1},"                                                   \
    " {\"name\": \"best\", \"type\": \"i32\", \"width\": 8},"                                                  \
    " {\"name\": \"shares\", \"type\": \"f16\", \"width\": 3},"                                                \
    " {\"name\": \"entropy\", \"type\": \"f32\", \"width\": 1},"                                               \
    " {\"name\": \"probability\", \"type\": \"f32\", \"width\": 1}]"
enum {
    WORDS = 0,
    SHARES = 5,
    TARGET = FIXTURE_TAPS - 1,
    TRAIN = 3,
    MORE_BYTES = FIXTURE_ROWS * (4 * 4 + 8 * 4 + 8 * 2 + 3 * 4 + 3 * 2)
};

static char path[4200];
static const char *folder; /* the test's own */

/* ---- the list ---- */

TEST(columns_list)
{
    static const struct {
        const char *list, *part;
    } bad[] = {
        {"{}", "must be a list of 1 to 16 columns"},
        {"[]", "must be a list of 1 to 16 columns"},
        {"[1]", "a column"},
        {"[{\"name\": \"top\", \"type\": \"i32\"}]", "width"},
        {"[{\"name\": \"top\", \"type\": \"i32\", \"width\": 0}]", "width"},
        {"[{\"name\": \"top\", \"type\": \"i32\", \"width\": 65537}]", "width"},
        {"[{\"name\": \"top\", \"width\": 1}]", "type"},
        {"[{\"name\": \"top\", \"type\": \"q8_0\", \"width\": 32}]", "column top: has values of the type q8_0"},
        {"[{\"name\": \"top\", \"type\": \"i64\", \"width\": 1}]", "column top: has values of the type i64"},
        {"[{\"name\": \"\", \"type\": \"i32\", \"width\": 1}]", "cannot name a column"},
        {"[{\"name\": \"../x\", \"type\": \"i32\", \"width\": 1}]", "\"../x\" cannot name a column"},
        {"[{\"name\": \"states\", \"type\": \"i32\", \"width\": 1}]", "\"states\" cannot name a column"},
        {"[{\"name\": \"a234567890123456789012345678901x\", \"type\": \"i32\", \"width\": 1}]", "cannot name"},
        {"[{\"name\": \"top\", \"type\": \"i32\", \"width\": 1}, {\"name\": \"top\", \"type\": \"u8\", "
         "\"width\": 1}]",
         "column top is there twice"},
    };
    struct error error;
    struct columns columns;
    json_t *list = json_loads(MORE, 0, NULL);
    REQUIRE_OK(columns_parse(list, &columns, &error));
    CHECK(columns.count == 8 && columns_find(&columns, "shares") == SHARES && columns_find(&columns, "x") < 0);
    CHECK(column_offset(&columns, 1, 10) == 120 && column_bytes(&columns, SHARES, 10) == 60);
    CHECK(columns_bytes(&columns, FIXTURE_ROWS) == MORE_BYTES);
    json_t *back = columns_to_json(&columns);
    CHECK(json_equal(list, back));
    json_decref(back);
    json_decref(list);
    CHECK(columns_parse(NULL, &columns, &error) < 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        list = json_loads(bad[i].list, 0, NULL);
        REQUIRE(list != NULL);
        if (columns_parse(list, &columns, &error) == 0)
            test_fail(__FILE__, __LINE__, "%s passes", bad[i].list);
        else
            CHECK_TEXT(error.text, bad[i].part);
        json_decref(list);
    }
}

/* ---- a store with more columns ---- */

static json_t *manifest_with(const char *columns, int shard, int shards)
{
    json_t *manifest = fixture_manifest(shard, shards);
    json_object_set_new(json_array_get(json_object_get(manifest, "taps"), 0), "columns",
                        json_loads(columns, 0, NULL));
    return manifest;
}

/* The columns of a sequence: known ones as the fixture has them, others by their index. */
static void fill_columns(const struct columns *columns, struct sequence sequence, unsigned char *bytes)
{
    struct target_row values[FIXTURE_ROWS];
    unsigned char known[FIXTURE_ROWS * sizeof(struct target_row)];
    const struct columns *usual = target_columns();
    struct error error;
    fixture_values(sequence, values);
    REQUIRE_OK(target_pack(usual, values, FIXTURE_ROWS, known, &error));
    for (size_t i = 0; i < columns_bytes(columns, FIXTURE_ROWS); i++)
        bytes[i] = (unsigned char)(i * 7 + sequence.index * 31 + (uint64_t)sequence.split);
    for (int i = 0; i < columns->count; i++) {
        const int index = columns_find(usual, columns->column[i].name);
        if (index >= 0)
            memcpy(bytes + column_offset(columns, i, FIXTURE_ROWS),
                   known + column_offset(usual, index, FIXTURE_ROWS), column_bytes(columns, i, FIXTURE_ROWS));
    }
}

static int put_target(struct store *store, struct codec_worker *worker, struct sequence sequence,
                      struct error *error)
{
    const struct store_info *info = store_info(store);
    unsigned char columns[2 * MORE_BYTES];
    float u[FIXTURE_ROWS * FIXTURE_HIDDEN];
    struct record record = {0};
    const struct coder *coder;
    fill_columns(&info->columns, sequence, columns);
    fixture_states(TARGET, sequence, u);
    int result = store_coder(store, TARGET, &coder, error);
    if (result == 0) {
        const struct record_key key = record_key(info, coder, TARGET, sequence);
        const struct record_states states = {.states = u, .columns = columns};
        result = record_encode(worker, &key, &states, &record, error);
    }
    if (result == 0)
        result = store_put_record(store, TARGET, sequence, record.bytes, record.size, error);
    free(record.bytes);
    return result;
}

static int create(const char *columns, int shard, int shards, struct error *error)
{
    struct store *store;
    struct codec_worker *worker;
    json_t *manifest = manifest_with(columns, shard, shards);
    int result = store_create(path, manifest, &store, error);
    json_decref(manifest);
    if (result < 0 || codec_worker_create(&worker, error) < 0)
        return -1;
    result = store_begin(store, error);
    for (uint64_t i = 0; i < TRAIN && result == 0; i++) {
        const struct sequence sequence = {SPLIT_TRAIN, i * (uint64_t)shards + (uint64_t)shard};
        result = fixture_put_tokens(store, sequence, error);
        for (int tap = 0; tap < TARGET && result == 0; tap++)
            result = fixture_put_record(store, worker, tap, sequence, error);
        if (result == 0)
            result = put_target(store, worker, sequence, error);
    }
    for (int tap = 0; tap < FIXTURE_TAPS && result == 0; tap++)
        result = store_set_progress(store, tap, SPLIT_TRAIN, TRAIN, error);
    result = result == 0 && store_commit(store, error) == 0 ? store_seal(store, error) : -1;
    store_close(store);
    codec_worker_destroy(worker);
    return result;
}

/* Every record of a store has the columns it was given, those that are known by name as well, and verify finds
 * no fault. */
static void check_store(const char *store_name, uint64_t count)
{
    const struct verify_options options = {.processes = 1};
    struct verify_result result;
    struct store *store;
    struct reader *reader;
    struct error error;
    REQUIRE_OK(store_open(store_name, STORE_READ, &store, &error));
    REQUIRE_OK(reader_open(store, &reader, &error));
    CHECK(store_info(store)->columns.count == 8 && store_progress(store, TARGET, SPLIT_TRAIN) == count);
    for (uint64_t i = 0; i < count; i++) {
        const struct sequence sequence = {SPLIT_TRAIN, i};
        unsigned char expected[MORE_BYTES];
        const void *columns;
        REQUIRE_OK(fixture_check(reader, TARGET, sequence, &error));
        REQUIRE_OK(reader_target_columns(reader, sequence, &columns, NULL, &error));
        fill_columns(&store_info(store)->columns, sequence, expected);
        CHECK(memcmp(columns, expected, MORE_BYTES) == 0);
    }
    reader_close(reader);
    store_close(store);
    REQUIRE_OK(store_verify(store_name, &options, &result, &error));
    CHECK(result.problems == 0);
}

static const char *store_path_of(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Runs "cache ARGUMENTS", %s replaced by the test's folder; returns the exit code. */
static int cache(const char *arguments)
{
    char command[20000], with_folder[18000];
    const char *build = getenv("BUILD");
    snprintf(with_folder, sizeof with_folder, arguments, folder, folder, folder);
    snprintf(command, sizeof command, "%s/cache %s >/dev/null 2>&1", build ? build : "build", with_folder);
    const int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(columns_more_are_kept)
{
    folder = test_folder();
    struct error error;
    struct salvage_report report;
    for (int shard = 0; shard < 2; shard++) {
        store_path_of(shard ? "second" : "first");
        REQUIRE_OK(create(MORE, shard, 2, &error));
    }
    CHECK(cache("merge %s/first %s/second --out %s/merged") == 0);
    check_store(store_path_of("merged"), 2 * TRAIN);
    CHECK(cache("recode %s/merged --codec raw,target=raw:f32 --out %s/recoded") == 0);
    check_store(store_path_of("recoded"), 2 * TRAIN);
    REQUIRE_OK(store_salvage(store_path_of("recoded"), &report, &error));
    check_store(path, 2 * TRAIN);
    CHECK(cache("info %s/merged | grep -q 'columns *words x 3, loss, best_probability x 8, top, best x 8, "
                "shares x 3, "
                "entropy, probability'") == 0);
}

TEST(columns_more_are_exported)
{
    folder = test_folder();
    struct error error;
    struct safetensors *tensors;
    struct columns columns;
    unsigned char expected[MORE_BYTES];
    char file[4300];
    json_t *list = json_loads(MORE, 0, NULL);
    REQUIRE_OK(columns_parse(list, &columns, &error));
    json_decref(list);
    store_path_of("store");
    REQUIRE_OK(create(MORE, 0, 1, &error));
    CHECK(cache("export %s/store --tap target --out %s/target.safetensors") == 0);
    CHECK(cache("export %s/store --tap target --format npy --out %s/npy") == 0);
    snprintf(file, sizeof file, "%s/target.safetensors", folder);
    REQUIRE_OK(safetensors_open(file, &tensors, &error));
    for (int i = 0; i < columns.count; i++) {
        const struct column *column = &columns.column[i];
        const struct tensor *tensor = safetensors_find(tensors, column->name);
        const size_t stored = column_bytes(&columns, i, FIXTURE_ROWS);
        const bool wide = column->type == DTYPE_F16; /* F32 in the file */
        const size_t bytes = wide ? 2 * stored : stored;
        REQUIRE(tensor != NULL);
        CHECK(tensor->type == (wide ? DTYPE_F32 : column->type) && tensor->bytes == TRAIN * bytes &&
              tensor->shape[0] == TRAIN);
        CHECK(tensor->dims == (column->width > 1 ? 3 : 2) && tensor->shape[1] == FIXTURE_ROWS);
        for (uint64_t s = 0; s < TRAIN; s++) {
            fill_columns(&columns, (struct sequence){SPLIT_TRAIN, s}, expected);
            const unsigned char *values = expected + column_offset(&columns, i, FIXTURE_ROWS);
            float widened[MORE_BYTES / 2];
            if (wide)
                dtype_to_f32(DTYPE_F16, values, (int64_t)stored / 2, widened);
            CHECK(memcmp((const char *)tensor->data + s * bytes, wide ? (const void *)widened : values,
                         bytes) == 0);
        }
    }
    safetensors_close(tensors);
}

/* Without one that it needs a reader says which; what is there is still checked. */
TEST(columns_that_are_missing)
{
    folder = test_folder();
    static const char fewer[] = "[{\"name\": \"top\", \"type\": \"i32\", \"width\": 1},"
                                " {\"name\": \"loss\", \"type\": \"f16\", \"width\": 1},"
                                " {\"name\": \"probability\", \"type\": \"f32\", \"width\": 1},"
                                " {\"name\": \"entropy\", \"type\": \"f32\", \"width\": 1}]";
    const struct verify_options options = {.processes = 1};
    struct verify_result result;
    struct error error;
    struct store *store;
    struct reader *reader;
    struct target_row values[FIXTURE_ROWS];
    struct columns columns;
    unsigned char bytes[MORE_BYTES];
    store_path_of("store");
    json_t *list = json_loads(fewer, 0, NULL);
    REQUIRE_OK(columns_parse(list, &columns, &error));
    json_decref(list);
    CHECK(target_check_columns(&columns, &error) < 0);
    CHECK_TEXT(error.text, "the target has no column loss of f32");
    fixture_values((struct sequence){SPLIT_TRAIN, 0}, values);
    CHECK(target_pack(&columns, values, FIXTURE_ROWS, bytes, &error) < 0);
    CHECK_TEXT(error.text, "cannot make the target's column loss");
    memset(bytes, 0, sizeof bytes);
    REQUIRE_OK(target_unpack(&columns, bytes, FIXTURE_ROWS, FIXTURE_VOCAB, NULL, &error));
    bytes[3] = 0x80; /* the first token is below 0 */
    CHECK(target_unpack(&columns, bytes, FIXTURE_ROWS, FIXTURE_VOCAB, NULL, &error) < 0);
    CHECK_TEXT(error.text, "row 0: token -2147483648 is outside the vocabulary of 1000");

    static const char none[] = "[{\"name\": \"best\", \"type\": \"i32\", \"width\": 3}]";
    REQUIRE_OK(create(none, 0, 1, &error));
    REQUIRE_OK(store_verify(path, &options, &result, &error));
    CHECK(result.problems == 0);
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    REQUIRE_OK(reader_open(store, &reader, &error));
    CHECK(reader_target(reader, (struct sequence){SPLIT_TRAIN, 0}, values, NULL, &error) < 0);
    CHECK_TEXT(error.text, "the target has no column top of i32");
    reader_close(reader);
    store_close(store);
}

/* Columns are part of what a record must be: those of another list do not pass for these. */
TEST(columns_of_another_list_are_refused)
{
    folder = test_folder();
    struct error error;
    struct store *store, *other;
    struct reader *reader;
    const void *record;
    size_t size;
    char first[4200];
    snprintf(first, sizeof first, "%s", store_path_of("first"));
    REQUIRE_OK(create(MORE, 0, 1, &error));
    json_t *manifest = fixture_manifest(0, 1);
    REQUIRE_OK(store_create(store_path_of("second"), manifest, &other, &error));
    json_decref(manifest);
    REQUIRE_OK(fixture_fill(other, SPLIT_TRAIN, 1, &error));
    REQUIRE_OK(store_open(first, STORE_READ, &store, &error));
    REQUIRE_OK(reader_open(store, &reader, &error));
    REQUIRE_OK(reader_record(reader, TARGET, (struct sequence){SPLIT_TRAIN, 0}, &record, &size, &error));
    REQUIRE_OK(store_begin(other, &error));
    CHECK(store_put_record(other, TARGET, (struct sequence){SPLIT_TRAIN, 0}, record, size, &error) < 0);
    CHECK_TEXT(error.text, "another one");
    reader_close(reader);
    store_close(store);
    store_close(other);
}

/* Shards of one extraction whose targets differ are not one store. */
TEST(columns_are_the_same_in_all_shards)
{
    static const char before[] = "[{\"name\": \"loss\", \"type\": \"f32\", \"width\": 1},"
                                 " {\"name\": \"top\", \"type\": \"i32\", \"width\": 1}]";
    struct error error;
    struct shards *shards;
    char first[4200], second[4200];
    folder = test_folder();
    snprintf(first, sizeof first, "%s", store_path_of("first"));
    REQUIRE_OK(create(before, 0, 2, &error));
    snprintf(second, sizeof second, "%s", store_path_of("second"));
    REQUIRE_OK(create(MORE, 1, 2, &error));
    CHECK(shards_open((const char *[]){first, second}, 2, &shards, &error) < 0);
    CHECK_TEXT(error.text, "taps");
    CHECK(cache("merge %s/first %s/second --out %s/merged") != 0);
}

/* What extract writes. Other columns, or another number of best tokens, do not mix with the stores that are there. */
TEST(columns_that_are_made)
{
    json_t *made = columns_to_json(target_columns());
    json_t *expected = json_loads("[{\"name\": \"top\", \"type\": \"i32\", \"width\": 1},"
                                  " {\"name\": \"probability\", \"type\": \"f32\", \"width\": 1},"
                                  " {\"name\": \"entropy\", \"type\": \"f32\", \"width\": 1},"
                                  " {\"name\": \"loss\", \"type\": \"f32\", \"width\": 1},"
                                  " {\"name\": \"best\", \"type\": \"i32\", \"width\": 8},"
                                  " {\"name\": \"best_probability\", \"type\": \"f16\", \"width\": 8}]",
                                  0, NULL);
    CHECK(json_equal(made, expected));
    CHECK(columns_bytes(target_columns(), 1) == 64);
    json_decref(made);
    json_decref(expected);
}

/* Of the best tokens a store may have fewer or more than this program makes. */
TEST(columns_of_best_tokens)
{
    static const struct {
        int tokens, probabilities, best;
        bool made;
    } widths[] = {{3, 3, 3, true},    {8, 8, 8, true},  {12, 12, 8, false}, {32, 32, 8, false},
                  {33, 33, 0, false}, {3, 4, 0, false}, {3, 0, 0, false}};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        struct error error;
        struct target_row values[FIXTURE_ROWS];
        unsigned char bytes[FIXTURE_ROWS * 33 * 6];
        const int width = widths[i].tokens;
        const struct columns columns = {
            widths[i].probabilities > 0 ? 2 : 1,
            {{"best", DTYPE_I32, width}, {"best_probability", DTYPE_F16, widths[i].probabilities}}};
        fixture_values((struct sequence){SPLIT_TRAIN, 5}, values);
        CHECK(target_best(&columns) == widths[i].best);
        CHECK((target_pack(&columns, values, FIXTURE_ROWS, bytes, &error) == 0) == widths[i].made);
        for (int k = 0; k < FIXTURE_ROWS * width; k++) /* no two alike; none is likely */
            memcpy(bytes + 4 * k, &(int32_t){FIXTURE_ROWS * width - k}, 4);
        memset(bytes + 4 * FIXTURE_ROWS * width, 0, sizeof bytes - (size_t)(4 * FIXTURE_ROWS * width));
        CHECK(target_check_columns(&columns, &error) < 0);
        REQUIRE_OK(target_unpack(&columns, bytes, FIXTURE_ROWS, FIXTURE_VOCAB, NULL, &error));
        memset(bytes + 4 * width, 0, 8); /* row 1 has token 0 twice */
        CHECK((target_unpack(&columns, bytes, FIXTURE_ROWS, FIXTURE_VOCAB, NULL, &error) < 0) ==
              (widths[i].best > 0));
    }
}

/* A target without its list cannot be read. */
TEST(columns_belong_to_a_target)
{
    folder = test_folder();
    struct error error;
    struct store *store;
    json_t *manifest = fixture_manifest(0, 1);
    json_object_del(json_array_get(json_object_get(manifest, "taps"), 0), "columns");
    CHECK(store_create(store_path_of("store"), manifest, &store, &error) < 0);
    CHECK_TEXT(error.text, "tap target: \"columns\" must be a list");
    json_decref(manifest);
}

TEST_MAIN
