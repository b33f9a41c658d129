#include "common/model/safetensors.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "tests/test.h"

static const char *folder_file(const char *folder, const char *name)
{
    static char path[4400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* A file of f32 tensors of two values, all the same, named by the letters of `names`. */
static int write_letters(const char *path, const char *names, const float values[2], struct error *error)
{
    char name[8][2] = {{0}};
    struct tensor tensors[8] = {{0}};
    struct safetensors_writer *writer;
    size_t count = strlen(names);
    for (size_t i = 0; i < count; i++) {
        name[i][0] = names[i];
        tensors[i] = (struct tensor){.name = name[i], .type = DTYPE_F32, .dims = 1, .shape = {2}};
    }
    if (safetensors_create(path, tensors, count, NULL, &writer, error) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (safetensors_write(writer, values, 8, error) < 0) {
            safetensors_abandon(writer);
            return -1;
        }
    }
    return safetensors_finish(writer, error);
}

TEST(safetensors_round_trip)
{
    static const float f32[6] = {1, -2, 3.5f, 0, 1e-30f, 6};
    static const uint16_t f16[3] = {0x3c00, 0xc000, 1}, bf16[2] = {0x3f80, 0xff80};
    static const int32_t i32[2] = {-1, 7};
    static const double f64[1] = {0.1};
    static const void *const data[] = {f64, f32, i32, f16, bf16};
    static const size_t sizes[] = {sizeof f64, sizeof f32, sizeof i32, sizeof f16, sizeof bf16};
    struct tensor tensors[] = {
        {.name = "f64", .type = DTYPE_F64, .dims = 1, .shape = {1}},
        {.name = "weird \"name\"", .type = DTYPE_F32, .dims = 2, .shape = {2, 3}},
        {.name = "i32", .type = DTYPE_I32, .dims = 3, .shape = {1, 2, 1}},
        {.name = "f16", .type = DTYPE_F16, .dims = 1, .shape = {3}},
        {.name = "bf16", .type = DTYPE_BF16, .dims = 2, .shape = {1, 2}},
    };
    struct error error;
    struct safetensors_writer *writer;
    struct safetensors *file;
    const char *path = folder_file(test_folder(), "a.safetensors"), *format;
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    REQUIRE_OK(safetensors_create(path, tensors, 5, metadata, &writer, &error));
    json_decref(metadata);
    CHECK(!file_exists(path)); /* until it is whole */
    for (int i = 0; i < 5; i++)
        for (size_t at = 0; at < sizes[i]; at += 3) /* parts of any size */
            REQUIRE_OK(safetensors_write(writer, (const char *)data[i] + at,
                                         sizes[i] - at < 3 ? sizes[i] - at : 3, &error));
    CHECK(safetensors_write(writer, f32, 1, &error) < 0);
    CHECK_TEXT(error.text, "more bytes than its tensors have");
    REQUIRE_OK(safetensors_finish(writer, &error));
    REQUIRE_OK(safetensors_open(path, &file, &error));
    REQUIRE(safetensors_count(file) == 5);
    for (int i = 0; i < 5; i++) {
        const struct tensor *tensor = safetensors_find(file, tensors[i].name);
        REQUIRE(tensor);
        CHECK(tensor->type == tensors[i].type && tensor->dims == tensors[i].dims && tensor->bytes == sizes[i]);
        CHECK(memcmp(tensor->shape, tensors[i].shape, (size_t)tensor->dims * sizeof *tensor->shape) == 0);
        CHECK(memcmp(tensor->data, data[i], sizes[i]) == 0);
        CHECK(strcmp(tensor->file, path) == 0);
    }
    CHECK(!safetensors_find(file, "f6") && !safetensors_find(file, ""));
    REQUIRE_OK(json_get_string(path, safetensors_metadata(file), "format", &format, &error));
    CHECK(strcmp(format, "pt") == 0);
    safetensors_close(file);
}

static const struct tensor *find(const struct safetensors *file, const char *name)
{
    static const struct tensor none;
    const struct tensor *tensor = safetensors_find(file, name);
    return tensor ? tensor : &none;
}

/* Whatever the format allows: data at an odd byte, numbers alone, tensors without values, in any order. */
TEST(safetensors_odd_files)
{
    static const char header[] =
        "{\"d\":{\"data_offsets\":[6,14],\"shape\":[2],\"dtype\":\"F32\"},\"__metadata__\":{},"
        "\"empty\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[6,6]},"
        "\"a\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,2]},"
        "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[2,6]},"
        "\"last\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[14,14]}}";
    static const float values[2] = {1, -2};
    struct error error;
    struct safetensors *file;
    const char *path = folder_file(test_folder(), "a.safetensors");
    for (size_t blanks = 0; blanks < 4; blanks++) {
        char bytes[8 + sizeof header + 4 + 14] = {0};
        const size_t length = sizeof header - 1 + blanks;
        bytes[0] = (char)(length & 255), bytes[1] = (char)(length >> 8);
        memcpy(bytes + 8, header, sizeof header - 1);
        memset(bytes + 8 + sizeof header - 1, ' ', blanks);
        memcpy(bytes + 8 + length + 2, &values[0], 4);
        memcpy(bytes + 8 + length + 6, values, 8);
        REQUIRE_OK(file_write(path, bytes, 8 + length + 14, &error));
        REQUIRE_OK(safetensors_open(path, &file, &error));
        CHECK(safetensors_count(file) == 5 && json_is_object(safetensors_metadata(file)));
        CHECK(find(file, "d")->bytes == 8 && memcmp(find(file, "d")->data, values, 8) == 0);
        CHECK(find(file, "scalar")->dims == 0 && memcmp(find(file, "scalar")->data, values, 4) == 0);
        CHECK(find(file, "empty")->dims == 2 && find(file, "empty")->bytes == 0);
        safetensors_close(file);
    }
}

TEST(safetensors_writer_refuses)
{
    struct tensor twice[] = {{.name = "a", .type = DTYPE_F32, .dims = 1, .shape = {2}},
                             {.name = "a", .type = DTYPE_F32, .dims = 1, .shape = {2}}};
    struct tensor blocks = {.name = "a", .type = DTYPE_Q8_0, .dims = 1, .shape = {32}};
    struct tensor large = {.name = "a", .type = DTYPE_F32, .dims = 2, .shape = {INT64_MAX, 2}};
    struct error error;
    struct safetensors_writer *writer;
    const char *path = folder_file(test_folder(), "a.safetensors");
    CHECK(safetensors_create(path, twice, 2, NULL, &writer, &error) < 0);
    CHECK_TEXT(error.text, "tensor \"a\" is given twice");
    CHECK(safetensors_create(path, &blocks, 1, NULL, &writer, &error) < 0);
    CHECK_TEXT(error.text, "no type for q8_0");
    CHECK(safetensors_create(path, &large, 1, NULL, &writer, &error) < 0);
    CHECK_TEXT(error.text, "too large");
    CHECK(safetensors_create(folder_file("/nowhere", "x"), twice, 1, NULL, &writer, &error) < 0);
    CHECK_TEXT(error.text, "/nowhere/x");
    path = folder_file(test_folder(), "a.safetensors");
    REQUIRE_OK(safetensors_create(path, twice, 1, NULL, &writer, &error));
    REQUIRE_OK(safetensors_write(writer, "1234", 4, &error));
    CHECK(safetensors_finish(writer, &error) < 0); /* half of it */
    CHECK_TEXT(error.text, "only 4 of its tensors' 8 bytes");
    CHECK(!file_exists(path));
}

TEST(safetensors_folder)
{
    static const float a[2] = {1, 2}, b[2] = {3, 4};
    static const char index[] =
        "{\"metadata\": {\"total_size\": 16}, \"weight_map\": {\"a\": \"x.safetensors\", "
        "\"b\": \"y.safetensors\"}}";
    struct error error;
    struct safetensors *file;
    const char *folder = test_folder();
    CHECK(safetensors_open(folder, &file, &error) < 0);
    CHECK_TEXT(error.text, "neither model.safetensors nor model.safetensors.index.json");
    REQUIRE_OK(write_letters(folder_file(folder, "x.safetensors"), "a", a, &error));
    REQUIRE_OK(write_letters(folder_file(folder, "y.safetensors"), "b", b, &error));
    REQUIRE_OK(file_write(folder_file(folder, "model.safetensors.index.json"), index, strlen(index), &error));
    REQUIRE_OK(safetensors_open(folder, &file, &error));
    CHECK(safetensors_count(file) == 2);
    const struct tensor *tensor = safetensors_find(file, "b");
    CHECK(tensor && memcmp(tensor->data, b, sizeof b) == 0);
    CHECK(tensor && strcmp(tensor->file, folder_file(folder, "y.safetensors")) == 0);
    safetensors_close(file);
    /* A single file goes before an index, as transformers has it. */
    REQUIRE_OK(write_letters(folder_file(folder, "model.safetensors"), "c", a, &error));
    REQUIRE_OK(safetensors_open(folder, &file, &error));
    CHECK(safetensors_count(file) == 1 && safetensors_find(file, "c"));
    safetensors_close(file);
}

/* An index that does not agree with its shards. */
TEST(safetensors_index)
{
    static const float values[2] = {1, 2};
    static const struct {
        const char *index, *expected;
    } cases[] = {
        {"{}", "\"weight_map\" is missing or empty"},
        {"{\"weight_map\": {}}", "\"weight_map\" is missing or empty"},
        {"{\"weight_map\": [\"a\"]}", "\"weight_map\" is missing or empty"},
        {"{\"weight_map\": {\"a\": 3}}", "not a file of this folder"},
        {"{\"weight_map\": {\"a\": \"../x.safetensors\"}}", "not a file of this folder"},
        {"{\"weight_map\": {\"a\": \"..\"}}", "not a file of this folder"},
        {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "not a file of this folder"},
        {"{\"weight_map\": {\"a\": \"\"}}", "not a file of this folder"},
        {"{\"weight_map\": {\"a\": \"z.safetensors\"}}", "z.safetensors: No such file"},
        {"{\"weight_map\": {\"a\": \"x.safetensors\"", "line 1"},
        {"{\"weight_map\": {\"a\": \"x.safetensors\", \"q\": \"x.safetensors\"}}", "tensor \"q\" is not in"},
        {"{\"weight_map\": {\"a\": \"y.safetensors\", \"b\": \"x.safetensors\"}}", "tensor \"a\" is not in"},
        {"{\"weight_map\": {\"b\": \"y.safetensors\", \"a\": \"w.safetensors\", \"c\": \"x.safetensors\"}}",
         "tensor \"a\" is in both"},
        {"{\"weight_map\": {\"b\": \"y.safetensors\", \"c\": \"v.safetensors\"}}", "tensor \"d\" of"},
    };
    struct error error;
    struct safetensors *file;
    const char *folder = test_folder();
    REQUIRE_OK(write_letters(folder_file(folder, "x.safetensors"), "a", values, &error));
    REQUIRE_OK(write_letters(folder_file(folder, "y.safetensors"), "b", values, &error));
    REQUIRE_OK(write_letters(folder_file(folder, "w.safetensors"), "a", values, &error));
    REQUIRE_OK(write_letters(folder_file(folder, "v.safetensors"), "cd", values, &error));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        REQUIRE_OK(file_write(folder_file(folder, "model.safetensors.index.json"), cases[i].index,
                              strlen(cases[i].index), &error));
        if (safetensors_open(folder, &file, &error) == 0) {
            test_fail(__FILE__, __LINE__, "%s was accepted", cases[i].index);
            safetensors_close(file);
        } else {
            CHECK_TEXT(error.text, cases[i].expected);
        }
    }
}

TEST_MAIN
