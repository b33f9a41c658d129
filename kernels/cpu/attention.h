/* attention.h: what attention and its gradients share. */
#ifndef OFFRAMP_KERNELS_CPU_ATTENTION_H
#define OFFRAMP_KERNELS_CPU_ATTENTION_H

#include "kernels/cpu/cpu.h"

enum {
    TILE = TILE_ROWS, /* of queries, and a block of keys */
    STACK_MOST = 4 /* heads that stand one below the other */
};

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

static inline bool has_few_queries(const struct attention_span *span)
{
    return span->queries <= MATMUL_FEW_ROWS;
}

/* Heads that share a key head, as many as may stand in a stack. */
static inline int64_t heads_in_stack(const struct attention *shape)
{
    int64_t sharing = shape->heads / shape->kv_heads, stack = min_int64(sharing, STACK_MOST);
    while (sharing % stack != 0)
        stack--;
    return stack;
}

/* ---- attention.c ---- */

/* Scores of keys that the query at `position` may not see become -infinity: of `blocks` blocks of TILE keys, from
 * block first_block on, `stride` apart. */
void mask_scores(const struct attention *shape, int64_t position, int64_t first_block, int64_t blocks,
                 float *row, int64_t stride);

/* The keys that query `query` of a span sees with key head `head`. */
void list_keys(const struct attention *shape, const struct attention_span *span, int64_t query, int64_t head,
               struct attend_keys keys[ATTEND_KEYS]);

#endif
