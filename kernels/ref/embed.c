/* embed.c: rows of a weight by their numbers. */
#include <string.h>

#include "kernels/ref/ref.h"

static void take_rows(struct queue *queue, const struct weight *weight, struct matrix ids, float *to,
                      int64_t stride)
{
    const float *values = ref_weight(weight)->values;
    for (int64_t m = 0; m < ids.rows; m++) {
        const int32_t id = matrix_ints(ids)[m * ids.stride];
        if (id < 0 || id >= weight->rows) {
            queue_fail(queue, ERROR_INPUT, "id %d in row %lld is outside 0 .. %lld", id, (long long)m,
                       (long long)weight->rows - 1);
            return;
        }
        memcpy(to + m * stride, values + id * weight->cols, (size_t)weight->cols * sizeof *values);
    }
}

void ref_embed(struct queue *queue, const struct weight *weight, struct matrix ids, struct matrix y)
{
    take_rows(queue, weight, ids, matrix_floats(y), y.stride);
}

void ref_gather(struct queue *queue, const struct weight *from, struct matrix ids, struct weight *subset)
{
    take_rows(queue, from, ids, ref_weight(subset)->values, subset->cols);
}
