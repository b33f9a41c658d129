/* coding.c: what codecs keep of states. */
#include <math.h>
#include <stdlib.h>

#include "kernels/ref/ref.h"

static double root_mean_square(const float *row, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)row[i] * (double)row[i];
    return sqrt(sum / (double)count);
}

/* products [N]: of the row with the basis. */
static void quantise_row(const double *products, const float *offset, int64_t cols, double spacing, float scale,
                         int16_t *q, float *lost)
{
    double sum = 0;
    for (int64_t n = 0; n < cols; n++) {
        const double v = (scale > 0 ? products[n] / (double)scale / spacing : 0) - (double)offset[n];
        const double nearest = fmin(fmax(nearbyint(v), INT16_MIN), INT16_MAX);
        q[n] = (int16_t)nearest;
        sum += (v - nearest) * (v - nearest);
    }
    *lost = (float)sum;
}

void ref_quantise(struct queue *queue, struct matrix x, struct matrix basis, struct matrix offset,
                  float spacing, struct matrix q, struct matrix scale, struct matrix lost)
{
    double *products = ref_scratch(queue, q.cols);
    for (int64_t m = 0; m < x.rows && products; m++) {
        const float *row = matrix_floats(x) + m * x.stride;
        float *s = matrix_floats(scale) + m * scale.stride;
        *s = round_scale(root_mean_square(row, x.cols));
        for (int64_t n = 0; n < q.cols; n++) {
            products[n] = 0;
            for (int64_t k = 0; k < x.cols; k++)
                products[n] += (double)row[k] * (double)matrix_floats(basis)[k * basis.stride + n];
        }
        quantise_row(products, matrix_floats(offset), q.cols, (double)spacing, *s,
                     matrix_shorts(q) + m * q.stride, matrix_floats(lost) + m * lost.stride);
    }
    free(products);
}

void ref_split_planes(struct queue *queue, struct matrix x, struct matrix high, struct matrix low)
{
    (void)queue;
    for (int64_t m = 0; m < x.rows; m++)
        split_floats(matrix_floats(x) + m * x.stride, x.cols, matrix_bytes(high) + m * high.stride,
                     matrix_bytes(low) + m * low.stride);
}
