/* optimizer.cu: Adam with decoupled decay. 28 bytes a value (gradient, value and two moments read;
 * all four written), about 15 flops: bound by memory. Many parameters are small, so one launch updates a
 * list of them. */
#include "kernels/cuda/table.cuh"

#include <math.h>

#define THREADS 256
#define UPDATES EMULATED_ELSE(2, 32) /* of a launch, whose arguments have 4 KB */

struct adam_factors {
    float beta1, beta2, epsilon, clip, rate, keep, correction1, correction2;
};

struct values {
    float *data;
    int64_t stride;
};

struct parameter {
    struct adam_factors factors;
    struct values gradient, value, first, second;
    int64_t cols, count; /* count: rows * cols */
    unsigned begin; /* its first block */
};

struct parameters {
    struct parameter one[UPDATES];
    int count;
};
static_assert(sizeof(struct parameters) <= 4096, "the arguments of a launch");

__global__ void adam_values(const struct parameters parameters)
{
    int which = 0;
    while (which + 1 < parameters.count && blockIdx.x >= parameters.one[which + 1].begin)
        which++;
    const struct parameter &p = parameters.one[which];
    int64_t index = (int64_t)(blockIdx.x - p.begin) * blockDim.x + threadIdx.x;
    if (index >= p.count)
        return;
    int64_t row = index / p.cols, col = index % p.cols;
    float *gradient = p.gradient.data + row * p.gradient.stride + col;
    float *first = p.first.data + row * p.first.stride + col;
    float *second = p.second.data + row * p.second.stride + col;
    float *value = p.value.data + row * p.value.stride + col;
    const struct adam_factors &f = p.factors;
    float g = *gradient * f.clip;
    float m = f.beta1 * *first + (1 - f.beta1) * g;
    float v = f.beta2 * *second + (1 - f.beta2) * g * g;
    *first = m;
    *second = v;
    *gradient = 0;
    *value = *value * f.keep - f.rate * (m * f.correction1) / (sqrtf(v * f.correction2) + f.epsilon);
}

static struct adam_factors factors_of(const struct adam *adam)
{
    struct adam_factors factors = {};
    factors.beta1 = adam->beta1;
    factors.beta2 = adam->beta2;
    factors.epsilon = adam->epsilon;
    factors.clip = adam->clip;
    factors.rate = adam->rate;
    factors.keep = 1 - adam->rate * adam->decay;
    factors.correction1 = (float)(1 / (1 - pow((double)adam->beta1, (double)adam->step)));
    factors.correction2 = (float)(1 / (1 - pow((double)adam->beta2, (double)adam->step)));
    return factors;
}

static struct values values_of(struct matrix matrix)
{
    struct values values = {matrix_floats(matrix), matrix.stride};
    return values;
}

/* Up to UPDATES of them. */
static void launch_updates(struct queue *queue, const struct adam_update *updates, int count)
{
    struct parameters parameters = {};
    unsigned blocks = 0;
    for (int i = 0; i < count; i++) {
        struct parameter *p = &parameters.one[i];
        p->factors = factors_of(&updates[i].adam);
        p->gradient = values_of(updates[i].gradient);
        p->value = values_of(updates[i].value);
        p->first = values_of(updates[i].first);
        p->second = values_of(updates[i].second);
        p->cols = updates[i].value.cols;
        p->count = updates[i].value.rows * p->cols;
        p->begin = blocks;
        blocks += blocks_for(p->count, THREADS);
    }
    parameters.count = count;
    LAUNCH(adam_values, dim3(blocks), dim3(THREADS), 0, queue_stream(queue), parameters);
    launch_ok(queue, "adam", updates->value);
}

void cuda_adam(struct queue *queue, const struct adam_update *updates, int count)
{
    for (int first = 0; first < count; first += UPDATES)
        launch_updates(queue, updates + first, count - first < UPDATES ? count - first : UPDATES);
}
