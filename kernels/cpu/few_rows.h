/* few_rows.h: products of at most MATMUL_FEW_ROWS rows with a weight in its file's own format. */
#ifndef OFFRAMP_KERNELS_CPU_FEW_ROWS_H
#define OFFRAMP_KERNELS_CPU_FEW_ROWS_H

#include "kernels/cpu/weight.h"

/* A weight's rows as they lie in memory: a prepared weight's parts, or one trained matrix. */
struct few_source {
    const struct weight_part *parts;
    int count;
    struct weight_part own; /* parts points here for a trained matrix */
    size_t own_stride; /* bytes; 0: parts have no gaps */
};

/* out [x.rows, count] (row stride `stride`) = x times rows [first, first + count) of the weight. */
void few_rows_range(const struct cpu_loops *loops, const struct few_source *source, int64_t first,
                    int64_t count, struct matrix x, float *out, int64_t stride);

/* op_matmul. */
void few_rows_matmul(struct queue *queue, struct matrix x, const struct cpu_weight *weight, struct matrix y,
                     enum op_mode mode);

#endif
