#include "kernels/cpu/few_rows.h"

void few_rows_range(const struct cpu_loops *loops, const struct few_source *source, int64_t first,
                    int64_t count, struct matrix x, float *out, int64_t stride)
{
    const struct weight_part *part = source->parts;
    for (; count > 0; first -= part->rows, part++) {
        size_t row_bytes = source->own_stride;
        if (first >= part->rows)
            continue;
        int64_t here = min_int64(count, part->rows - first);
        if (!row_bytes)
            dtype_row_bytes(part->type, part->cols, &row_bytes);
        loops->few_rows[part->type]((const char *)part->data + (size_t)first * row_bytes, row_bytes, here,
                                    part->cols, matrix_floats(x), x.stride, (int)x.rows, out, stride);
        out += here;
        count -= here;
        first += here;
    }
}

struct few_job {
    const struct cpu_loops *loops;
    struct few_source source;
    struct matrix x, y;
    const float *bias;
    enum op_mode mode;
    int64_t per_task;
};

enum { MOST_PER_TASK = 256 };

static void few_task(void *context, int task, int worker)
{
    const struct few_job *job = context;
    int64_t first = task * job->per_task, count = min_int64(job->per_task, job->y.cols - first);
    float sums[MATMUL_FEW_ROWS * MOST_PER_TASK];
    (void)worker;
    few_rows_range(job->loops, &job->source, first, count, job->x, sums, count);
    for (int64_t r = 0; r < job->x.rows; r++) {
        const float *sum = sums + r * count;
        float *y = matrix_floats(job->y) + r * job->y.stride + first;
        for (int64_t n = 0; n < count; n++) {
            float value = job->bias ? sum[n] + job->bias[first + n] : sum[n];
            y[n] = job->mode == OP_ADD ? y[n] + value : value;
        }
    }
}

void few_rows_matmul(struct queue *queue, struct matrix x, const struct cpu_weight *weight, struct matrix y,
                     enum op_mode mode)
{
    struct cpu_backend *backend = queue_cpu(queue);
    struct few_job job = {.loops = backend->loops,
                          .source = {.parts = weight->parts, .count = weight->part_count},
                          .x = x,
                          .y = y,
                          .bias = weight->bias,
                          .mode = mode};
    int64_t share = divide_up(y.cols, (int64_t)pool_threads(backend->pool) * 4);
    job.per_task = min_int64(max_int64(share, 16), MOST_PER_TASK);
    cpu_run(queue, divide_up(y.cols, job.per_task), few_task, &job);
}
