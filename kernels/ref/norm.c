/* norm.c: root-mean-square norm of groups of columns, and its gradient. */
#include <math.h>
#include <stdlib.h>

#include "kernels/ref/ref.h"

/* 1 / sqrt(mean(x^2) + epsilon) of one group. */
static double inverse_rms(const float *x, int64_t size, float epsilon)
{
    double sum = 0;
    for (int64_t i = 0; i < size; i++)
        sum += (double)x[i] * (double)x[i];
    return 1 / sqrt(sum / (double)size + (double)epsilon);
}

void ref_norm(struct queue *queue, struct matrix x, struct matrix scale, float epsilon, struct matrix y)
{
    const int64_t size = scale.cols;
    (void)queue;
    for (int64_t m = 0; m < x.rows; m++)
        for (int64_t first = 0; first < x.cols; first += size) {
            const float *group = matrix_floats(x) + m * x.stride + first;
            float *out = matrix_floats(y) + m * y.stride + first;
            const double r = inverse_rms(group, size, epsilon);
            for (int64_t i = 0; i < size; i++)
                out[i] = (float)((double)group[i] * r * (double)matrix_floats(scale)[i]);
        }
}

/* With n = x r, r = inverse_rms(x):  dx = r (dy scale - n mean(dy scale n)),  dscale += dy n. */
void ref_norm_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix scale, float epsilon,
                   struct matrix dx, enum op_mode mode, struct matrix dscale)
{
    const int64_t size = scale.cols;
    const float *weight = matrix_floats(scale);
    double *sums = ref_scratch(queue, size); /* of dscale, over rows and groups */
    if (!sums)
        return;
    for (int64_t m = 0; m < x.rows; m++)
        for (int64_t first = 0; first < x.cols; first += size) {
            const float *in = matrix_floats(x) + m * x.stride + first;
            const float *gradient = matrix_floats(dy) + m * dy.stride + first;
            float *out = matrix_floats(dx) + m * dx.stride + first;
            const double r = inverse_rms(in, size, epsilon);
            double mean = 0;
            for (int64_t i = 0; i < size; i++) {
                sums[i] += (double)gradient[i] * (double)in[i] * r;
                mean += (double)gradient[i] * (double)weight[i] * (double)in[i] * r / (double)size;
            }
            for (int64_t i = 0; i < size; i++)
                ref_put(out + i, r * ((double)gradient[i] * (double)weight[i] - (double)in[i] * r * mean),
                        mode);
        }
    for (int64_t i = 0; i < size && !matrix_is_none(dscale); i++)
        ref_put(matrix_floats(dscale) + i, sums[i], OP_ADD);
    free(sums);
}
