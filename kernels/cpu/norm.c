/* norm.c: root-mean-square norms and their gradients. */
#include "kernels/cpu/cpu.h"

#include <string.h>

struct norm_job {
    const struct cpu_loops *loops;
    struct matrix x, dy, scale, y; /* y: also m, or dx */
    float epsilon;
    bool add;
    int64_t per_task;
    float *dscale; /* [tasks, scale.cols] or NULL */
};

static void mean_square_task(void *context, int task, int worker)
{
    const struct norm_job *job = context;
    int64_t first = task * job->per_task, end = min_int64(first + job->per_task, job->x.rows);
    (void)worker;
    for (int64_t r = first; r < end; r++)
        matrix_floats(job->y)[r * job->y.stride] =
            job->loops->mean_square(matrix_floats(job->x) + r * job->x.stride, job->x.cols);
}

void cpu_mean_square(struct queue *queue, struct matrix x, struct matrix m)
{
    struct norm_job job = {.loops = queue_cpu(queue)->loops, .x = x, .y = m, .per_task = rows_per_task(x.cols)};
    cpu_run(queue, divide_up(x.rows, job.per_task), mean_square_task, &job);
}

static void norm_task(void *context, int task, int worker)
{
    const struct norm_job *job = context;
    int64_t first = task * job->per_task, end = min_int64(first + job->per_task, job->x.rows);
    int64_t group = job->scale.cols;
    (void)worker;
    for (int64_t r = first; r < end; r++)
        for (int64_t c = 0; c < job->x.cols; c += group)
            job->loops->norm(matrix_floats(job->x) + r * job->x.stride + c, matrix_floats(job->scale),
                             job->epsilon, group, matrix_floats(job->y) + r * job->y.stride + c);
}

void cpu_norm(struct queue *queue, struct matrix x, struct matrix scale, float epsilon, struct matrix y)
{
    struct norm_job job = {.loops = queue_cpu(queue)->loops,
                           .x = x,
                           .scale = scale,
                           .y = y,
                           .epsilon = epsilon,
                           .per_task = rows_per_task(x.cols)};
    cpu_run(queue, divide_up(x.rows, job.per_task), norm_task, &job);
}

static void norm_grad_task(void *context, int task, int worker)
{
    const struct norm_job *job = context;
    int64_t first = task * job->per_task, end = min_int64(first + job->per_task, job->x.rows);
    int64_t group = job->scale.cols;
    float *dscale = job->dscale ? job->dscale + task * group : NULL;
    (void)worker;
    if (dscale)
        memset(dscale, 0, (size_t)group * sizeof *dscale);
    for (int64_t r = first; r < end; r++)
        for (int64_t c = 0; c < job->x.cols; c += group)
            job->loops->norm_grad(matrix_floats(job->dy) + r * job->dy.stride + c,
                                  matrix_floats(job->x) + r * job->x.stride + c, matrix_floats(job->scale),
                                  job->epsilon, group, job->add, matrix_floats(job->y) + r * job->y.stride + c,
                                  dscale);
}

void cpu_norm_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix scale, float epsilon,
                   struct matrix dx, enum op_mode mode, struct matrix dscale)
{
    struct norm_job job = {.loops = queue_cpu(queue)->loops,
                           .x = x,
                           .dy = dy,
                           .scale = scale,
                           .y = dx,
                           .epsilon = epsilon,
                           .add = mode == OP_ADD,
                           .per_task = rows_per_task(x.cols)}; /* fixed by the shape: dscale's tasks */
    int64_t tasks = divide_up(x.rows, job.per_task);
    if (!matrix_is_none(dscale) &&
        !(job.dscale = scratch_get(queue, SCRATCH_SUMS, tasks * scale.cols, sizeof(float))))
        return;
    cpu_run(queue, tasks, norm_grad_task, &job);
    for (int64_t p = 0; job.dscale && p < tasks; p++)
        job.loops->axpy(1.0f, job.dscale + p * scale.cols, scale.cols, matrix_floats(dscale));
}
