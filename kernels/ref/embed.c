/* embed.c: rows of a weight by their numbers. */
#include <string.h>

#include "kernels/ref/ref.h"

void ref_embed(struct queue *queue, const struct weight *weight, struct matrix ids, struct matrix y)
{
    const float *values = ref_weight(weight)->values;
    for (int64_t m = 0; m < y.rows; m++) {
        const int32_t id = matrix_ints(ids)[m * ids.stride];
        if (id < 0 || id >= weight->rows) {
            queue_fail(queue, ERROR_INPUT, "id %d in row %lld is outside 0 .. %lld", id, (long long)m,
                       (long long)weight->rows - 1);
            return;
        }
        memcpy(matrix_floats(y) + m * y.stride, values + id * y.cols, (size_t)y.cols * sizeof *values);
    }
}
