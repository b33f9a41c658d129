/* attend.c: one query's attention, for decoding: reads keys and values once, in order. */
#include "kernels/cpu/loops/loops.h"
#include "kernels/cpu/loops/vector.h"

void LOOP(attend)(const float *query, const float *keys, int64_t key_stride, const float *values,
                  int64_t value_stride, int64_t count, int64_t head_size, float scale, float *scores,
                  float *out)
{
    for (int64_t s = 0; s < count; s++)
        scores[s] = scale * LOOP(dot)(query, keys + s * key_stride, head_size);
    float inverse = 1.0f / LOOP(softmax)(scores, count, scores);
    int64_t d = 0;
    for (; d + 4 * LANES <= head_size; d += 4 * LANES) {
        vec sums[4] = {{0}, {0}, {0}, {0}};
        for (int64_t s = 0; s < count; s++)
            for (int k = 0; k < 4; k++)
                sums[k] += scores[s] * vec_load(values + s * value_stride + d + k * LANES);
        for (int k = 0; k < 4; k++)
            vec_store(out + d + k * LANES, sums[k] * inverse);
    }
    for (; d < head_size; d += LANES) {
        int64_t width = head_size - d < LANES ? head_size - d : LANES;
        vec sum = {0};
        for (int64_t s = 0; s < count; s++)
            sum += scores[s] * vec_load_part(values + s * value_stride + d, width);
        vec_store_part(out + d, sum * inverse, width);
    }
}
