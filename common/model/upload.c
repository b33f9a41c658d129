#include "common/model/upload.h"

#include <stdlib.h>

#include "common/base/memory.h"

int floats_create(struct backend *backend, int64_t rows, int64_t cols, struct buffer **buffer,
                  struct error *error)
{
    size_t bytes;
    if (!size_multiply((size_t)rows, (size_t)cols, &bytes) || !size_multiply(bytes, sizeof(float), &bytes))
        return error_set(error, "a buffer of %lld x %lld values cannot be addressed", (long long)rows,
                         (long long)cols);
    return buffer_create(backend, bytes, buffer, error);
}

int floats_upload(struct backend *backend, const float *values, int64_t rows, int64_t cols,
                  struct buffer **buffer, struct error *error)
{
    struct queue *queue = NULL;
    int result = -1;
    if (floats_create(backend, rows, cols, buffer, error) < 0 || queue_create(backend, &queue, error) < 0)
        goto done;
    op_write(queue, matrix_f32(*buffer, rows, cols), values);
    result = queue_wait(queue, error);
done:
    queue_destroy(queue);
    return result;
}

int vector_upload(const struct model *model, int layer, enum tensor_role role, struct backend *backend,
                  struct buffer **buffer, struct error *error)
{
    const struct tensor *tensor = model_tensor(model, layer, role);
    float *values;
    if (!tensor)
        return 0;
    if (array_alloc(&values, tensor->shape[0], error) < 0)
        return -1;
    dtype_to_f32(tensor->type, tensor->data, tensor->shape[0], values);
    int result = floats_upload(backend, values, 1, tensor->shape[0], buffer, error);
    free(values);
    return result;
}

/* The biases of stacked weights one behind the other; *bias stays NULL where the model has none. */
static int stack_biases(const struct model *model, int layer, const struct block_product *products, int count,
                        float **bias, struct error *error)
{
    const struct tensor *parts[BLOCK_STACKED];
    int64_t total = 0, at = 0;
    for (int i = 0; i < count; i++) {
        parts[i] = model_tensor(model, layer, products[i].bias);
        if (!parts[i])
            return 0;
        total += parts[i]->shape[0];
    }
    if (array_alloc(bias, total, error) < 0)
        return -1;
    for (int i = 0; i < count; at += parts[i++]->shape[0])
        dtype_to_f32(parts[i]->type, parts[i]->data, parts[i]->shape[0], *bias + at);
    return 0;
}

int products_prepare(const struct model *model, int layer, const struct block_product *products, int count,
                     struct backend *backend, unsigned uses, struct weight **weight, struct error *error)
{
    struct weight_part parts[BLOCK_STACKED];
    float *bias = NULL;
    for (int i = 0; i < count; i++) {
        const struct tensor *tensor = model_tensor(model, layer, products[i].weight);
        parts[i] = (struct weight_part){tensor->type, tensor->shape[0], tensor->shape[1], tensor->data};
    }
    if (stack_biases(model, layer, products, count, &bias, error) < 0)
        return -1;
    int result = weight_prepare(backend, parts, count, bias, uses, weight, error);
    free(bias);
    return result < 0 ? error_prefix(error, "%s: %s", model_path(model), role_name(products[0].weight)) : 0;
}
