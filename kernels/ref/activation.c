/* activation.c: silu(gate) * up, and its gradient. */
#include <math.h>

#include "kernels/ref/ref.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

void ref_swiglu(struct queue *queue, struct matrix x, struct matrix y)
{
    (void)queue;
    for (int64_t m = 0; m < x.rows; m++) {
        const float *gate = matrix_floats(x) + m * x.stride, *up = gate + y.cols;
        for (int64_t i = 0; i < y.cols; i++)
            matrix_floats(y)[m * y.stride + i] =
                (float)((double)gate[i] * sigmoid((double)gate[i]) * (double)up[i]);
    }
}

void ref_swiglu_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix dx)
{
    (void)queue;
    for (int64_t m = 0; m < x.rows; m++) {
        const float *gate = matrix_floats(x) + m * x.stride, *up = gate + dy.cols;
        const float *gradient = matrix_floats(dy) + m * dy.stride;
        float *dgate = matrix_floats(dx) + m * dx.stride, *dup = dgate + dy.cols;
        for (int64_t i = 0; i < dy.cols; i++) {
            const double g = (double)gate[i], s = sigmoid(g);
            dgate[i] = (float)((double)gradient[i] * (double)up[i] * s * (1 + g * (1 - s)));
            dup[i] = (float)((double)gradient[i] * g * s);
        }
    }
}
