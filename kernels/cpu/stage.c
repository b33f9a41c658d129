#include "kernels/cpu/stage.h"

#include <string.h>

const void *stage_left(const struct cpu_loops *loops, bool bf16, struct matrix x, int64_t first, int64_t rows,
                       int64_t padded, void *space)
{
    const float *source = matrix_floats(x) + first * x.stride;
    if (!bf16 && rows == padded && x.stride == x.cols)
        return source;
    for (int64_t r = 0; r < rows; r++) {
        if (bf16)
            loops->round_bf16(source + r * x.stride, x.cols, (uint16_t *)space + r * x.cols);
        else
            memcpy((float *)space + r * x.cols, source + r * x.stride, (size_t)x.cols * sizeof(float));
    }
    size_t row = (size_t)x.cols * operand_size(bf16);
    memset((char *)space + (size_t)rows * row, 0, (size_t)(padded - rows) * row);
    return space;
}

const void *stage_transposed(const struct cpu_loops *loops, struct matrix x, int64_t row, int64_t count,
                             int64_t first, int64_t cols, int64_t padded, const float *weights, float *space,
                             uint16_t *space_bf16)
{
    loops->transpose(matrix_floats(x) + row * x.stride + first, x.stride, count, cols, space, count);
    memset(space + cols * count, 0, (size_t)((padded - cols) * count) * sizeof *space);
    for (int64_t c = 0; weights && c < cols; c++)
        loops->multiply(weights, count, space + c * count);
    if (!space_bf16)
        return space;
    loops->round_bf16(space, padded * count, space_bf16);
    return space_bf16;
}

enum { BAND = 64 }; /* rows of the right side that one task fills */

struct right_job {
    const struct cpu_loops *loops;
    struct matrix x;
    bool bf16, transpose;
    int64_t inner, cols;
    void *right; /* [inner, cols] */
    float *bands; /* per worker [BAND, cols], for transposing to bf16 */
};

static void right_task(void *context, int task, int worker)
{
    const struct right_job *job = context;
    int64_t first = (int64_t)task * BAND, count = min_int64(BAND, job->inner - first);
    const float *source = matrix_floats(job->x);
    if (job->transpose) {
        float *band =
            job->bf16 ? job->bands + worker * BAND * job->cols : (float *)job->right + first * job->cols;
        job->loops->transpose(source + first, job->x.stride, job->cols, count, band, job->cols);
        if (job->bf16)
            job->loops->round_bf16(band, count * job->cols, (uint16_t *)job->right + first * job->cols);
        return;
    }
    stage_left(job->loops, job->bf16, job->x, first, count, count,
               (char *)job->right + (size_t)(first * job->cols) * operand_size(job->bf16));
}

struct product_right stage_right(struct queue *queue, bool bf16, struct matrix x, bool transpose)
{
    struct cpu_backend *backend = queue_cpu(queue);
    struct right_job job = {.loops = backend->loops,
                            .x = x,
                            .bf16 = bf16,
                            .transpose = transpose,
                            .inner = transpose ? x.cols : x.rows,
                            .cols = transpose ? x.rows : x.cols};
    struct product_right right = {0};
    if (!bf16 && !transpose && x.stride == x.cols) {
        right.plain = matrix_floats(x);
        return right;
    }
    job.right = scratch_get(queue, SCRATCH_RIGHT, job.inner * job.cols, operand_size(bf16));
    job.bands = transpose && bf16
                    ? scratch_get(queue, SCRATCH_RESULT, (int64_t)pool_threads(backend->pool) * BAND * job.cols,
                                  sizeof(float))
                    : NULL;
    cpu_run(queue, divide_up(job.inner, BAND), right_task, &job);
    right.plain = queue->failed ? NULL : job.right;
    return right;
}

float *result_open(struct matrix y, int64_t row, int64_t rows, enum op_mode mode, float *space)
{
    bool in_place = mode == OP_STORE && rows == padded_rows(rows) && y.stride == y.cols;
    return in_place ? matrix_floats(y) + row * y.stride : space;
}

void result_close(const struct cpu_loops *loops, float *result, const float *bias, struct matrix y, int64_t row,
                  int64_t rows, enum op_mode mode)
{
    float *to = matrix_floats(y) + row * y.stride;
    for (int64_t r = 0; r < rows; r++, result += y.cols, to += y.stride) {
        if (bias)
            loops->axpy(1.0f, bias, y.cols, result);
        if (mode == OP_ADD)
            loops->axpy(1.0f, result, y.cols, to);
        else if (result != to)
            memcpy(to, result, (size_t)y.cols * sizeof *to);
    }
}
