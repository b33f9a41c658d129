/* weight.c: prepared weights, held as f32 whatever they were, and the products with them. */
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "kernels/ref/ref.h"

int ref_weight_prepare(struct backend *backend, const struct weight_part *parts, int count, const float *bias,
                       unsigned uses, struct weight **result, struct error *error)
{
    const int64_t cols = parts[0].cols;
    int64_t rows = 0;
    size_t values;
    struct ref_weight *weight;
    (void)backend, (void)uses;
    for (int p = 0; p < count; p++)
        rows += parts[p].rows;
    if (!size_multiply((size_t)rows, (size_t)cols, &values))
        return error_set_kind(error, ERROR_NO_MEMORY, "a weight of [%lld, %lld] is too large", (long long)rows,
                              (long long)cols);
    if (array_alloc(&weight, 1, error) < 0)
        return -1;
    *result = &weight->common;
    if (array_alloc(&weight->values, values, error) < 0)
        goto failed;
    if (bias) {
        if (array_alloc(&weight->bias, rows, error) < 0)
            goto failed;
        memcpy(weight->bias, bias, (size_t)rows * sizeof *bias);
    }
    float *next = weight->values;
    for (int p = 0; p < count; next += parts[p].rows * cols, p++)
        dtype_to_f32(parts[p].type, parts[p].data, parts[p].rows * cols, next);
    weight->common.bytes = (values + (bias ? (size_t)rows : 0)) * sizeof(float);
    return 0;
failed:
    ref_weight_destroy(*result);
    *result = NULL;
    return -1;
}

int ref_weight_subset_create(struct backend *backend, int64_t rows, int64_t cols, struct weight **result,
                             struct error *error)
{
    struct ref_weight *weight;
    (void)backend;
    if (array_alloc(&weight, 1, error) < 0)
        return -1;
    if (array_alloc(&weight->values, rows * cols, error) < 0) {
        free(weight);
        return -1;
    }
    weight->common.bytes = (size_t)(rows * cols) * sizeof *weight->values;
    *result = &weight->common;
    return 0;
}

void ref_weight_destroy(struct weight *weight)
{
    struct ref_weight *own = (struct ref_weight *)weight;
    free(own->values);
    free(own->bias);
    free(own);
}

void ref_matmul(struct queue *queue, struct matrix x, const struct weight *weight, struct matrix y,
                enum op_mode mode)
{
    const struct ref_weight *own = ref_weight(weight);
    (void)queue;
    for (int64_t m = 0; m < x.rows; m++) {
        const float *row = matrix_floats(x) + m * x.stride;
        for (int64_t n = 0; n < y.cols; n++) {
            double sum = own->bias ? (double)own->bias[n] : 0;
            for (int64_t k = 0; k < x.cols; k++)
                sum += (double)row[k] * (double)own->values[n * x.cols + k];
            ref_put(matrix_floats(y) + m * y.stride + n, sum, mode);
        }
    }
}

void ref_matmul_grad(struct queue *queue, struct matrix dy, const struct weight *weight, struct matrix dx,
                     enum op_mode mode)
{
    const float *values = ref_weight(weight)->values;
    for (int64_t m = 0; m < dy.rows; m++) {
        const float *row = matrix_floats(dy) + m * dy.stride;
        double *sum = ref_scratch(queue, dx.cols);
        if (!sum)
            return;
        for (int64_t n = 0; n < dy.cols; n++)
            for (int64_t k = 0; k < dx.cols; k++)
                sum[k] += (double)row[n] * (double)values[n * dx.cols + k];
        for (int64_t k = 0; k < dx.cols; k++)
            ref_put(matrix_floats(dx) + m * dx.stride + k, sum[k], mode);
        free(sum);
    }
}
