/* convert.c: number formats and layouts. */
#include "kernels/cpu/loops/loops.h"
#include "kernels/cpu/loops/vector.h"

void LOOP(round_bf16)(const float *x, int64_t n, uint16_t *y)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store_bf16(y + i, vec_load(x + i));
    if (i < n) {
        uint16_t rest[LANES];
        vec_store_bf16(rest, vec_load_part(x + i, n - i));
        memcpy(y + i, rest, (size_t)(n - i) * sizeof *y);
    }
}

void LOOP(widen_bf16)(const void *x, int64_t n, float *y)
{
    const char *bytes = x;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, vec_load_bf16(bytes + 2 * i));
    for (; i < n; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        uint32_t bits = (uint32_t)half << 16;
        memcpy(y + i, &bits, sizeof bits);
    }
}

typedef float quad __attribute__((vector_size(16)));

INLINE quad quad_load(const float *x)
{
    quad q;
    memcpy(&q, x, sizeof q);
    return q;
}

INLINE void quad_store(float *x, quad q)
{
    memcpy(x, &q, sizeof q);
}

/* y [4, 4] = x [4, 4] transposed. */
INLINE void transpose_quad(const float *x, int64_t x_stride, float *y, int64_t y_stride)
{
    quad a = quad_load(x), b = quad_load(x + x_stride);
    quad c = quad_load(x + 2 * x_stride), d = quad_load(x + 3 * x_stride);
    quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5),
         ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5),
         cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    quad_store(y, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
    quad_store(y + y_stride, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
    quad_store(y + 2 * y_stride, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
    quad_store(y + 3 * y_stride, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

void LOOP(transpose)(const float *x, int64_t x_stride, int64_t rows, int64_t cols, float *y, int64_t y_stride)
{
    enum { BAND = 16 }; /* columns at a time: their cache lines of y stay near */
    for (int64_t band = 0; band < cols; band += BAND) {
        int64_t end = band + BAND < cols ? band + BAND : cols, r = 0;
        for (; r + 4 <= rows; r += 4) {
            int64_t c = band;
            for (; c + 4 <= end; c += 4)
                transpose_quad(x + r * x_stride + c, x_stride, y + c * y_stride + r, y_stride);
            for (; c < end; c++)
                for (int64_t i = r; i < r + 4; i++)
                    y[c * y_stride + i] = x[i * x_stride + c];
        }
        for (; r < rows; r++)
            for (int64_t c = band; c < end; c++)
                y[c * y_stride + r] = x[r * x_stride + c];
    }
}
