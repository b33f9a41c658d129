/* dtype.c: number formats against values worked out by hand. */
#include <math.h>

#include "kernels/dtype.h"
#include "tests/test.h"

TEST(dtype_names_and_sizes)
{
    size_t bytes = 0;
    for (int type = 0; type < DTYPE_COUNT; type++)
        CHECK(dtype_find(dtype_name((enum dtype)type)) == type);
    CHECK(dtype_find("q5_0") == -1);
    CHECK(dtype_block(DTYPE_BF16) == 1 && dtype_block(DTYPE_Q4_1) == 32);
    CHECK(dtype_row_bytes(DTYPE_Q8_0, 576, &bytes) && bytes == 18 * 34);
    CHECK(dtype_row_bytes(DTYPE_Q4_0, 64, &bytes) && bytes == 36);
    CHECK(dtype_row_bytes(DTYPE_Q4_1, 64, &bytes) && bytes == 40);
    CHECK(dtype_row_bytes(DTYPE_F16, 7, &bytes) && bytes == 14);
    CHECK(!dtype_row_bytes(DTYPE_Q8_0, 48, &bytes));
    CHECK(!dtype_row_bytes(DTYPE_F32, -1, &bytes));
    CHECK(sizeof(size_t) > 8 || !dtype_row_bytes(DTYPE_F64, INT64_MAX, &bytes));
}

TEST(dtype_q8_0)
{
    /* d = 0x3400 = 2^-2; q = -16 .. 15 and the two ends of int8. */
    uint8_t block[34] = {0x00, 0x34};
    float values[32];
    for (int i = 0; i < 32; i++)
        block[2 + i] = (uint8_t)(i - 16);
    block[2] = 0x80;
    block[33] = 0x7f;
    dtype_to_f32(DTYPE_Q8_0, block, 32, values);
    CHECK(values[0] == -32.0f && values[31] == 31.75f);
    CHECK(values[1] == -3.75f && values[16] == 0.0f && values[30] == 3.5f);
}

TEST(dtype_q4_0)
{
    /* d = 0xc000 = -2; byte i holds i in its low half, 15 - i in its high half. */
    uint8_t block[18] = {0x00, 0xc0};
    float values[32];
    for (int i = 0; i < 16; i++)
        block[2 + i] = (uint8_t)(i | (15 - i) << 4);
    dtype_to_f32(DTYPE_Q4_0, block, 32, values);
    for (int i = 0; i < 16; i++) {
        CHECK(values[i] == -2.0f * (float)(i - 8));
        CHECK(values[16 + i] == -2.0f * (float)(7 - i));
    }
}

TEST(dtype_q4_1)
{
    /* Two blocks: d = 0x3800 = 1/2, m = 0xbc00 = -1; d = 0x4000 = 2, m = 0x3c00 = 1. */
    uint8_t blocks[40] = {0x00, 0x38, 0x00, 0xbc, [20] = 0x00, 0x40, 0x00, 0x3c};
    float values[64];
    blocks[4] = 0xf0; /* low half 0, high half 15 */
    blocks[19] = 0x52;
    blocks[24] = 0x3c;
    dtype_to_f32(DTYPE_Q4_1, blocks, 64, values);
    CHECK(values[0] == -1.0f && values[16] == 6.5f);
    CHECK(values[15] == 0.0f && values[31] == 1.5f);
    CHECK(values[1] == -1.0f && values[17] == -1.0f);
    CHECK(values[32] == 25.0f && values[48] == 7.0f && values[33] == 1.0f);
}

TEST(dtype_plain)
{
    const uint16_t half[2] = {0x3555, 0x0001}, brain[2] = {0x3fc0, 0xc2f7};
    const float single[2] = {1.5f, -0.0f};
    float values[2];
    dtype_to_f32(DTYPE_F16, half, 2, values);
    CHECK(values[0] == 0.333251953125f && values[1] == 0x1p-24f);
    dtype_to_f32(DTYPE_BF16, brain, 2, values);
    CHECK(values[0] == 1.5f && values[1] == -123.5f);
    dtype_to_f32(DTYPE_F32, single, 2, values);
    CHECK(memcmp(values, single, sizeof single) == 0);
}

TEST(dtype_f16_all_patterns)
{
    /* A finite half is sign * fraction * 2^(exponent - 25), fraction with its hidden bit. */
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        const int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
        const float value = f16_to_f32((uint16_t)bits);
        if (exponent == 31) {
            CHECK(fraction ? isnan(value) : isinf(value));
            CHECK(!fraction || isnan(f16_to_f32(f32_to_f16(value))));
        } else {
            const double magnitude = exponent ? ldexp(fraction + 1024, exponent - 25) : ldexp(fraction, -24);
            CHECK((double)value == (bits & 0x8000 ? -magnitude : magnitude));
        }
        CHECK(!signbit(value) == !(bits & 0x8000));
        if (!isnan(value))
            CHECK(f32_to_f16(value) == bits);
    }
}

TEST(dtype_f16_rounds_to_nearest_even)
{
    /* Between every two neighbours: halfway goes to the even one, a hair off halfway to the nearer. */
    for (uint16_t bits = 0; bits < 0x7bff; bits++) {
        const float low = f16_to_f32(bits), high = f16_to_f32((uint16_t)(bits + 1)), middle = (low + high) / 2;
        CHECK(f32_to_f16(middle) == bits + (bits & 1));
        CHECK(f32_to_f16(nextafterf(middle, low)) == bits);
        CHECK(f32_to_f16(nextafterf(middle, high)) == bits + 1);
    }
    CHECK(f32_to_f16(65519.996f) == 0x7bff && f32_to_f16(65520.0f) == 0x7c00);
    CHECK(f32_to_f16(-INFINITY) == 0xfc00 && f32_to_f16(1e30f) == 0x7c00);
    CHECK(f32_to_f16(-0.0f) == 0x8000 && f32_to_f16(1e-40f) == 0);
}

TEST(dtype_bf16_rounds_to_nearest_even)
{
    CHECK(f32_to_bf16(1.00390625f) == 0x3f80); /* 1 + 2^-8: halfway, even below */
    CHECK(f32_to_bf16(1.01171875f) == 0x3f82); /* 1 + 3 2^-8: halfway, even above */
    CHECK(f32_to_bf16(1.0039063692f) == 0x3f81);
    CHECK(f32_to_bf16(-INFINITY) == 0xff80 && f32_to_bf16(3.4028235e38f) == 0x7f80);
    CHECK(isnan(bf16_to_f32(f32_to_bf16(NAN))));
    CHECK(bf16_to_f32(f32_to_bf16(-1.5f)) == -1.5f);
}

/* Stores hold these numbers: a line here is added to, and never changed. */
TEST(dtype_numbers_are_pinned)
{
    static const struct {
        const char *name;
        int number;
    } pinned[] = {{"f32", 0}, {"f16", 1}, {"bf16", 2}, {"q8_0", 3}, {"q4_0", 4}, {"q4_1", 5},
                  {"f64", 6}, {"i32", 7}, {"i16", 8},  {"u8", 9},   {"i64", 10}, {"bool", 11}};
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
        CHECK(dtype_find(pinned[i].name) == pinned[i].number);
    CHECK(DTYPE_COUNT == sizeof pinned / sizeof *pinned);
}

TEST_MAIN
