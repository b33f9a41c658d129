/* optimizer.c: Adam with decoupled weight decay. */
#include "kernels/cpu/cpu.h"

#include <math.h>

struct adam_job {
    const struct cpu_loops *loops;
    struct adam_step step;
    const struct adam_update *update;
    int64_t per_task;
};

static void adam_task(void *context, int task, int worker)
{
    const struct adam_job *job = context;
    const struct adam_update *update = job->update;
    int64_t begin = task * job->per_task, end = min_int64(begin + job->per_task, update->value.rows);
    (void)worker;
    for (int64_t r = begin; r < end; r++)
        job->loops->adam(&job->step, update->value.cols,
                         matrix_floats(update->gradient) + r * update->gradient.stride,
                         matrix_floats(update->value) + r * update->value.stride,
                         matrix_floats(update->first) + r * update->first.stride,
                         matrix_floats(update->second) + r * update->second.stride);
}

void cpu_adam(struct queue *queue, const struct adam_update *updates, int count)
{
    for (int i = 0; i < count; i++) {
        const struct adam *adam = &updates[i].adam;
        const struct matrix value = updates[i].value;
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
                               .update = &updates[i],
                               .per_task = rows_per_task(value.cols)};
        cpu_run(queue, divide_up(value.rows, job.per_task), adam_task, &job);
    }
}
