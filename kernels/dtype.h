/* dtype.h: number formats of weights and states, and exact conversion to f32.
 *
 * Block formats are ggml's: 32 neighbouring values of a row share a scale.
 *   Q8_0  f16 d, 32 x int8 q                  x = d * q             34 bytes
 *   Q4_0  f16 d, 16 bytes of nibbles          x = d * (q - 8)       18 bytes
 *   Q4_1  f16 d, f16 m, 16 bytes of nibbles   x = d * q + m         20 bytes
 * Nibbles: value i is the low half of byte i, value i + 16 its high half.
 */
#ifndef OFFRAMP_KERNELS_DTYPE_H
#define OFFRAMP_KERNELS_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Stores hold these numbers: a new type gets the next one, and none is used again for another. */
enum dtype {
    DTYPE_F32 = 0,
    DTYPE_F16 = 1,
    DTYPE_BF16 = 2,
    DTYPE_Q8_0 = 3,
    DTYPE_Q4_0 = 4,
    DTYPE_Q4_1 = 5,
    DTYPE_F64 = 6,
    DTYPE_I32 = 7,
    DTYPE_I16 = 8,
    DTYPE_U8 = 9,
    DTYPE_I64 = 10, /* this one and the next: in files for other software only */
    DTYPE_BOOL = 11,
    DTYPE_COUNT
};

/* "f32", "q8_0", ... */
const char *dtype_name(enum dtype type);
/* The type of that name, or -1. */
int dtype_find(const char *name);

/* Values that share a block: 1, or 32 for the Q types. */
int dtype_block(enum dtype type);

/* Bytes of a row of `cols` values. False when cols is not a whole number of blocks, or when the bytes
 * overflow. */
bool dtype_row_bytes(enum dtype type, int64_t cols, size_t *bytes);

/* Converts `count` values (whole blocks) to f32; exact up to one rounding in Q4_1. Weight types only. */
void dtype_to_f32(enum dtype type, const void *source, int64_t count, float *values);

/* Round to nearest even; NaN stays NaN (and is made quiet). Inline, and without branches, so that
 * loops over them are vectorised. */
static inline uint16_t f32_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    uint32_t quiet = bits >> 16 | 0x40;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

static inline float bf16_to_f32(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);

#endif
