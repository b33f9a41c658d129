/* attention.c: causal softmax attention, one query at a time. */
#include <math.h>
#include <stdlib.h>

#include "kernels/ref/ref.h"

/* One query of one head over keys first .. last of its span, whose rows start at k and v. */
static void attend(const struct attention *attention, const float *q, const float *k, int64_t k_stride,
                   const float *v, int64_t v_stride, int64_t first, int64_t last, double *weight, float *out)
{
    const int size = attention->head_size;
    double largest = -INFINITY, total = 0;
    for (int64_t key = first; key <= last; key++) {
        double dot = 0;
        for (int i = 0; i < size; i++)
            dot += (double)q[i] * (double)k[key * k_stride + i];
        weight[key] = dot * (double)attention->scale;
        largest = fmax(largest, weight[key]);
    }
    for (int64_t key = first; key <= last; key++)
        total += weight[key] = exp(weight[key] - largest);
    for (int i = 0; i < size; i++) {
        double sum = 0;
        for (int64_t key = first; key <= last; key++)
            sum += weight[key] * (double)v[key * v_stride + i];
        out[i] = (float)(sum / total);
    }
}

void ref_attention(struct queue *queue, const struct attention *attention, struct matrix q,
                   const struct attention_span *spans, int count, struct matrix out)
{
    const int group = attention->heads / attention->kv_heads, size = attention->head_size;
    int64_t row = 0;
    for (int i = 0; i < count; i++) {
        const struct matrix k = spans[i].k, v = spans[i].v;
        double *weight = ref_scratch(queue, k.rows);
        if (!weight)
            return;
        for (int64_t last = k.rows - spans[i].queries; last < k.rows; last++, row++) {
            const int64_t first =
                attention->window && last >= attention->window ? last - attention->window + 1 : 0;
            for (int head = 0; head < attention->heads; head++) {
                const int64_t col = (int64_t)head * size, kv_col = (int64_t)(head / group) * size;
                attend(attention, matrix_floats(q) + row * q.stride + col, matrix_floats(k) + kv_col, k.stride,
                       matrix_floats(v) + kv_col, v.stride, first, last, weight,
                       matrix_floats(out) + row * out.stride + col);
            }
        }
        free(weight);
    }
}
