/* vocab.c: what is done to one row of logits of one part of the vocabulary. */
#include "kernels/cpu/loops/loops.h"

#include <math.h>

#include "kernels/cpu/loops/vector.h"

static float row_largest(const float *z, int64_t n)
{
    vec top = vec_fill(-INFINITY);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        top = vec_max(top, vec_load(z + i));
    float largest = vec_largest(top);
    for (; i < n; i++)
        largest = largest > z[i] ? largest : z[i];
    return largest;
}

struct lanes_sums {
    vec sum, moment, cross;
};

/* LANES values of a part; lanes from `count` on are cleared. */
INLINE vec part_lanes(vec z, vec other, float exponent, int64_t count, struct lanes_sums *sums)
{
    vec x = z - exponent * 0.693359375f;
    x = x + exponent * 2.12194440e-4f;
    vec e = vec_exp(x);
    for (int64_t k = count; k < LANES; k++)
        e[k] = 0.0f;
    sums->sum += e;
    sums->moment += e * x;
    sums->cross += e * other;
    return e;
}

INLINE void part_store(float *values, uint16_t *values_bf16, int64_t at, vec e)
{
    if (values)
        vec_store(values + at, e);
    else if (values_bf16)
        vec_store_bf16(values_bf16 + at, e);
}

void LOOP(part_softmax)(const float *z, const float *other, int64_t n, struct part_sums *sums, float *values,
                        uint16_t *values_bf16)
{
    float largest = row_largest(z, n);
    struct lanes_sums lanes = {{0}, {0}, {0}};
    if (!other)
        other = z;
    if (!(fabsf(largest) < 1e30f)) /* also NaN: no softmax to be had */
        largest = NAN;
    float exponent = ceilf(largest * 1.44269504f);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        part_store(values, values_bf16, i,
                   part_lanes(vec_load(z + i), vec_load(other + i), exponent, LANES, &lanes));
    if (i < n) {
        int64_t rest = n - i;
        vec e = part_lanes(vec_load_part(z + i, rest), vec_load_part(other + i, rest), exponent, rest, &lanes);
        uint16_t half[LANES];
        if (values)
            vec_store_part(values + i, e, rest);
        if (values_bf16) {
            vec_store_bf16(half, e);
            memcpy(values_bf16 + i, half, (size_t)rest * sizeof *half);
        }
    }
    *sums = (struct part_sums){exponent, vec_sum(lanes.sum), vec_sum(lanes.moment), vec_sum(lanes.cross)};
}

/* Every lane keeps its largest value and where it first stood. */
int64_t LOOP(part_top)(const float *z, int64_t n)
{
    vec top = vec_fill(-INFINITY);
    int_vec index = {0}, here;
    for (int k = 0; k < LANES; k++)
        here[k] = k;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES, here += LANES) {
        vec v = vec_load(z + i);
        int_vec larger = v > top;
        top = vec_select(larger, v, top);
        index = (here & larger) | (index & ~larger);
    }
    int64_t best = 0;
    float largest = -INFINITY;
    for (int k = 0; k < LANES; k++)
        if (top[k] > largest || (top[k] == largest && index[k] < best)) {
            largest = top[k];
            best = index[k];
        }
    for (; i < n; i++)
        if (z[i] > largest) {
            largest = z[i];
            best = i;
        }
    return best;
}

/* Four vectors at a time are compared with what a logit must be above, which rises: few are ever looked at one
 * by one. */
int64_t LOOP(part_best)(const float *z, int64_t n, int64_t first, float least, int64_t most,
                        struct part_best *best)
{
    enum { BLOCK = 4 * LANES };
    float below = nextafterf(least, -INFINITY);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += BLOCK) {
        const int64_t end = i + BLOCK < n ? i + BLOCK : n;
        if (end - i == BLOCK) {
            const int_vec above = (vec_load(z + i) > below) | (vec_load(z + i + LANES) > below) |
                                  (vec_load(z + i + 2 * LANES) > below) | (vec_load(z + i + 3 * LANES) > below);
            if (!vec_any(above))
                continue;
        }
        for (int64_t k = i; k < end; k++)
            if (z[k] > below) {
                count = part_best_add((struct part_best){z[k], (int32_t)(first + k)}, most, count, best);
                if (count == most)
                    below = best[most - 1].logit;
            }
    }
    return count;
}

void LOOP(part_combine)(float factor, float other_factor, const float *others, int64_t n, float *values)
{
    if (others)
        for (int64_t i = 0; i < n; i++)
            values[i] = factor * values[i] - other_factor * others[i];
    else
        for (int64_t i = 0; i < n; i++)
            values[i] *= factor;
}

void LOOP(part_combine_bf16)(float factor, float other_factor, const uint16_t *others, int64_t n,
                             uint16_t *values)
{
    int64_t i = 0;
    if (others)
        for (; i + LANES <= n; i += LANES)
            vec_store_bf16(values + i,
                           factor * vec_load_bf16(values + i) - other_factor * vec_load_bf16(others + i));
    else
        for (; i + LANES <= n; i += LANES)
            vec_store_bf16(values + i, factor * vec_load_bf16(values + i));
    if (i < n) {
        uint16_t value[LANES] = {0}, other[LANES] = {0};
        memcpy(value, values + i, (size_t)(n - i) * sizeof *value);
        if (others)
            memcpy(other, others + i, (size_t)(n - i) * sizeof *other);
        vec_store_bf16(value, factor * vec_load_bf16(value) - other_factor * vec_load_bf16(other));
        memcpy(values + i, value, (size_t)(n - i) * sizeof *value);
    }
}
