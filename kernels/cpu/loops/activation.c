/* activation.c: gated activation and rotary embedding. */
#include "kernels/cpu/loops/loops.h"
#include "kernels/cpu/loops/vector.h"

INLINE vec sigmoid(vec x)
{
    return 1.0f / (1.0f + vec_exp(-x));
}

void LOOP(swiglu)(const float *gate, const float *up, int64_t n, float *y)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec g = vec_load(gate + i);
        vec_store(y + i, g * sigmoid(g) * vec_load(up + i));
    }
    if (i < n) {
        vec g = vec_load_part(gate + i, n - i);
        vec_store_part(y + i, g * sigmoid(g) * vec_load_part(up + i, n - i), n - i);
    }
}

INLINE void swiglu_grad_lanes(vec dy, vec g, vec u, vec *dg, vec *du)
{
    vec s = sigmoid(g), silu = g * s;
    *du = dy * silu;
    *dg = dy * u * (s + silu * (1.0f - s));
}

void LOOP(swiglu_grad)(const float *dy, const float *gate, const float *up, int64_t n, float *dgate, float *dup)
{
    int64_t i = 0;
    vec dg, du;
    for (; i + LANES <= n; i += LANES) {
        swiglu_grad_lanes(vec_load(dy + i), vec_load(gate + i), vec_load(up + i), &dg, &du);
        vec_store(dgate + i, dg);
        vec_store(dup + i, du);
    }
    if (i < n) {
        int64_t rest = n - i;
        swiglu_grad_lanes(vec_load_part(dy + i, rest), vec_load_part(gate + i, rest),
                          vec_load_part(up + i, rest), &dg, &du);
        vec_store_part(dgate + i, dg, rest);
        vec_store_part(dup + i, du, rest);
    }
}

void LOOP(rope_halves)(float *x, const float *cosine, const float *sine, float direction, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half], s = direction * sine[i];
        x[i] = a * cosine[i] - b * s;
        x[i + half] = b * cosine[i] + a * s;
    }
}

void LOOP(rope_adjacent)(float *x, const float *cosine, const float *sine, float direction, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        float a = x[2 * i], b = x[2 * i + 1], s = direction * sine[i];
        x[2 * i] = a * cosine[i] - b * s;
        x[2 * i + 1] = b * cosine[i] + a * s;
    }
}
