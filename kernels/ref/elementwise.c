/* elementwise.c: sums and scalings value by value or row by row (op_copy is in memory.c). */
#include "kernels/ref/ref.h"

void ref_axpy(struct queue *queue, float alpha, struct matrix x, struct matrix y)
{
    (void)queue;
    for (int64_t m = 0; m < x.rows; m++)
        for (int64_t n = 0; n < x.cols; n++)
            ref_put(matrix_floats(y) + m * y.stride + n,
                    (double)alpha * (double)matrix_floats(x)[m * x.stride + n], OP_ADD);
}

void ref_add_bias(struct queue *queue, struct matrix b, struct matrix y)
{
    (void)queue;
    for (int64_t m = 0; m < y.rows; m++)
        for (int64_t n = 0; n < y.cols; n++)
            ref_put(matrix_floats(y) + m * y.stride + n, (double)matrix_floats(b)[n], OP_ADD);
}

void ref_sum_rows(struct queue *queue, struct matrix x, struct matrix s)
{
    (void)queue;
    for (int64_t n = 0; n < x.cols; n++) {
        double sum = 0;
        for (int64_t m = 0; m < x.rows; m++)
            sum += (double)matrix_floats(x)[m * x.stride + n];
        ref_put(matrix_floats(s) + n, sum, OP_ADD);
    }
}

static double row_squares(struct matrix x, int64_t row)
{
    const float *values = matrix_floats(x) + row * x.stride;
    double sum = 0;
    for (int64_t n = 0; n < x.cols; n++)
        sum += (double)values[n] * (double)values[n];
    return sum;
}

void ref_sum_squares(struct queue *queue, const struct square_sum *sums, int count)
{
    (void)queue;
    for (int i = 0; i < count; i++)
        for (int64_t m = 0; m < sums[i].x.rows; m++)
            *matrix_doubles(sums[i].s) += row_squares(sums[i].x, m);
}

void ref_mean_square(struct queue *queue, struct matrix x, struct matrix mean)
{
    (void)queue;
    for (int64_t m = 0; m < x.rows; m++)
        matrix_floats(mean)[m * mean.stride] = (float)(row_squares(x, m) / (double)x.cols);
}
