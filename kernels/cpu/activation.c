/* activation.c: the gated activation and its gradient. */
#include "kernels/cpu/cpu.h"

struct swiglu_job {
    const struct cpu_loops *loops;
    struct matrix x, y, dy, dx;
    int64_t per_task;
};

static void swiglu_task(void *context, int task, int worker)
{
    const struct swiglu_job *job = context;
    int64_t first = task * job->per_task, end = min_int64(first + job->per_task, job->x.rows);
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
        .loops = queue_cpu(queue)->loops, .x = x, .y = y, .per_task = rows_per_task(x.cols)};
    cpu_run(queue, divide_up(x.rows, job.per_task), swiglu_task, &job);
}

static void swiglu_grad_task(void *context, int task, int worker)
{
    const struct swiglu_job *job = context;
    int64_t first = task * job->per_task, end = min_int64(first + job->per_task, job->x.rows);
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
        .loops = queue_cpu(queue)->loops, .x = x, .dy = dy, .dx = dx, .per_task = rows_per_task(x.cols)};
    cpu_run(queue, divide_up(x.rows, job.per_task), swiglu_grad_task, &job);
}
