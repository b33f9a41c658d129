/* elementwise.c: ops on single values, and sums over rows. */
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

struct elementwise_job {
    struct queue *queue;
    struct matrix x, y;
    float alpha;
    int64_t per_piece;
    double *sums;
    float *row_sums;
};

static const struct cpu_loops *job_loops(const struct elementwise_job *job)
{
    return queue_cpu(job->queue)->loops;
}

static void copy_piece(void *context, int piece, int worker)
{
    const struct elementwise_job *job = context;
    size_t size = value_size(job->x.type);
    int64_t first = piece * job->per_piece, end = min_int64(first + job->per_piece, job->x.rows);
    (void)worker;
    for (int64_t r = first; r < end; r++)
        memcpy((char *)job->y.buffer->data + (size_t)(job->y.offset + r * job->y.stride) * size,
               (char *)job->x.buffer->data + (size_t)(job->x.offset + r * job->x.stride) * size,
               (size_t)job->x.cols * size);
}

void cpu_copy(struct queue *queue, struct matrix x, struct matrix y)
{
    struct elementwise_job job = {.queue = queue, .x = x, .y = y, .per_piece = rows_per_piece(x.cols)};
    cpu_run(queue, piece_count(x.rows, job.per_piece), copy_piece, &job);
}

static void axpy_piece(void *context, int piece, int worker)
{
    const struct elementwise_job *job = context;
    int64_t first = piece * job->per_piece, end = min_int64(first + job->per_piece, job->y.rows);
    (void)worker;
    for (int64_t r = first; r < end; r++)
        job_loops(job)->axpy(job->alpha, matrix_floats(job->x) + (job->x.rows == 1 ? 0 : r * job->x.stride),
                             job->y.cols, matrix_floats(job->y) + r * job->y.stride);
}

/* A one-row x goes to every row of y. */
static void add_rows(struct queue *queue, float alpha, struct matrix x, struct matrix y)
{
    struct elementwise_job job = {
        .queue = queue, .x = x, .y = y, .alpha = alpha, .per_piece = rows_per_piece(y.cols)};
    cpu_run(queue, piece_count(y.rows, job.per_piece), axpy_piece, &job);
}

void cpu_axpy(struct queue *queue, float alpha, struct matrix x, struct matrix y)
{
    add_rows(queue, alpha, x, y);
}

void cpu_add_bias(struct queue *queue, struct matrix b, struct matrix y)
{
    add_rows(queue, 1.0f, b, y);
}

/* ---- sums over rows: pieces of SUM_ROWS rows, added up in order ---- */

enum { SUM_ROWS = 64 };

static void sum_rows_piece(void *context, int piece, int worker)
{
    const struct elementwise_job *job = context;
    int64_t first = (int64_t)piece * SUM_ROWS, end = min_int64(first + SUM_ROWS, job->x.rows);
    float *sum = job->row_sums + piece * job->x.cols;
    (void)worker;
    memset(sum, 0, (size_t)job->x.cols * sizeof *sum);
    for (int64_t r = first; r < end; r++)
        job_loops(job)->axpy(1.0f, matrix_floats(job->x) + r * job->x.stride, job->x.cols, sum);
}

void cpu_sum_rows(struct queue *queue, struct matrix x, struct matrix s)
{
    struct elementwise_job job = {.queue = queue, .x = x};
    int64_t pieces = piece_count(x.rows, SUM_ROWS);
    if (!(job.row_sums = scratch_get(queue, SCRATCH_SUMS, pieces * x.cols, sizeof(float))))
        return;
    cpu_run(queue, pieces, sum_rows_piece, &job);
    for (int64_t p = 0; p < pieces; p++)
        job_loops(&job)->axpy(1.0f, job.row_sums + p * x.cols, x.cols, matrix_floats(s));
}

static void sum_squares_piece(void *context, int piece, int worker)
{
    const struct elementwise_job *job = context;
    int64_t first = piece * job->per_piece, end = min_int64(first + job->per_piece, job->x.rows);
    double sum = 0;
    (void)worker;
    for (int64_t r = first; r < end; r++)
        sum += job_loops(job)->sum_squares(matrix_floats(job->x) + r * job->x.stride, job->x.cols);
    job->sums[piece] = sum;
}

static void sum_squares(struct queue *queue, struct matrix x, struct matrix s)
{
    struct elementwise_job job = {.queue = queue, .x = x, .per_piece = rows_per_piece(x.cols)};
    int64_t pieces = piece_count(x.rows, job.per_piece);
    if (!(job.sums = scratch_get(queue, SCRATCH_SUMS, pieces, sizeof(double))))
        return;
    cpu_run(queue, pieces, sum_squares_piece, &job);
    for (int64_t p = 0; p < pieces; p++)
        *matrix_doubles(s) += job.sums[p];
}

void cpu_sum_squares(struct queue *queue, const struct square_sum *sums, int count)
{
    for (int i = 0; i < count; i++)
        sum_squares(queue, sums[i].x, sums[i].s);
}
