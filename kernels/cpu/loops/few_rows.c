/* few_rows.c: products of at most MATMUL_FEW_ROWS rows with a weight in its file's own format, for
 * decoding: bound by the memory that the weight is read from.
 *
 * A weight row is widened to f32 in registers, 2 * LANES or 32 values at a time, and multiplied with
 * up to FEW_BLOCK rows of x. Every row of x has its own sums, added in an order that does not depend
 * on how many rows there are.
 */
#include "kernels/cpu/loops/loops.h"
#include "kernels/cpu/loops/vector.h"

enum { BLOCK = 32, VECS = BLOCK / LANES, SUMS = 2 }; /* a block is VECS vectors; they go to SUMS sums in turn */

/* Widens block `b` of a weight row. */
typedef void block_load(const uint8_t *row, int64_t b, vec w[VECS]);

INLINE void load_f32(const uint8_t *row, int64_t b, vec w[VECS])
{
    for (int k = 0; k < VECS; k++)
        memcpy(&w[k], row + ((size_t)b * BLOCK + (size_t)k * LANES) * 4, sizeof w[k]);
}

INLINE void load_f16_block(const uint8_t *row, int64_t b, vec w[VECS])
{
    for (int k = 0; k < VECS; k++) {
        uint16_t bits[LANES];
        memcpy(bits, row + ((size_t)b * BLOCK + (size_t)k * LANES) * 2, sizeof bits);
        w[k] = vec_load_f16(bits);
    }
}

INLINE void load_bf16_block(const uint8_t *row, int64_t b, vec w[VECS])
{
    for (int k = 0; k < VECS; k++) {
        uint16_t bits[LANES];
        memcpy(bits, row + ((size_t)b * BLOCK + (size_t)k * LANES) * 2, sizeof bits);
        w[k] = vec_load_bf16(bits);
    }
}

INLINE void load_q8_0(const uint8_t *row, int64_t b, vec w[VECS])
{
    const uint8_t *block = row + b * 34;
    float d = load_f16(block);
    for (int k = 0; k < VECS; k++)
        w[k] = d * vec_load_i8((const int8_t *)block + 2 + k * LANES);
}

INLINE void load_q4_0(const uint8_t *row, int64_t b, vec w[VECS])
{
    const uint8_t *block = row + b * 18;
    float d = load_f16(block);
    for (int k = 0; k < VECS / 2; k++) {
        vec low, high;
        vec_load_nibbles(block + 2 + k * LANES, &low, &high);
        w[k] = d * (low - 8.0f);
        w[k + VECS / 2] = d * (high - 8.0f);
    }
}

INLINE void load_q4_1(const uint8_t *row, int64_t b, vec w[VECS])
{
    const uint8_t *block = row + b * 20;
    float d = load_f16(block), m = load_f16(block + 2);
    for (int k = 0; k < VECS / 2; k++) {
        vec low, high;
        vec_load_nibbles(block + 4 + k * LANES, &low, &high);
        w[k] = d * low + m;
        w[k + VECS / 2] = d * high + m;
    }
}

/* The last, incomplete block of a row of f32, f16 or bf16. */
INLINE void load_rest(block_load *load, const uint8_t *row, int64_t b, size_t size, int64_t rest, vec w[VECS])
{
    uint8_t block[BLOCK * 4] = {0};
    memcpy(block, row + (size_t)b * BLOCK * size, (size_t)rest * size);
    load(block, 0, w);
}

/* rows <= FEW_BLOCK is a constant where this is inlined. */
INLINE void dot_rows(block_load *load, size_t size, const uint8_t *weight, int64_t cols, const float *x,
                     int64_t x_stride, const int rows, float *y, int64_t y_stride)
{
    vec sums[FEW_BLOCK][SUMS] = {{{0}}}, w[VECS];
    int64_t blocks = cols / BLOCK, rest = cols % BLOCK;
    for (int64_t b = 0; b < blocks; b++) {
        load(weight, b, w);
        for (int k = 0; k < VECS; k++)
            for (int r = 0; r < rows; r++)
                sums[r][k % SUMS] += w[k] * vec_load(x + r * x_stride + b * BLOCK + k * LANES);
    }
    if (rest) {
        load_rest(load, weight, blocks, size, rest, w);
        for (int r = 0; r < rows; r++) {
            float padded[BLOCK] = {0};
            memcpy(padded, x + r * x_stride + blocks * BLOCK, (size_t)rest * sizeof *x);
            for (int k = 0; k < VECS; k++)
                sums[r][k % SUMS] += w[k] * vec_load(padded + k * LANES);
        }
    }
    for (int r = 0; r < rows; r++)
        y[r * y_stride] = vec_sum(sums[r][0] + sums[r][1]);
}

INLINE void few_rows(block_load *load, size_t size, const uint8_t *weight, size_t row_bytes, int64_t count,
                     int64_t cols, const float *x, int64_t x_stride, int rows, float *y, int64_t y_stride)
{
    for (int64_t n = 0; n < count; n++) {
        const uint8_t *row = weight + (size_t)n * row_bytes;
        for (int first = 0; first < rows; first += FEW_BLOCK) {
            const float *xs = x + first * x_stride;
            float *ys = y + first * y_stride + n;
            switch (rows - first) {
            case 1: dot_rows(load, size, row, cols, xs, x_stride, 1, ys, y_stride); break;
            case 2: dot_rows(load, size, row, cols, xs, x_stride, 2, ys, y_stride); break;
            case 3: dot_rows(load, size, row, cols, xs, x_stride, 3, ys, y_stride); break;
            default: dot_rows(load, size, row, cols, xs, x_stride, FEW_BLOCK, ys, y_stride); break;
            }
        }
    }
}

/* size: bytes of a value, for formats without blocks. */
#define FEW_ROWS(type, load, size)                                                                             \
    void LOOP(few_rows_##type)(const void *weight, size_t row_bytes, int64_t count, int64_t cols,              \
                               const float *x, int64_t x_stride, int rows, float *y, int64_t y_stride)         \
    {                                                                                                          \
        few_rows(load, size, weight, row_bytes, count, cols, x, x_stride, rows, y, y_stride);                  \
    }

FEW_ROWS(f32, load_f32, 4)
FEW_ROWS(f16, load_f16_block, 2)
FEW_ROWS(bf16, load_bf16_block, 2)
FEW_ROWS(q8_0, load_q8_0, 0)
FEW_ROWS(q4_0, load_q4_0, 0)
FEW_ROWS(q4_1, load_q4_1, 0)
