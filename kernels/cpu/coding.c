/* coding.c: what codecs keep of states. Programs have codecs' own loops do it on a processor (common/codec), so
 * these are plain. */
#include "kernels/cpu/cpu.h"

#include <math.h>

struct quantise_job {
    struct matrix x, products, offset, q, scale, lost;
    float spacing;
    int64_t per_task;
};

static double root_mean_square(const float *row, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)row[i] * (double)row[i];
    return sqrt(sum / (double)count);
}

static void quantise_row(const struct quantise_job *job, int64_t r)
{
    const float *products = matrix_floats(job->products) + r * job->products.stride;
    const float *offset = matrix_floats(job->offset);
    int16_t *q = matrix_shorts(job->q) + r * job->q.stride;
    const float scale = round_scale(root_mean_square(matrix_floats(job->x) + r * job->x.stride, job->x.cols));
    const float by_scale = scale > 0 ? 1 / scale : 0, by_spacing = 1 / job->spacing;
    double lost = 0;
    for (int64_t c = 0; c < job->q.cols; c++) {
        const float v = products[c] * by_scale * by_spacing - offset[c];
        const float nearest = fminf(fmaxf(rintf(v), INT16_MIN), INT16_MAX);
        q[c] = (int16_t)nearest;
        lost += (double)(v - nearest) * (double)(v - nearest);
    }
    matrix_floats(job->scale)[r * job->scale.stride] = isfinite(lost) ? scale : NAN;
    matrix_floats(job->lost)[r * job->lost.stride] = (float)lost;
}

static void quantise_task(void *context, int task, int worker)
{
    const struct quantise_job *job = context;
    const int64_t first = task * job->per_task, end = min_int64(first + job->per_task, job->x.rows);
    (void)worker;
    for (int64_t r = first; r < end; r++)
        quantise_row(job, r);
}

void cpu_quantise(struct queue *queue, struct matrix x, struct matrix basis, struct matrix offset,
                  float spacing, struct matrix q, struct matrix scale, struct matrix lost)
{
    struct quantise_job job = {.x = x,
                               .offset = offset,
                               .q = q,
                               .scale = scale,
                               .lost = lost,
                               .spacing = spacing,
                               .per_task = rows_per_task(q.cols)};
    struct buffer products = {.data = scratch_get(queue, SCRATCH_COEFFICIENTS, x.rows * q.cols, sizeof(float))};
    if (!products.data)
        return;
    job.products = matrix_f32(&products, x.rows, q.cols);
    cpu_product_f32(queue, x, basis, job.products);
    cpu_run(queue, divide_up(x.rows, job.per_task), quantise_task, &job);
}

struct split_job {
    struct matrix x, high, low;
    int64_t per_task;
};

static void split_task(void *context, int task, int worker)
{
    const struct split_job *job = context;
    const int64_t first = task * job->per_task, end = min_int64(first + job->per_task, job->x.rows);
    (void)worker;
    for (int64_t r = first; r < end; r++)
        split_floats(matrix_floats(job->x) + r * job->x.stride, job->x.cols,
                     matrix_bytes(job->high) + r * job->high.stride,
                     matrix_bytes(job->low) + r * job->low.stride);
}

void cpu_split_planes(struct queue *queue, struct matrix x, struct matrix high, struct matrix low)
{
    struct split_job job = {x, high, low, rows_per_task(x.cols)};
    cpu_run(queue, divide_up(x.rows, job.per_task), split_task, &job);
}
