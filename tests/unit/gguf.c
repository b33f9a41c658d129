#include "common/model/gguf.h"

#include <math.h>
#include <stdlib.h>

#include "tests/make_gguf.h"
#include "tests/test.h"

static const char *file_path(void)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/test.gguf", test_folder());
    return path;
}

static struct gguf_maker new_maker(void)
{
    return (struct gguf_maker){.version = 3, .alignment = 32};
}

TEST(gguf_integers)
{
    static const struct {
        const char *name;
        uint32_t type, bytes;
        uint64_t bits;
        int64_t expected;
    } cases[] = {
        {"u8", GGUF_U8, 1, 0xff, 255},
        {"i8", GGUF_I8, 1, 0xff, -1},
        {"u16", GGUF_U16, 2, 0x8001, 0x8001},
        {"i16", GGUF_I16, 2, 0x8001, 0x8001 - 0x10000},
        {"u32", GGUF_U32, 4, 0xfffffffe, 0xfffffffe},
        {"i32", GGUF_I32, 4, 0xfffffffe, -2},
        {"u64", GGUF_U64, 8, INT64_MAX, INT64_MAX},
        {"i64", GGUF_I64, 8, (uint64_t)INT64_MIN, INT64_MIN},
        {"bool", GGUF_BOOL, 1, 1, 1},
    };
    struct gguf_maker maker = new_maker();
    struct error error;
    struct gguf *gguf;
    const char *path = file_path();
    int64_t value;
    double number;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) /* the host is little-endian, as the file */
        maker_bytes(maker_key(&maker, cases[i].name, cases[i].type), &cases[i].bits, cases[i].bytes);
    maker_u64_bytes(maker_key(&maker, "huge", GGUF_U64), UINT64_MAX);
    maker_bytes(maker_key(&maker, "odd", GGUF_BOOL), "\2", 1);
    maker_write(&maker, path);
    REQUIRE_OK(gguf_open(path, &gguf, &error));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        REQUIRE_OK(gguf_get_integer(gguf, cases[i].name, INT64_MIN, INT64_MAX, &value, &error));
        REQUIRE_OK(gguf_get_number(gguf, cases[i].name, &number, &error));
        if (value != cases[i].expected || number != (double)cases[i].expected)
            test_fail(__FILE__, __LINE__, "%s gives %lld and %g", cases[i].name, (long long)value, number);
    }
    CHECK(gguf_get_integer(gguf, "huge", INT64_MIN, INT64_MAX, &value, &error) < 0);
    CHECK_TEXT(error.text, "key \"huge\" is out of range");
    CHECK(gguf_get_integer(gguf, "odd", 0, 255, &value, &error) < 0);
    CHECK(gguf_get_integer(gguf, "u8", 0, 254, &value, &error) < 0);
    CHECK_TEXT(error.text, "key \"u8\" is 255, not in 0 .. 254");
    CHECK_TEXT(error.text, path);
    CHECK(gguf_get_integer(gguf, "none", 0, 1, &value, &error) < 0);
    CHECK_TEXT(error.text, "key \"none\" is missing (an integer expected)");
    CHECK(gguf_has(gguf, "u16") && !gguf_has(gguf, "u1") && !gguf_has(gguf, "u166"));
    gguf_close(gguf);
}

