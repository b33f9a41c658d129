/* elementwise.c: ops on single values, and sums over rows. */
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

struct elementwise_job {
    struct queue *queue;
    struct matrix x, y;
    float alpha;
    int64_t per_task;
    double *sums;
    float *row_sums;
};

static const struct cpu_loops *job_loops(const struct elementwise_job *job)
{
    return queue_cpu(job->queue)->loops;
}

static void copy_task(void *context, int task, int worker)
{
    const struct elementwise_job *job = context;
    size_t size = value_size(job->x.type);
    int64_t first = task * job->per_task, end = min_int64(first + job->per_task, job->x.rows);
    (void)worker;
    for (int64_t r = first; r < end; r++)
        memcpy((char *)job->y.buffer->data + (size_t)(job->y.offset + r * job->y.stride) * size,
               (char *)job->x.buffer->data + (size_t)(job->x.offset + r * job->x.stride) * size,
               (size_t)job->x.cols * size);
}

void cpu_copy(struct queue *queue, struct matrix x, struct matrix y)
{
    struct elementwise_job job = {.queue = queue, .x = x, .y = y, .per_task = rows_per_task(x.cols)};
    cpu_run(queue, divide_up(x.rows, job.per_task), copy_task, &job);
}

static void axpy_task(void *context, int task, int worker)
{
    const struct elementwise_job *job = context;
    int64_t first = task * job->per_task, end = min_int64(first + job->per_task, job->y.rows);
    (void)worker;
    for (int64_t r = first; r < end; r++)
        job_loops(job)->axpy(job->alpha, matrix_floats(job->x) + (job->x.rows == 1 ? 0 : r * job->x.stride),
                             job->y.cols, matrix_floats(job->y) + r * job->y.stride);
}

/* A one-row x goes to every row of y. */
static void add_rows(struct queue *queue, float alpha, struct matrix x, struct matrix y)
{
    struct elementwise_job job = {
        .queue = queue, .x = x, .y = y, .alpha = alpha, .per_task = rows_per_task(y.cols)};
    cpu_run(queue, divide_up(y.rows, job.per_task), axpy_task, &job);
}

void cpu_axpy(struct queue *queue, float alpha, struct matrix x, struct matrix y)
{
    add_rows(queue, alpha, x, y);
}

void cpu_add_bias(struct queue *queue, struct matrix b, struct matrix y)
{
    add_rows(queue, 1.0f, b, y);
}

/* ---- sums over rows: tasks of SUM_ROWS rows, added up in order ---- */

enum { SUM_ROWS = 64 };

static void sum_rows_task(void *context, int task, int worker)
{
    const struct elementwise_job *job = context;
    int64_t first = (int64_t)task * SUM_ROWS, end = min_int64(first + SUM_ROWS, job->x.rows);
    float *sum = job->row_sums + task * job->x.cols;
    (void)worker;
    memset(sum, 0, (size_t)job->x.cols * sizeof *sum);
    for (int64_t r = first; r < end; r++)
        job_loops(job)->axpy(1.0f, matrix_floats(job->x) + r * job->x.stride, job->x.cols, sum);
}

void cpu_sum_rows(struct queue *queue, struct matrix x, struct matrix s)
{
    struct elementwise_job job = {.queue = queue, .x = x};
    int64_t tasks = divide_up(x.rows, SUM_ROWS);
    if (!(job.row_sums = scratch_get(queue, SCRATCH_SUMS, tasks * x.cols, sizeof(float))))
        return;
    cpu_run(queue, tasks, sum_rows_task, &job);
    for (int64_t p = 0; p < tasks; p++)
        job_loops(&job)->axpy(1.0f, job.row_sums + p * x.cols, x.cols, matrix_floats(s));
}

static void sum_squares_task(void *context, int task, int worker)
{
    const struct elementwise_job *job = context;
    int64_t first = task * job->per_task, end = min_int64(first + job->per_task, job->x.rows);
    double sum = 0;
    (void)worker;
    for (int64_t r = first; r < end; r++)
        sum += job_loops(job)->sum_squares(matrix_floats(job->x) + r * job->x.stride, job->x.cols);
    job->sums[task] = sum;
}

static void sum_squares(struct queue *queue, struct matrix x, struct matrix s)
{
    struct elementwise_job job = {.queue = queue, .x = x, .per_task = rows_per_task(x.cols)};
    int64_t tasks = divide_up(x.rows, job.per_task);
    if (!(job.sums = scratch_get(queue, SCRATCH_SUMS, tasks, sizeof(double))))
        return;
    cpu_run(queue, tasks, sum_squares_task, &job);
    for (int64_t p = 0; p < tasks; p++)
        *matrix_doubles(s) += job.sums[p];
}

void cpu_sum_squares(struct queue *queue, const struct square_sum *sums, int count)
{
    for (int i = 0; i < count; i++)
        sum_squares(queue, sums[i].x, sums[i].s);
}
