/* attention.h: what attention and its gradients share. */
#ifndef OFFRAMP_KERNELS_CPU_ATTENTION_H
#define OFFRAMP_KERNELS_CPU_ATTENTION_H

#include "kernels/cpu/cpu.h"

/* The keys that the query at `position` sees: [first, position]. */
static inline int64_t first_key(const struct attention *shape, int64_t position)
{
    return shape->window > 0 ? max_int64(0, position - shape->window + 1) : 0;
}

/* Own keys of each of the span's queries. */
static inline int64_t own_keys(const struct attention *shape, const struct attention_span *span)
{
    return span->own_k.cols / ((int64_t)shape->kv_heads * shape->head_size);
}

static inline float *head_row(struct matrix m, int64_t row, int64_t head, int64_t head_size)
{
    return matrix_floats(m) + row * m.stride + head * head_size;
}

/* attention.c: the keys that query `query` of a span sees with key head `head`. */
void list_keys(const struct attention *shape, const struct attention_span *span, int64_t query, int64_t head,
               struct attend_keys keys[ATTEND_KEYS]);

#endif
