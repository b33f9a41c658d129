/* optimizer.cu: Adam with decoupled decay. 28 bytes a value (gradient, value and two moments read;
 * all four written), about 15 flops: bound by memory. */
#include "kernels/cuda/table.cuh"

#include <math.h>

#define THREADS 256

struct adam_factors {
    float beta1, beta2, epsilon, clip, rate, keep, correction1, correction2;
};

__global__ void adam_values(struct adam_factors f, float *gradient, int64_t gradient_stride, float *value,
                            int64_t value_stride, float *first, int64_t first_stride, float *second,
                            int64_t second_stride, int64_t rows, int64_t cols)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * cols)
        return;
    int64_t row = index / cols, col = index % cols;
    float g = gradient[row * gradient_stride + col] * f.clip;
    float m = f.beta1 * first[row * first_stride + col] + (1 - f.beta1) * g;
    float v = f.beta2 * second[row * second_stride + col] + (1 - f.beta2) * g * g;
    first[row * first_stride + col] = m;
    second[row * second_stride + col] = v;
    gradient[row * gradient_stride + col] = 0;
    float *to = value + row * value_stride + col;
    *to = *to * f.keep - f.rate * (m * f.correction1) / (sqrtf(v * f.correction2) + f.epsilon);
}

void cuda_adam(struct queue *queue, const struct adam *adam, struct matrix gradient, struct matrix value,
               struct matrix first, struct matrix second)
{
    if (value.rows * value.cols == 0)
        return;
    struct adam_factors factors = {};
    factors.beta1 = adam->beta1;
    factors.beta2 = adam->beta2;
    factors.epsilon = adam->epsilon;
    factors.clip = adam->clip;
    factors.rate = adam->rate;
    factors.keep = 1 - adam->rate * adam->decay;
    factors.correction1 = (float)(1 / (1 - pow((double)adam->beta1, (double)adam->step)));
    factors.correction2 = (float)(1 / (1 - pow((double)adam->beta2, (double)adam->step)));
    LAUNCH(adam_values, dim3(blocks_for(value.rows * value.cols, THREADS)), dim3(THREADS), 0,
           queue_stream(queue), factors, matrix_floats(gradient), gradient.stride, matrix_floats(value),
           value.stride, matrix_floats(first), first.stride, matrix_floats(second), second.stride, value.rows,
           value.cols);
    launch_ok(queue, "adam", value);
}
