/* norm.c: root-mean-square norm of one group, forward and gradient. */
#include "kernels/cpu/loops/loops.h"

#include <math.h>

#include "kernels/cpu/loops/vector.h"

float LOOP(mean_square)(const float *x, int64_t n)
{
    vec sums[4] = {{0}, {0}, {0}, {0}};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int k = 0; k < 4; k++) {
            vec v = vec_load(x + i + k * LANES);
            sums[k] += v * v;
        }
    for (; i + LANES <= n; i += LANES) {
        vec v = vec_load(x + i);
        sums[0] += v * v;
    }
    if (i < n) {
        vec v = vec_load_part(x + i, n - i);
        sums[1] += v * v;
    }
    return vec_sum((sums[0] + sums[1]) + (sums[2] + sums[3])) / (float)n;
}

void LOOP(norm)(const float *x, const float *scale, float epsilon, int64_t n, float *y)
{
    float inverse = 1.0f / sqrtf(LOOP(mean_square)(x, n) + epsilon);
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * inverse * scale[i];
}

/* With s = scale, c = 1 / rms and x' = c x: y = s x', so
 *     dx = c (s dy - x' mean(s dy x')),   dscale = dy x'. */
void LOOP(norm_grad)(const float *dy, const float *x, const float *scale, float epsilon, int64_t n, bool add,
                     float *dx, float *dscale)
{
    float inverse = 1.0f / sqrtf(LOOP(mean_square)(x, n) + epsilon);
    vec sums[2] = {{0}, {0}};
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES)
        for (int k = 0; k < 2; k++) {
            int64_t at = i + k * LANES;
            sums[k] += vec_load(dy + at) * vec_load(scale + at) * vec_load(x + at);
        }
    for (; i + LANES <= n; i += LANES)
        sums[0] += vec_load(dy + i) * vec_load(scale + i) * vec_load(x + i);
    if (i < n)
        sums[1] += vec_load_part(dy + i, n - i) * vec_load_part(scale + i, n - i) * vec_load_part(x + i, n - i);
    float along = vec_sum(sums[0] + sums[1]) * inverse * inverse * inverse / (float)n;
    if (dscale)
        for (i = 0; i < n; i++)
            dscale[i] += dy[i] * (x[i] * inverse);
    if (add)
        for (i = 0; i < n; i++)
            dx[i] += inverse * (scale[i] * dy[i]) - along * x[i];
    else
        for (i = 0; i < n; i++)
            dx[i] = inverse * (scale[i] * dy[i]) - along * x[i];
}
