/* embed.c: rows of a weight in its file's own format. */
#include "kernels/cpu/weight.h"

struct embed_job {
    const struct cpu_weight *weight;
    struct matrix ids, y;
    int64_t per_task;
};

static void embed_task(void *context, int task, int worker)
{
    const struct embed_job *job = context;
    int64_t first = task * job->per_task, end = min_int64(first + job->per_task, job->y.rows);
    (void)worker;
    for (int64_t r = first; r < end; r++) {
        const struct weight_part *part = job->weight->parts;
        int64_t id = matrix_ints(job->ids)[r * job->ids.stride];
        size_t row_bytes = 0;
        for (; id >= part->rows; part++)
            id -= part->rows;
        dtype_row_bytes(part->type, part->cols, &row_bytes);
        dtype_to_f32(part->type, (const char *)part->data + (size_t)id * row_bytes, part->cols,
                     matrix_floats(job->y) + r * job->y.stride);
    }
}

void cpu_embed(struct queue *queue, const struct weight *base, struct matrix ids, struct matrix y)
{
    const struct cpu_weight *weight = (const struct cpu_weight *)base;
    struct embed_job job = {.weight = weight, .ids = ids, .y = y, .per_task = rows_per_task(y.cols)};
    for (int64_t r = 0; r < ids.rows; r++) {
        int64_t id = matrix_ints(ids)[r * ids.stride];
        if (id < 0 || id >= weight->base.rows) {
            queue_fail(queue, ERROR_INPUT, "id %lld in row %lld is outside 0 .. %lld", (long long)id,
                       (long long)r, (long long)weight->base.rows - 1);
            return;
        }
    }
    cpu_run(queue, divide_up(y.rows, job.per_task), embed_task, &job);
}

void cpu_gather(struct queue *queue, const struct weight *from, struct matrix ids, struct weight *base)
{
    const struct cpu_weight *subset = (const struct cpu_weight *)base;
    struct buffer values = {base->backend, (size_t)(base->rows * base->cols) * sizeof(float), subset->values};
    cpu_embed(queue, from, ids, matrix_f32(&values, base->rows, base->cols));
    if (!queue->failed)
        subset_pack(queue, subset);
}