TEST(gguf_values)
{
    struct gguf_maker maker = new_maker();
    struct error error;
    struct gguf *gguf;
    struct gguf_string text, *texts;
    const char *path = file_path();
    double number, third = 1.0 / 3;
    int64_t integer, *integers;
    size_t count;
    maker_f32(&maker, "single", 0.1f);
    maker_bytes(maker_key(&maker, "double", GGUF_F64), &third, 8);
    maker_string(&maker, "text", "caf\xc3\xa9");
    struct string *strings = maker_array(&maker, "texts", GGUF_STRING, 3);
    maker_string_bytes(strings, "one");
    maker_string_bytes(strings, "");
    maker_u64_bytes(strings, 3);
    maker_bytes(strings, "a\0b", 3);
    maker_bytes(maker_array(&maker, "bytes", GGUF_I8, 3), "\x01\xff\x80", 3);
    maker_array(&maker, "empty", GGUF_STRING, 0);
    struct string *nested = maker_array(&maker, "nested", GGUF_ARRAY, 1);
    maker_u32_bytes(nested, GGUF_U8);
    maker_u64_bytes(nested, 2);
    maker_bytes(nested, "ab", 2);
    maker_write(&maker, path);
    REQUIRE_OK(gguf_open(path, &gguf, &error));
    REQUIRE_OK(gguf_get_number(gguf, "single", &number, &error));
    CHECK(number == (double)0.1f);
    REQUIRE_OK(gguf_get_number(gguf, "double", &number, &error));
    CHECK(number == third);
    REQUIRE_OK(gguf_get_string(gguf, "text", &text, &error));
    CHECK(text.length == 5 && memcmp(text.data, "caf\xc3\xa9", 5) == 0);
    REQUIRE_OK(gguf_get_strings(gguf, "texts", &texts, &count, &error));
    CHECK(count == 3 && texts[0].length == 3 && texts[1].length == 0 && texts[2].length == 3 &&
          memcmp(texts[2].data, "a\0b", 3) == 0);
    free(texts);
    REQUIRE_OK(gguf_get_strings(gguf, "empty", &texts, &count, &error));
    CHECK(count == 0);
    free(texts);
    REQUIRE_OK(gguf_get_integers(gguf, "bytes", &integers, &count, &error));
    CHECK(count == 3 && integers[0] == 1 && integers[1] == -1 && integers[2] == -128);
    free(integers);
    CHECK(gguf_get_string(gguf, "single", &text, &error) < 0);
    CHECK_TEXT(error.text, "key \"single\" is of type f32, a string expected");
    CHECK(gguf_get_integer(gguf, "single", 0, 1, &integer, &error) < 0);
    CHECK(gguf_get_strings(gguf, "bytes", &texts, &count, &error) < 0);
    CHECK_TEXT(error.text, "is an array of type i8, strings expected");
    CHECK(gguf_get_integers(gguf, "nested", &integers, &count, &error) < 0);
    CHECK(gguf_get_integers(gguf, "text", &integers, &count, &error) < 0);
    gguf_close(gguf);
}

TEST(gguf_tensors)
{
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    for (uint32_t alignment = 1; alignment <= 64; alignment *= 2) {
        struct gguf_maker maker = {.version = alignment == 8 ? 2 : 3, .alignment = alignment};
        struct error error;
        struct gguf *gguf;
        const char *path = file_path();
        maker_u32(&maker, "general.alignment", alignment);
        maker_string(&maker, "odd", "x"); /* so that data begin at an odd byte where the alignment lets them */
        maker_tensor(&maker, "blocks", GGML_Q4_1, 2, (uint64_t[]){64, 3}, NULL, 3 * 40);
        maker_tensor(&maker, "matrix", GGML_F32, 2, (uint64_t[]){3, 2}, values, sizeof values);
        maker_tensor(&maker, "vector", GGML_BF16, 1, (uint64_t[]){5}, NULL, 10);
        maker_write(&maker, path);
        REQUIRE_OK(gguf_open(path, &gguf, &error));
        REQUIRE(gguf_tensor_count(gguf) == 3);
        const struct tensor *matrix = gguf_find_tensor(gguf, "matrix");
        REQUIRE(matrix && matrix == gguf_tensor(gguf, 1));
        CHECK(matrix->type == DTYPE_F32 && matrix->dims == 2 && matrix->shape[0] == 2 && matrix->shape[1] == 3);
        CHECK(matrix->bytes == sizeof values && memcmp(matrix->data, values, sizeof values) == 0);
        CHECK(strcmp(matrix->file, path) == 0);
        const struct tensor *blocks = gguf_find_tensor(gguf, "blocks");
        CHECK(blocks && blocks->type == DTYPE_Q4_1 && blocks->bytes == 120);
        CHECK(gguf_find_tensor(gguf, "vector") == gguf_tensor(gguf, 2));
        CHECK(!gguf_find_tensor(gguf, "matri") && !gguf_find_tensor(gguf, "zebra"));
        gguf_close(gguf);
    }
}

/* The real file, key by key, where there is one. */
TEST(gguf_demo_model)
{
    struct error error;
    struct gguf *gguf;
    struct gguf_string *tokens;
    size_t count;
    int64_t layers;
    if (!test_model()) {
        test_skip("needs OFFRAMP_TEST_MODEL");
        return;
    }
    REQUIRE_OK(gguf_open(test_model(), &gguf, &error));
    REQUIRE_OK(gguf_get_integer(gguf, "llama.block_count", 1, 1000, &layers, &error));
    REQUIRE_OK(gguf_get_strings(gguf, "tokenizer.ggml.tokens", &tokens, &count, &error));
    CHECK(layers == 30 && count == 49152 && gguf_find_tensor(gguf, "blk.29.ffn_down.weight"));
    free(tokens);
    gguf_close(gguf);
}

TEST_MAIN
