/* few_rows.c: products of at most MATMUL_FEW_ROWS rows with a weight in its file's own format, for
 * decoding: bound by the memory that the weight is read from.
 *
 * A weight row is widened to f32 in registers, 2 * LANES or 32 values at a time, and multiplied with
 * up to FEW_BLOCK rows of x. Every row of x has its own sums, added in an order that does not depend
 * on how many rows there are.
 */
#include "kernels/cpu/loops/loops.h"
#include "kernels/cpu/loops/vector.h"

/* A block is VECS vectors; a row's products go to SUMS sums in turn. */
enum { BLOCK = 32, VECS = BLOCK / LANES, SUMS = VEC_BYTES == 64 ? 4 : 2 };

/* Widens block `b` of a weight row. */
typedef void block_load(const uint8_t *row, int64_t b, vec w[VECS]);

INLINE void load_f32(const uint8_t *row, int64_t b, vec w[VECS])
{
    for (int k = 0; k < VECS; k++)
        w[k] = vec_load(row + (b * BLOCK + k * LANES) * (int64_t)sizeof(float));
}

INLINE void load_f16_block(const uint8_t *row, int64_t b, vec w[VECS])
{
    for (int k = 0; k < VECS; k++)
        w[k] = vec_load_f16(row + (b * BLOCK + k * LANES) * (int64_t)sizeof(uint16_t));
}

INLINE void load_bf16_block(const uint8_t *row, int64_t b, vec w[VECS])
{
    for (int k = 0; k < VECS; k++)
        w[k] = vec_load_bf16(row + (b * BLOCK + k * LANES) * (int64_t)sizeof(uint16_t));
}

INLINE void load_q8_0(const uint8_t *row, int64_t b, vec w[VECS])
{
    const uint8_t *block = row + b * 34;
    float d = load_f16(block);
    for (int k = 0; k < VECS; k++)
        w[k] = d * vec_load_i8((const int8_t *)block + 2 + k * LANES);
}

/* Values 0 .. 15 looked up by the nibbles of 16 bytes, low halves first. */
#if VEC_BYTES == 64
INLINE void load_looked_up(const uint8_t *bytes, vec table, vec w[VECS])
{
    __m512i index = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)bytes)); /* its low 4 bits count */
    w[0] = (vec)_mm512_permutexvar_ps(index, (__m512)table);
    w[1] = (vec)_mm512_permutexvar_ps(_mm512_srli_epi32(index, 4), (__m512)table);
}

static const vec nibble_values = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#endif

INLINE void load_q4_0(const uint8_t *row, int64_t b, vec w[VECS])
{
    const uint8_t *block = row + b * 18;
    float d = load_f16(block);
#if VEC_BYTES == 64
    load_looked_up(block + 2, d * (nibble_values - 8.0f), w);
#else
    for (int k = 0; k < VECS / 2; k++) {
        vec low, high;
        vec_load_nibbles(block + 2 + k * LANES, &low, &high);
        w[k] = d * (low - 8.0f);
        w[k + VECS / 2] = d * (high - 8.0f);
    }
#endif
}

INLINE void load_q4_1(const uint8_t *row, int64_t b, vec w[VECS])
{
    const uint8_t *block = row + b * 20;
#if VEC_BYTES == 64
    int32_t pair; /* d and m: widened together, in turn over the lanes */
    memcpy(&pair, block, sizeof pair);
    __m512 pairs = _mm512_cvtph_ps(_mm256_set1_epi32(pair));
    load_looked_up(block + 4, (vec)_mm512_moveldup_ps(pairs) * nibble_values + (vec)_mm512_movehdup_ps(pairs),
                   w);
#else
    float d = load_f16(block), m = load_f16(block + 2);
    for (int k = 0; k < VECS / 2; k++) {
        vec low, high;
        vec_load_nibbles(block + 4 + k * LANES, &low, &high);
        w[k] = d * low + m;
        w[k + VECS / 2] = d * high + m;
    }
#endif
}

/* The last, incomplete block of a row of f32, f16 or bf16. */
INLINE void load_rest(block_load *load, const uint8_t *row, int64_t b, size_t size, int64_t rest, vec w[VECS])
{
    uint8_t block[BLOCK * 4] = {0};
    memcpy(block, row + (size_t)b * BLOCK * size, (size_t)rest * size);
    load(block, 0, w);
}

/* sums[r] += block b of x's rows times w, which is block b of a weight row. */
INLINE void add_block(const vec w[VECS], int64_t b, const float *x, int64_t x_stride, const int rows,
                      const int first, vec sums[FEW_BLOCK][SUMS])
{
    for (int k = 0; k < VECS; k++)
        for (int r = 0; r < rows; r++)
            sums[r][(first + k) % SUMS] += w[k] * vec_load(x + r * x_stride + b * BLOCK + k * LANES);
}

/* rows <= FEW_BLOCK is a constant where this is inlined. */
INLINE void dot_rows(block_load *load, size_t size, const uint8_t *weight, int64_t cols, const float *x,
                     int64_t x_stride, const int rows, float *y, int64_t y_stride)
{
    vec sums[FEW_BLOCK][SUMS] = {{{0}}}, w[VECS];
    int64_t blocks = cols / BLOCK, rest = cols % BLOCK, b = 0;
    for (; b + 2 <= blocks; b += 2) {
        load(weight, b, w);
        add_block(w, b, x, x_stride, rows, 0, sums);
        load(weight, b + 1, w);
        add_block(w, b + 1, x, x_stride, rows, VECS, sums);
    }
    if (b < blocks) {
        load(weight, b, w);
        add_block(w, b, x, x_stride, rows, 0, sums);
    }
    if (rest) {
        float padded[FEW_BLOCK][BLOCK] = {{0}};
        for (int r = 0; r < rows; r++)
            memcpy(padded[r], x + r * x_stride + blocks * BLOCK, (size_t)rest * sizeof *x);
        load_rest(load, weight, blocks, size, rest, w);
        add_block(w, 0, padded[0], BLOCK, rows, 0, sums);
    }
    for (int r = 0; r < rows; r++) {
        vec sum = sums[r][0];
        for (int s = 1; s < SUMS; s++)
            sum += sums[r][s];
        y[r * y_stride] = vec_sum(sum);
    }
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
