/* attend.c: one query's attention and its gradients, for decoding and short spans: reads keys and values once,
 * in order. */
#include "kernels/cpu/loops/loops.h"
#include "kernels/cpu/loops/vector.h"

/* Weights, not yet divided by their sum, which is returned. */
static float weigh(const float *query, const struct attend_keys *keys, int64_t head_size, float scale,
                   float *scores)
{
    int64_t count = 0;
    for (int i = 0; i < ATTEND_KEYS; i++)
        for (int64_t s = 0; s < keys[i].count; s++)
            scores[count++] = scale * LOOP(dot)(query, keys[i].keys + s * keys[i].key_stride, head_size);
    return LOOP(softmax)(scores, count, scores);
}

void LOOP(attend)(const float *query, const struct attend_keys *keys, int64_t head_size, float scale,
                  float *scores, float *out)
{
    float inverse = 1.0f / weigh(query, keys, head_size, scale, scores);
    int64_t d = 0;
    for (; d + 4 * LANES <= head_size; d += 4 * LANES) {
        vec sums[4] = {{0}, {0}, {0}, {0}};
        const float *weight = scores;
        for (int i = 0; i < ATTEND_KEYS; i++)
            for (int64_t s = 0; s < keys[i].count; s++, weight++)
                for (int k = 0; k < 4; k++)
                    sums[k] += *weight * vec_load(keys[i].values + s * keys[i].value_stride + d + k * LANES);
        for (int k = 0; k < 4; k++)
            vec_store(out + d + k * LANES, sums[k] * inverse);
    }
    for (; d < head_size; d += LANES) {
        int64_t width = head_size - d < LANES ? head_size - d : LANES;
        vec sum = {0};
        const float *weight = scores;
        for (int i = 0; i < ATTEND_KEYS; i++)
            for (int64_t s = 0; s < keys[i].count; s++, weight++)
                sum += *weight * vec_load_part(keys[i].values + s * keys[i].value_stride + d, width);
        vec_store_part(out + d, sum * inverse, width);
    }
}

void LOOP(attend_grad)(const float *query, const struct attend_keys *keys, int64_t head_size, float scale,
                       float *scores, const float *out, const float *dout, float *dq,
                       const struct attend_grads *grads)
{
    float inverse = 1.0f / weigh(query, keys, head_size, scale, scores);
    float mean = LOOP(dot)(dout, out, head_size);
    const float *weights = scores;
    for (int i = 0; i < ATTEND_KEYS; i++)
        for (int64_t s = 0; s < keys[i].count; s++) {
            const float *key = keys[i].keys + s * keys[i].key_stride;
            const float *value = keys[i].values + s * keys[i].value_stride;
            float weight = *weights++ * inverse;
            float slope = scale * weight * (LOOP(dot)(dout, value, head_size) - mean);
            LOOP(axpy)(slope, key, head_size, dq);
            if (grads[i].keys)
                LOOP(axpy)(slope, query, head_size, grads[i].keys + s * grads[i].key_stride);
            if (grads[i].values)
                LOOP(axpy)(weight, dout, head_size, grads[i].values + s * grads[i].value_stride);
        }
}

void LOOP(slopes)(float inverse, float mean, int64_t n, float *weights, float *dweights)
{
    for (int64_t i = 0; i < n; i++) {
        weights[i] *= inverse;
        dweights[i] = weights[i] * (dweights[i] - mean);
    }
}
