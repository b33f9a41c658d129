/* memory.c: backend, queue and buffers of ref: host memory, and ops that run at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "kernels/ref/ref.h"

int ref_open(const struct backend_options *options, struct backend **backend, struct error *error)
{
    (void)options; /* ops run in the caller's thread */
    if (array_alloc(backend, 1, error) < 0)
        return -1;
    snprintf((*backend)->identity, sizeof(*backend)->identity, "ref");
    snprintf((*backend)->description, sizeof(*backend)->description, "ref (1 thread)");
    return 0;
}

void ref_close(struct backend *backend)
{
    free(backend);
}

int ref_queue_create(struct backend *backend, struct queue **queue, struct error *error)
{
    (void)backend;
    return array_alloc(queue, 1, error);
}

void ref_queue_destroy(struct queue *queue)
{
    free(queue);
}

int ref_queue_wait(struct queue *queue, struct error *error)
{
    (void)queue, (void)error;
    return 0;
}

int ref_buffer_create(struct backend *backend, size_t bytes, struct buffer **buffer, struct error *error)
{
    (void)backend;
    if (array_alloc(buffer, 1, error) < 0)
        return -1;
    (*buffer)->data = memory_alloc(bytes, 1, error);
    if ((*buffer)->data)
        return 0;
    free(*buffer);
    *buffer = NULL;
    return -1;
}

void ref_buffer_destroy(struct buffer *buffer)
{
    free(buffer->data);
    free(buffer);
}

double *ref_scratch(struct queue *queue, int64_t count)
{
    struct error error;
    double *values = memory_alloc((size_t)count, sizeof *values, &error);
    if (!values)
        queue_fail(queue, error.kind, "%s", error.text);
    return values;
}

static char *row_of(struct matrix matrix, int64_t row)
{
    return (char *)matrix.buffer->data +
           (size_t)(matrix.offset + row * matrix.stride) * value_size(matrix.type);
}

void ref_write(struct queue *queue, struct matrix matrix, const void *source)
{
    const size_t bytes = (size_t)matrix.cols * value_size(matrix.type);
    (void)queue;
    for (int64_t row = 0; row < matrix.rows; row++)
        memcpy(row_of(matrix, row), (const char *)source + (size_t)row * bytes, bytes);
}

void ref_write_bf16(struct queue *queue, struct matrix matrix, const void *source)
{
    const size_t bytes = (size_t)matrix.cols * sizeof(uint16_t);
    (void)queue;
    for (int64_t row = 0; row < matrix.rows; row++)
        dtype_to_f32(DTYPE_BF16, (const char *)source + (size_t)row * bytes, matrix.cols,
                     (float *)row_of(matrix, row));
}

void ref_read(struct queue *queue, struct matrix matrix, void *destination)
{
    const size_t bytes = (size_t)matrix.cols * value_size(matrix.type);
    (void)queue;
    for (int64_t row = 0; row < matrix.rows; row++)
        memcpy((char *)destination + (size_t)row * bytes, row_of(matrix, row), bytes);
}

void ref_read_rounded(struct queue *queue, struct matrix matrix, float *destination)
{
    ref_read(queue, matrix, destination);
    round_floats(destination, matrix.rows * matrix.cols);
}

void ref_copy(struct queue *queue, struct matrix x, struct matrix y)
{
    (void)queue;
    for (int64_t row = 0; row < x.rows; row++)
        memcpy(row_of(y, row), row_of(x, row), (size_t)x.cols * value_size(x.type));
}
