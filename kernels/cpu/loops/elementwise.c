/* elementwise.c: plain loops over neighbouring values, and sums over them. */
#include "kernels/cpu/loops/loops.h"

#include <math.h>

#include "kernels/cpu/loops/vector.h"

void LOOP(axpy)(float alpha, const float *x, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += alpha * x[i];
}

void LOOP(scale)(float alpha, const float *x, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = alpha * x[i];
}

void LOOP(multiply)(const float *x, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] *= x[i];
}

void LOOP(add_double)(const float *x, int64_t n, double *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

double LOOP(sum_squares)(const float *x, int64_t n)
{
    enum { SUMS = 16 };
    double sums[SUMS] = {0}, total = 0;
    int64_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (int k = 0; k < SUMS; k++)
            sums[k] += (double)x[i + k] * x[i + k];
    for (; i < n; i++)
        total += (double)x[i] * x[i];
    for (int k = 0; k < SUMS; k++)
        total += sums[k];
    return total;
}

float LOOP(dot)(const float *x, const float *y, int64_t n)
{
    vec a = {0}, b = {0};
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        a += vec_load(x + i) * vec_load(y + i);
        b += vec_load(x + i + LANES) * vec_load(y + i + LANES);
    }
    for (; i + LANES <= n; i += LANES)
        a += vec_load(x + i) * vec_load(y + i);
    if (i < n)
        b += vec_load_part(x + i, n - i) * vec_load_part(y + i, n - i);
    return vec_sum(a + b);
}

void LOOP(adam)(const struct adam_step *step, int64_t n, float *gradient, float *value, float *first,
                float *second)
{
    struct adam_step s = *step;
    for (int64_t i = 0; i < n; i++) {
        float g = gradient[i] * s.clip;
        first[i] = s.beta1 * first[i] + (1.0f - s.beta1) * g;
        second[i] = s.beta2 * second[i] + (1.0f - s.beta2) * g * g;
        value[i] -= s.decay * value[i] + s.rate * first[i] / (sqrtf(second[i] * s.second_scale) + s.epsilon);
        gradient[i] = 0.0f;
    }
}
