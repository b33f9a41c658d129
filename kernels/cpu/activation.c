/* activation.c: the gated activation and its gradient. */
#include "kernels/cpu/cpu.h"

struct swiglu_job {
    const struct cpu_loops *loops;
    struct matrix x, y, dy, dx;
    int64_t per_piece;
};

static void swiglu_piece(void *context, int piece, int worker)
{
    const struct swiglu_job *job = context;
    int64_t first = piece * job->per_piece, end = min_int64(first + job->per_piece, job->x.rows);
    int64_t width = job->y.cols;
    (void)worker;
    for (int64_t r = first; r < end; r++) {
        const float *gate = matrix_floats(job->x) + r * job->x.stride;
        job->loops->swiglu(gate, gate + width, width, matrix_floats(job->y) + r * job->y.stride);
    }
}

void cpu_swiglu(struct queue *queue, struct matrix x, struct matrix y)
{
    struct swiglu_job job = {
        .loops = queue_cpu(queue)->loops, .x = x, .y = y, .per_piece = rows_per_piece(x.cols)};
    cpu_run(queue, piece_count(x.rows, job.per_piece), swiglu_piece, &job);
}

static void swiglu_grad_piece(void *context, int piece, int worker)
{
    const struct swiglu_job *job = context;
    int64_t first = piece * job->per_piece, end = min_int64(first + job->per_piece, job->x.rows);
    int64_t width = job->dy.cols;
    (void)worker;
    for (int64_t r = first; r < end; r++) {
        const float *gate = matrix_floats(job->x) + r * job->x.stride;
        float *dgate = matrix_floats(job->dx) + r * job->dx.stride;
        job->loops->swiglu_grad(matrix_floats(job->dy) + r * job->dy.stride, gate, gate + width, width, dgate,
                                dgate + width);
    }
}

void cpu_swiglu_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix dx)
{
    struct swiglu_job job = {
        .loops = queue_cpu(queue)->loops, .x = x, .dy = dy, .dx = dx, .per_piece = rows_per_piece(x.cols)};
    cpu_run(queue, piece_count(x.rows, job.per_piece), swiglu_grad_piece, &job);
}
