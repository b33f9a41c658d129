/* softmax.c: attention's softmax, not divided by its sum. */
#include "kernels/cpu/loops/loops.h"

#include <math.h>

#include "kernels/cpu/loops/vector.h"

float LOOP(softmax)(const float *x, int64_t n, float *values)
{
    vec top = vec_fill(-INFINITY), sum = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        top = vec_max(top, vec_load(x + i));
    float largest = vec_largest(top);
    for (; i < n; i++)
        largest = largest > x[i] ? largest : x[i];
    for (i = 0; i + LANES <= n; i += LANES) {
        vec e = vec_exp(vec_load(x + i) - largest);
        vec_store(values + i, e);
        sum += e;
    }
    float total = vec_sum(sum);
    if (i < n) {
        vec e = vec_exp(vec_load_part(x + i, n - i) - largest);
        vec_store_part(values + i, e, n - i);
        for (int64_t k = 0; k < n - i; k++)
            total += e[k];
    }
    return total;
}

float LOOP(blocks_largest)(const float *x, int64_t x_stride, int64_t blocks, int64_t width)
{
    vec top = vec_fill(-INFINITY);
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t i = 0; i < width; i += LANES)
            top = vec_max(top, vec_load(x + b * x_stride + i));
    return vec_largest(top);
}

float LOOP(blocks_exp)(const float *x, int64_t x_stride, int64_t blocks, int64_t width, float largest,
                       float *values, uint16_t *values_bf16)
{
    vec sum = {0};
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t i = 0; i < width; i += LANES) {
            vec e = vec_exp(vec_load(x + b * x_stride + i) - largest);
            if (values)
                vec_store(values + b * width + i, e);
            else
                vec_store_bf16(values_bf16 + b * width + i, e);
            sum += e;
        }
    return vec_sum(sum);
}
