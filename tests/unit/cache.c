/* The cache program, as its users call it, on a small store: what it prints, writes and refuses. */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/memory.h"
#include "common/model/safetensors.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

static char path[4200], output[16384];

/* Runs "cache ARGUMENTS", %s replaced by the store's path; standard output and error go to `output`.
 * Returns the exit code. */
static int cache(const char *arguments)
{
    char command[20000], with_path[8500];
    const char *build = getenv("BUILD");
    snprintf(with_path, sizeof with_path, arguments, path, path);
    snprintf(command, sizeof command, "%s/cache %s 2>&1", build ? build : "build", with_path);
    FILE *stream = popen(command, "r");
    output[stream ? fread(output, 1, sizeof output - 1, stream) : 0] = 0;
    int status = stream ? pclose(stream) : -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int create(bool seal, struct error *error)
{
    struct store *store;
    static float tensor[16][32];
    json_t *manifest = fixture_manifest(0, 1);
    snprintf(path, sizeof path, "%s/store", test_folder());
    int result = store_create(path, manifest, &store, error);
    json_decref(manifest);
    if (result == 0)
        result = fixture_fill(store, SPLIT_TRAIN, 9, error);
    if (result == 0)
        result = fixture_fill(store, SPLIT_HELD_OUT, 4, error);
    if (result == 0 && store_begin(store, error) == 0 &&
        store_put_source(store, "final_norm", (struct source_shape){DTYPE_F32, 16, 32}, tensor, error) == 0)
        result = store_commit(store, error);
    if (result == 0 && seal)
        result = store_seal(store, error);
    store_close(store);
    return result;
}

TEST(cache_help_and_wrong_usage)
{
    CHECK(cache("--help") == 0);
    CHECK_TEXT(output, "verify    read everything in it");
    CHECK(cache("info --help") == 0);
    CHECK_TEXT(output, "Usage: cache info");
    CHECK(cache("--version") == 0);
    CHECK_TEXT(output, "offramp cache");
    CHECK(cache("") == 2);
    CHECK_TEXT(output, "a command is missing");
    CHECK(cache("mend") == 2);
    CHECK_TEXT(output, "there is no command \"mend\"");
    CHECK(cache("--json info x") == 2);
    CHECK(cache("info") == 2);
    CHECK(cache("info a b") == 2);
    CHECK(cache("verify --fast x") == 2);
    CHECK(cache("verify --processes 0 x") == 2);
    CHECK(cache("export --out x y") == 2);
    CHECK_TEXT(output, "--tap or --tensor is missing");
    CHECK(cache("export --tap 2 x") == 2);
    CHECK(cache("export --tap 2 --out x --split none y") == 2);
    CHECK(cache("export --tap 2 --out x --format zip y") == 2);
    CHECK(cache("info /nonexistent") == 1);
    CHECK_TEXT(output, "cache info: /nonexistent: there is no store here");
    CHECK(cache("verify /nonexistent") == 1);
}

TEST(cache_info_page)
{
    struct error error;
    REQUIRE_OK(create(false, &error));
    CHECK(cache("info %s") == 0);
    CHECK_TEXT(output, "4 layers, hidden size 640, vocabulary 1000");
    CHECK_TEXT(output, "9 train and 4 held-out of 8 tokens: 72 and 32 tokens");
    CHECK_TEXT(output, "2.mid       raw");
    CHECK_TEXT(output, "made by     extract --taps 2,2.mid,final");
    CHECK_TEXT(output, "not finished");
    REQUIRE_OK(create(true, &error));
    CHECK(cache("info %s") == 0);
    CHECK_TEXT(output, "finished: sealed");
}

TEST(cache_info_json)
{
    struct error error;
    REQUIRE_OK(create(true, &error));
    CHECK(cache("info --json %s") == 0);
    json_t *page = json_loads(output, 0, NULL);
    REQUIRE(page != NULL);
    const json_t *tap = json_array_get(json_object_get(page, "taps"), 2);
    const json_t *store = json_object_get(page, "store");
    CHECK(strcmp(json_string_value(json_object_get(tap, "name")), "final") == 0);
    CHECK(json_integer_value(json_object_get(tap, "train")) == 9);
    CHECK(json_integer_value(json_object_get(tap, "held_out")) == 4);
    /* 13 records of 8 x 640 f32 in whole pages: 6 pages each, and the tree's. */
    CHECK(json_integer_value(json_object_get(tap, "bytes")) == (13 * 6 + 1) * 4096);
    CHECK(json_is_true(json_object_get(store, "sealed")));
    CHECK(json_integer_value(json_object_get(store, "train_sequences")) == 9);
    CHECK(json_integer_value(json_object_get(json_object_get(page, "model"), "hidden")) == FIXTURE_HIDDEN);
    json_decref(page);
}

TEST(cache_verify_reports)
{
    struct error error;
    char data[4300];
    static const char wrong[] = "wrong";
    REQUIRE_OK(create(true, &error));
    CHECK(cache("verify %s %s") == 0);
    CHECK_TEXT(output, "66 values");
    CHECK_TEXT(output, "0 problems");

    /* Somewhere in the middle of a record. */
    snprintf(data, sizeof data, "%s/data.mdb", path);
    int file = open(data, O_RDWR | O_CLOEXEC);
    CHECK(pwrite(file, wrong, sizeof wrong, 60 * 4096 + 500) == sizeof wrong);
    close(file);
    CHECK(cache("verify %s") == 1);
    CHECK_TEXT(output, "1 problem;");
    CHECK(cache("verify --json %s") == 1);
    json_t *report = json_loads(output, 0, NULL);
    REQUIRE(report != NULL);
    const json_t *problem = json_array_get(json_object_get(report, "problems"), 0);
    CHECK(json_integer_value(json_object_get(report, "values")) == 65);
    CHECK(strcmp(json_string_value(json_object_get(problem, "kind")), "record") == 0);
    CHECK(json_object_get(problem, "sequence") != NULL);
    CHECK(json_is_string(json_object_get(problem, "tap")));
    json_decref(report);

    CHECK(truncate(data, 8192) == 0);
    CHECK(cache("verify %s") == 1);
    CHECK_TEXT(output, "cut short");
}

/* Fills a record's payload with what its codec cannot have written, and hashes it as its writer would have. */
static int spoil_record(const char *data, struct error *error)
{
    char *bytes;
    size_t size;
    struct record_header header;
    if (file_read(data, &bytes, &size, error) < 0)
        return -1;
    char *at = bytes, *end = bytes + size - sizeof header;
    for (; at < end; at += 16) { /* a page's header is before it */
        memcpy(&header, at, sizeof header);
        if (memcmp(header.magic, "OFRR", 4) == 0 && header.layer == 2 && !header.mid)
            break;
    }
    if (at < end) {
        memset(at + sizeof header, 0xff, header.payload);
        header.hash = 0;
        header.hash = hash_bytes(at + sizeof header, header.payload, hash_bytes(&header, sizeof header, 0));
        memcpy(at, &header, sizeof header);
    }
    int result = at < end ? file_write(data, bytes, size, error) : error_set(error, "there is no such record");
    free(bytes);
    return result;
}

/* Hashes tell that a record is what was written; whether that was a record, decoding does. */
TEST(cache_verify_decodes_when_told)
{
    struct error error;
    char data[4300];
    REQUIRE_OK(create(true, &error));
    snprintf(data, sizeof data, "%s/data.mdb", path);
    CHECK(cache("verify --decode %s") == 0);
    REQUIRE_OK(spoil_record(data, &error));
    CHECK(cache("verify %s") == 0);
    CHECK(cache("verify --decode %s") == 1);
    CHECK_TEXT(output, "tap 2, ");
    CHECK_TEXT(output, "1 problem;");
}

/* The file's tensors against what the fixture put in. */
static void check_export(const char *file, int tap, enum dtype type, uint64_t train, uint64_t held_out)
{
    struct error error;
    struct safetensors *tensors;
    REQUIRE_OK(safetensors_open(file, &tensors, &error));
    const struct tensor *tokens = safetensors_find(tensors, "tokens"),
                        *split = safetensors_find(tensors, "split");
    const struct tensor *states = safetensors_find(tensors, "states");
    const int64_t count = (int64_t)(train + held_out);
    CHECK(tokens && split && states && states->type == type && states->dims == 3);
    CHECK(tokens->shape[0] == count && tokens->shape[1] == FIXTURE_ROWS + 1 && split->shape[0] == count);
    CHECK(states->shape[0] == count && states->shape[1] == FIXTURE_ROWS && states->shape[2] == FIXTURE_HIDDEN);
    for (int64_t i = 0; i < count; i++) {
        const bool in_train = (uint64_t)i < train;
        struct sequence sequence = {in_train ? SPLIT_TRAIN : SPLIT_HELD_OUT,
                                    (uint64_t)i - (in_train ? 0 : train)};
        int32_t ids[FIXTURE_ROWS + 1];
        float expected[FIXTURE_ROWS * FIXTURE_HIDDEN], found[FIXTURE_ROWS * FIXTURE_HIDDEN];
        size_t bytes = type == DTYPE_F32 ? sizeof expected : sizeof expected / 2;
        fixture_tokens(sequence, ids);
        fixture_states(tap, sequence, expected);
        dtype_to_f32(type, (const char *)states->data + (size_t)i * bytes, FIXTURE_ROWS * FIXTURE_HIDDEN,
                     found);
        CHECK(memcmp((const int32_t *)tokens->data + i * (FIXTURE_ROWS + 1), ids, sizeof ids) == 0);
        CHECK(((const int32_t *)split->data)[i] == (int32_t)sequence.split);
        CHECK(memcmp(found, expected, sizeof expected) == 0);
    }
    safetensors_close(tensors);
}

static void check_target_values(const char *file, uint64_t train, uint64_t held_out)
{
    struct error error;
    struct safetensors *tensors;
    REQUIRE_OK(safetensors_open(file, &tensors, &error));
    const struct tensor *top = safetensors_find(tensors, "top"), *loss = safetensors_find(tensors, "loss");
    const struct tensor *entropy = safetensors_find(tensors, "entropy");
    const struct tensor *probability = safetensors_find(tensors, "probability");
    REQUIRE(top && probability && entropy && loss && top->type == DTYPE_I32 && loss->type == DTYPE_F32);
    CHECK(loss->dims == 2 && loss->shape[0] == (int64_t)(train + held_out) && loss->shape[1] == FIXTURE_ROWS);
    for (uint64_t i = 0; i < train + held_out; i++) {
        struct target_row expected[FIXTURE_ROWS];
        fixture_values(i < train ? (struct sequence){SPLIT_TRAIN, i}
                                 : (struct sequence){SPLIT_HELD_OUT, i - train},
                       expected);
        for (uint64_t r = 0; r < FIXTURE_ROWS; r++) {
            const uint64_t at = i * FIXTURE_ROWS + r;
            CHECK(((const int32_t *)top->data)[at] == expected[r].top);
            CHECK(((const float *)probability->data)[at] == expected[r].probability);
            CHECK(((const float *)entropy->data)[at] == expected[r].entropy);
            CHECK(((const float *)loss->data)[at] == expected[r].loss);
        }
    }
    safetensors_close(tensors);
}

TEST(cache_export_safetensors)
{
    struct error error;
    char file[4300];
    REQUIRE_OK(create(true, &error));
    snprintf(file, sizeof file, "%s/../states.safetensors", path);
    CHECK(cache("export %s --tap 2 --format safetensors --out %s/../states.safetensors") == 0);
    check_export(file, 1, DTYPE_BF16, 9, 4);
    CHECK(cache("export %s --tap final --split train --out %s/../states.safetensors") == 0);
    check_export(file, 2, DTYPE_F32, 9, 0);
    CHECK(cache("export %s --tap 4 --split held-out --out %s/../states.safetensors") == 0);
    check_export(file, 2, DTYPE_F32, 0, 4);
    CHECK(cache("export %s --tap target --out %s/../states.safetensors") == 0);
    check_export(file, 3, DTYPE_BF16, 9, 4);
    check_target_values(file, 9, 4);
    CHECK(cache("export %s --tap 3 --out %s/../none.safetensors") == 2);
    CHECK_TEXT(output, "there is no tap 3; the store has 2.mid, 2, final");
    CHECK(cache("export %s --tap 2 --out %s/none/none.safetensors") == 2);
    snprintf(file, sizeof file, "%s/../none.safetensors", path);
    CHECK(!file_exists(file));
}

/* A file of NumPy's: its header's dictionary, and where its data begins; free() it. NULL: it is not one. */
static char *read_npy(const char *name, const char *dictionary, const void **values, size_t *bytes)
{
    struct error error;
    char file[4400], *text;
    size_t size, length;
    snprintf(file, sizeof file, "%s/../npy/%s.npy", path, name);
    if (file_read(file, &text, &size, &error) < 0) {
        test_fail(__FILE__, __LINE__, "%s", error.text);
        return NULL;
    }
    const unsigned char *header = (unsigned char *)text;
    length = size < 10 ? 0 : header[8] + 256u * header[9];
    CHECK(size > 10 + length && memcmp(text, "\x93NUMPY\1", 8) == 0 && (10 + length) % 64 == 0);
    CHECK(text[10 + length - 1] == '\n');
    if (strncmp(text + 10, dictionary, strlen(dictionary)) != 0)
        test_fail(__FILE__, __LINE__, "%s: \"%.80s\"", name, text + 10);
    *values = text + 10 + length;
    *bytes = size - 10 - length;
    return text;
}

TEST(cache_export_npy)
{
    struct error error;
    const void *values;
    size_t bytes;
    char folder[4300];
    REQUIRE_OK(create(true, &error));
    snprintf(folder, sizeof folder, "%s/../npy/states.npy", path);
    CHECK(cache("export %s --tap 3 --format npy --out %s/../npy") == 2 && !file_exists(folder));
    CHECK(cache("export %s --tap 2 --format npy --out %s/../npy") == 0);
    char *text =
        read_npy("tokens", "{'descr': '<i4', 'fortran_order': False, 'shape': (13, 9,), }", &values, &bytes);
    REQUIRE(text && bytes == 13 * 9 * sizeof(int32_t));
    free(text);
    text = read_npy("split", "{'descr': '<i4', 'fortran_order': False, 'shape': (13,), }", &values, &bytes);
    REQUIRE(text && bytes == 13 * sizeof(int32_t));
    CHECK(((const int32_t *)values)[8] == 0 && ((const int32_t *)values)[9] == 1);
    free(text);
    text = read_npy("states", "{'descr': '<f4', 'fortran_order': False, 'shape': (13, 8, 640,), }", &values,
                    &bytes);
    float expected[FIXTURE_ROWS * FIXTURE_HIDDEN];
    REQUIRE(text && bytes == 13 * sizeof expected);
    fixture_states(1, (struct sequence){SPLIT_HELD_OUT, 3}, expected);
    CHECK(memcmp((const char *)values + 12 * sizeof expected, expected, sizeof expected) == 0);
    free(text);
}

/* A tensor of several parts, none of which ends with a row, in blocks: each value is what its blocks say. */
TEST(cache_export_of_a_large_tensor)
{
    enum { ROWS = 60000, COLS = 288 };
    struct error error;
    struct store *store;
    struct safetensors *file;
    char name[4300];
    float values[COLS], found[COLS];
    size_t row_bytes;
    unsigned char *data;
    REQUIRE(dtype_row_bytes(DTYPE_Q8_0, COLS, &row_bytes) && (16u << 20) % row_bytes != 0);
    REQUIRE_OK(array_alloc(&data, ROWS * row_bytes, &error));
    for (size_t i = 0; i < ROWS * row_bytes; i++) /* scales of every size, none of them infinite */
        data[i] = (unsigned char)(i % 34 == 1 ? i % 0x78 : i * 2654435761u >> 13);
    REQUIRE_OK(create(false, &error));
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    REQUIRE_OK(store_begin(store, &error));
    REQUIRE_OK(store_put_source(store, "output", (struct source_shape){DTYPE_Q8_0, ROWS, COLS}, data, &error));
    REQUIRE_OK(store_commit(store, &error));
    store_close(store);
    CHECK(cache("export --tensor output --out %s.out %s") == 0);
    CHECK_TEXT(output, "q8_0 of the model");
    snprintf(name, sizeof name, "%s.out", path);
    REQUIRE_OK(safetensors_open(name, &file, &error));
    const struct tensor *tensor = safetensors_find(file, "output");
    REQUIRE(tensor && tensor->type == DTYPE_F32 && tensor->shape[0] == ROWS && tensor->shape[1] == COLS);
    for (size_t r = 0; r < ROWS; r++) {
        dtype_to_f32(DTYPE_Q8_0, data + r * row_bytes, COLS, values);
        memcpy(found, (const char *)tensor->data + r * sizeof found, sizeof found);
        if (memcmp(values, found, sizeof found) != 0) {
            test_fail(__FILE__, __LINE__, "row %zu differs", r);
            break;
        }
    }
    safetensors_close(file);
    unlink(name);
    free(data);
}

TEST_MAIN
