/* rope.c: rotary embedding, in place, and its gradient, which turns the other way. */
#include "kernels/cpu/cpu.h"

struct rope_job {
    struct matrix x, positions, table;
    void (*rotate)(float *x, const float *cosine, const float *sine, float direction, int64_t half);
    float direction; /* of the angle: 1 or -1 */
    int64_t per_task;
};

static void rope_task(void *context, int task, int worker)
{
    const struct rope_job *job = context;
    int64_t first = task * job->per_task, end = min_int64(first + job->per_task, job->x.rows);
    int64_t head_size = job->table.cols;
    (void)worker;
    for (int64_t r = first; r < end; r++) {
        float *row = matrix_floats(job->x) + r * job->x.stride;
        int64_t position = matrix_ints(job->positions)[r * job->positions.stride];
        const float *cosine = matrix_floats(job->table) + position * job->table.stride;
        for (int64_t c = 0; c < job->x.cols; c += head_size)
            job->rotate(row + c, cosine, cosine + head_size / 2, job->direction, head_size / 2);
    }
}

static void rotate(struct queue *queue, struct matrix x, struct matrix positions, struct matrix table,
                   enum rope_pairs pairs, float direction)
{
    const struct cpu_loops *loops = queue_cpu(queue)->loops;
    struct rope_job job = {.x = x,
                           .positions = positions,
                           .table = table,
                           .rotate = pairs == ROPE_HALVES ? loops->rope_halves : loops->rope_adjacent,
                           .direction = direction,
                           .per_task = rows_per_task(x.cols)};
    for (int64_t r = 0; r < positions.rows; r++) {
        int64_t position = matrix_ints(positions)[r * positions.stride];
        if (position < 0 || position >= table.rows) {
            queue_fail(queue, ERROR_INPUT, "position %lld in row %lld is outside the table's 0 .. %lld",
                       (long long)position, (long long)r, (long long)table.rows - 1);
            return;
        }
    }
    cpu_run(queue, divide_up(x.rows, job.per_task), rope_task, &job);
}

void cpu_rope(struct queue *queue, struct matrix x, struct matrix positions, struct matrix table,
              enum rope_pairs pairs)
{
    rotate(queue, x, positions, table, pairs, 1);
}

void cpu_rope_grad(struct queue *queue, struct matrix dx, struct matrix positions, struct matrix table,
                   enum rope_pairs pairs)
{
    rotate(queue, dx, positions, table, pairs, -1);
}
