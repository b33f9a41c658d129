/* gemm.c: products of two buffers. */
#include "kernels/ref/ref.h"

void ref_gemm(struct queue *queue, struct matrix a, bool transpose_a, struct matrix b, bool transpose_b,
              struct matrix c, enum op_mode mode)
{
    /* op(a)[m, k] stands at m * a_m + k * a_k, op(b)[k, n] at k * b_k + n * b_n. */
    const int64_t a_m = transpose_a ? 1 : a.stride, a_k = transpose_a ? a.stride : 1;
    const int64_t b_k = transpose_b ? 1 : b.stride, b_n = transpose_b ? b.stride : 1;
    const int64_t length = transpose_a ? a.rows : a.cols;
    (void)queue;
    for (int64_t m = 0; m < c.rows; m++)
        for (int64_t n = 0; n < c.cols; n++) {
            double sum = 0;
            for (int64_t k = 0; k < length; k++)
                sum +=
                    (double)matrix_floats(a)[m * a_m + k * a_k] * (double)matrix_floats(b)[k * b_k + n * b_n];
            ref_put(matrix_floats(c) + m * c.stride + n, sum, mode);
        }
}

void ref_gram(struct queue *queue, struct matrix x, struct matrix y, struct matrix w, struct matrix g)
{
    (void)queue;
    for (int64_t m = 0; m < x.rows; m++)
        for (int64_t k = 0; k < x.cols; k++) {
            const double weighted =
                (double)matrix_floats(w)[m * w.stride] * (double)matrix_floats(x)[m * x.stride + k];
            for (int64_t n = 0; n < y.cols; n++)
                matrix_doubles(g)[k * g.stride + n] += weighted * (double)matrix_floats(y)[m * y.stride + n];
        }
}
