/* optimizer.c: Adam with decoupled weight decay. */
#include "kernels/cpu/cpu.h"

#include <math.h>

struct adam_job {
    const struct cpu_loops *loops;
    struct adam_step step;
    struct matrix gradient, value, first, second;
    int64_t per_piece;
};

static void adam_piece(void *context, int piece, int worker)
{
    const struct adam_job *job = context;
    int64_t begin = piece * job->per_piece, end = min_int64(begin + job->per_piece, job->value.rows);
    (void)worker;
    for (int64_t r = begin; r < end; r++)
        job->loops->adam(&job->step, job->value.cols, matrix_floats(job->gradient) + r * job->gradient.stride,
                         matrix_floats(job->value) + r * job->value.stride,
                         matrix_floats(job->first) + r * job->first.stride,
                         matrix_floats(job->second) + r * job->second.stride);
}

void cpu_adam(struct queue *queue, const struct adam *adam, struct matrix gradient, struct matrix value,
              struct matrix first, struct matrix second)
{
    double bias1 = 1.0 - pow(adam->beta1, (double)adam->step),
           bias2 = 1.0 - pow(adam->beta2, (double)adam->step);
    struct adam_job job = {.loops = queue_cpu(queue)->loops,
                           .step = {.clip = adam->clip,
                                    .beta1 = adam->beta1,
                                    .beta2 = adam->beta2,
                                    .epsilon = adam->epsilon,
                                    .decay = adam->rate * adam->decay,
                                    .rate = (float)(adam->rate / bias1),
                                    .second_scale = (float)(1.0 / bias2)},
                           .gradient = gradient,
                           .value = value,
                           .first = first,
                           .second = second,
                           .per_piece = rows_per_piece(value.cols)};
    cpu_run(queue, piece_count(value.rows, job.per_piece), adam_piece, &job);
}
