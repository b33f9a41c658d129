#include "kernels/dtype.h"

#include "common/base/memory.h"

static const struct {
    const char *name;
    int block; /* values */
    int bytes; /* of a block */
} types[DTYPE_COUNT] = {
    [DTYPE_F32] = {"f32", 1, 4},     [DTYPE_F16] = {"f16", 1, 2},     [DTYPE_BF16] = {"bf16", 1, 2},
    [DTYPE_Q8_0] = {"q8_0", 32, 34}, [DTYPE_Q4_0] = {"q4_0", 32, 18}, [DTYPE_Q4_1] = {"q4_1", 32, 20},
    [DTYPE_F64] = {"f64", 1, 8},     [DTYPE_I32] = {"i32", 1, 4},     [DTYPE_I16] = {"i16", 1, 2},
    [DTYPE_U8] = {"u8", 1, 1},       [DTYPE_I64] = {"i64", 1, 8},     [DTYPE_BOOL] = {"bool", 1, 1},
};

const char *dtype_name(enum dtype type)
{
    return types[type].name;
}

int dtype_find(const char *name)
{
    for (int type = 0; type < DTYPE_COUNT; type++)
        if (strcmp(types[type].name, name) == 0)
            return type;
    return -1;
}

int dtype_block(enum dtype type)
{
    return types[type].block;
}

bool dtype_row_bytes(enum dtype type, int64_t cols, size_t *bytes)
{
    if (cols < 0 || cols % types[type].block != 0)
        return false;
    return size_multiply((size_t)(cols / types[type].block), (size_t)types[type].bytes, bytes);
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float f16_to_f32(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact in f32 */
        float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    if (exponent == 31)
        return float_of_bits(sign | 0x7f800000 | fraction << 13);
    return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t f32_to_f16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 1023));
    if (magnitude >= 0x477ff000) /* 65520, halfway to 2^16: rounds to infinity */
        return sign | 0x7c00;
    if (magnitude < 0x38800000) { /* below 2^-14: adding 0.5 aligns the last place with 2^-24 */
        uint32_t sum;
        float shifted = float_of_bits(magnitude) + 0.5f;
        memcpy(&sum, &shifted, sizeof sum);
        return (uint16_t)(sign | (sum - 0x3f000000));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
}

static uint16_t read_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static void q8_0_to_f32(const uint8_t *block, float *values)
{
    const float scale = f16_to_f32(read_u16(block));
    int8_t quants[32]; /* a copy that values cannot be: the loop takes vectors, 4 to 5 times as fast */
    memcpy(quants, block + 2, sizeof quants);
    for (int i = 0; i < 32; i++)
        values[i] = scale * (float)quants[i];
}

static void q4_0_to_f32(const uint8_t *block, float *values)
{
    const float scale = f16_to_f32(read_u16(block));
    for (int i = 0; i < 16; i++) {
        values[i] = scale * (float)((block[2 + i] & 15) - 8);
        values[i + 16] = scale * (float)((block[2 + i] >> 4) - 8);
    }
}

static void q4_1_to_f32(const uint8_t *block, float *values)
{
    const float scale = f16_to_f32(read_u16(block)), minimum = f16_to_f32(read_u16(block + 2));
    for (int i = 0; i < 16; i++) {
        values[i] = scale * (float)(block[4 + i] & 15) + minimum;
        values[i + 16] = scale * (float)(block[4 + i] >> 4) + minimum;
    }
}

void dtype_to_f32(enum dtype type, const void *source, int64_t count, float *values)
{
    const uint8_t *bytes = source;
    const int64_t blocks = count / types[type].block;
    switch (type) {
    case DTYPE_F32: memcpy(values, source, (size_t)count * sizeof *values); break;
    case DTYPE_F16:
        for (int64_t i = 0; i < count; i++)
            values[i] = f16_to_f32(read_u16(bytes + 2 * i));
        break;
    case DTYPE_BF16:
        for (int64_t i = 0; i < count; i++)
            values[i] = bf16_to_f32(read_u16(bytes + 2 * i));
        break;
    case DTYPE_Q8_0:
        for (int64_t b = 0; b < blocks; b++)
            q8_0_to_f32(bytes + 34 * b, values + 32 * b);
        break;
    case DTYPE_Q4_0:
        for (int64_t b = 0; b < blocks; b++)
            q4_0_to_f32(bytes + 18 * b, values + 32 * b);
        break;
    case DTYPE_Q4_1:
        for (int64_t b = 0; b < blocks; b++)
            q4_1_to_f32(bytes + 20 * b, values + 32 * b);
        break;
    case DTYPE_F64:
    case DTYPE_I32:
    case DTYPE_I16:
    case DTYPE_U8:
    case DTYPE_I64:
    case DTYPE_BOOL:
    case DTYPE_COUNT: break; /* no weight has these */
    }
}
