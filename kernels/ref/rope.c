/* rope.c: rotary position embedding, and its gradient, which turns the other way. */
#include "kernels/ref/ref.h"

/* direction: of the angle, 1 or -1 */
static void rotate(struct queue *queue, struct matrix x, struct matrix positions, struct matrix table,
                   enum rope_pairs pairs, double direction)
{
    const int64_t size = table.cols, half = size / 2;
    /* Pair i of a head is values i * apart and i * apart + distance. */
    const int64_t apart = pairs == ROPE_ADJACENT ? 2 : 1, distance = pairs == ROPE_ADJACENT ? 1 : half;
    for (int64_t m = 0; m < x.rows; m++) {
        const int32_t position = matrix_ints(positions)[m * positions.stride];
        if (position < 0 || position >= table.rows) {
            queue_fail(queue, ERROR_INPUT, "position %d in row %lld is outside the table's 0 .. %lld", position,
                       (long long)m, (long long)table.rows - 1);
            return;
        }
        const float *cosine = matrix_floats(table) + position * table.stride, *sine = cosine + half;
        for (int64_t first = 0; first < x.cols; first += size)
            for (int64_t i = 0; i < half; i++) {
                float *a = matrix_floats(x) + m * x.stride + first + i * apart, *b = a + distance;
                const double c = (double)cosine[i], s = direction * (double)sine[i], old = (double)*a;
                *a = (float)(old * c - (double)*b * s);
                *b = (float)(old * s + (double)*b * c);
            }
    }
}

void ref_rope(struct queue *queue, struct matrix x, struct matrix positions, struct matrix table,
              enum rope_pairs pairs)
{
    rotate(queue, x, positions, table, pairs, 1);
}

void ref_rope_grad(struct queue *queue, struct matrix dx, struct matrix positions, struct matrix table,
                   enum rope_pairs pairs)
{
    rotate(queue, dx, positions, table, pairs, -1);
}
