/* transfer.cu: between host and device. Both ways go through page-locked memory in pieces that take turns, on
 * streams of their own, so that the device computes meanwhile. */
#include "kernels/cuda/table.cuh"

#include <string.h>

/* ---- weights to the device ---- */

/* Waits until the half may be filled again, and counts what sending it took. */
static cudaError_t staging_finish(struct cuda_backend *backend, size_t half)
{
    struct staging *staging = &backend->staging;
    if (!staging->sending[half])
        return cudaSuccess;
    staging->sending[half] = false;
    cudaError_t status = cudaEventSynchronize(staging->sent[half]);
    if (status == cudaSuccess && backend->base.options.timed)
        cuda_time_add(&backend->base.times.in, staging->begun[half], staging->sent[half]);
    return status;
}

static cudaError_t staging_make(struct staging *staging, size_t half)
{
    cudaError_t status = cudaMallocHost(&staging->half[half], STAGING_BYTES);
    if (status == cudaSuccess)
        status = cudaEventCreate(&staging->begun[half]);
    if (status == cudaSuccess)
        status = cudaEventCreate(&staging->sent[half]);
    return status;
}

/* The driver would copy pageable memory through a buffer of its own, and the caller would wait for each. */
cudaError_t cuda_upload(struct backend *base, void *to, const void *source, size_t bytes)
{
    struct cuda_backend *backend = (struct cuda_backend *)base;
    struct staging *staging = &backend->staging;
    cudaError_t status = cudaSuccess;
    for (size_t at = 0, piece = 0; at < bytes && status == cudaSuccess; at += STAGING_BYTES, piece ^= 1) {
        const size_t part = bytes - at < STAGING_BYTES ? bytes - at : STAGING_BYTES;
        status = staging->half[piece] ? staging_finish(backend, piece) : staging_make(staging, piece);
        if (status != cudaSuccess)
            break;
        memcpy(staging->half[piece], (const char *)source + at, part);
        status = cudaEventRecord(staging->begun[piece], backend->upload);
        if (status == cudaSuccess)
            status = cudaMemcpyAsync((char *)to + at, staging->half[piece], part, cudaMemcpyHostToDevice,
                                     backend->upload);
        if (status == cudaSuccess)
            status = cudaEventRecord(staging->sent[piece], backend->upload);
        staging->sending[piece] = status == cudaSuccess;
    }
    return status;
}

/* ---- views ---- */

static size_t value_bytes(enum dtype type)
{
    return type == DTYPE_F64 ? 8 : 4;
}

static void *matrix_address(struct matrix matrix)
{
    return (char *)matrix.buffer->data + (size_t)matrix.offset * value_bytes(matrix.type);
}

void cuda_write(struct queue *queue, struct matrix matrix, const void *source)
{
    size_t size = value_bytes(matrix.type), width = (size_t)matrix.cols * size;
    cuda_ok(queue, "write", matrix,
            cudaMemcpy2DAsync(matrix_address(matrix), (size_t)matrix.stride * size, source, width, width,
                              (size_t)matrix.rows, cudaMemcpyHostToDevice, queue_stream(queue)));
}

void cuda_copy(struct queue *queue, struct matrix x, struct matrix y)
{
    size_t size = value_bytes(x.type);
    cuda_ok(queue, "copy", x,
            cudaMemcpy2DAsync(matrix_address(y), (size_t)y.stride * size, matrix_address(x),
                              (size_t)x.stride * size, (size_t)x.cols * size, (size_t)x.rows,
                              cudaMemcpyDeviceToDevice, queue_stream(queue)));
}

/* ---- reading back ---- */

/* A read is packed on the device in the order of the ops, with the fault found so far behind it; from there
 * it goes to page-locked memory beside later ops, and to its destination when somebody waits for it. Less
 * than this goes straight to its destination, and is there when op_read returns. */
#define READ_LEAST EMULATED_ELSE((size_t)256, (size_t)64 << 10)

static size_t fault_place(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

static void read_free(struct cuda_read *read)
{
    cudaFree(read->device);
    cudaFreeHost(read->host);
    if (read->packed)
        cudaEventDestroy(read->packed);
    if (read->sent)
        cudaEventDestroy(read->sent);
    memset(read, 0, sizeof *read);
}

static void read_finish(struct queue *queue, struct cuda_read *read)
{
    int fault = FAULT_NONE;
    if (!read->destination)
        return;
    cudaError_t status = cudaEventSynchronize(read->sent);
    if (status == cudaSuccess) {
        if (queue->backend->options.timed)
            cuda_time_add(&queue->backend->times.out, read->packed, read->sent);
        memcpy(read->destination, read->host, read->bytes);
        memcpy(&fault, (char *)read->host + fault_place(read->bytes), sizeof fault);
    }
    read->destination = NULL;
    cuda_waited(queue, status, fault);
}

/* Room for that many bytes; false when there is none, and the read goes the short way. */
static bool read_reserve(struct cuda_read *read, size_t bytes)
{
    const size_t room = fault_place(bytes) + sizeof(int);
    if (read->room >= room)
        return true;
    read_free(read);
    if (cudaMalloc(&read->device, room) == cudaSuccess && cudaMallocHost(&read->host, room) == cudaSuccess &&
        cudaEventCreate(&read->packed) == cudaSuccess && cudaEventCreate(&read->sent) == cudaSuccess) {
        read->room = room;
        return true;
    }
    cudaGetLastError();
    read_free(read);
    return false;
}

static cudaError_t read_start(struct cuda_queue *queue, struct cuda_read *read, struct matrix matrix)
{
    const size_t size = value_bytes(matrix.type), width = (size_t)matrix.cols * size,
                 fault = fault_place(read->bytes);
    cudaError_t status =
        queue->reading ? cudaSuccess : cudaStreamCreateWithFlags(&queue->reading, cudaStreamNonBlocking);
    if (status == cudaSuccess)
        status = cudaMemcpy2DAsync(read->device, width, matrix_address(matrix), (size_t)matrix.stride * size,
                                   width, (size_t)matrix.rows, cudaMemcpyDeviceToDevice, queue->stream);
    if (status == cudaSuccess)
        status = cudaMemcpyAsync((char *)read->device + fault, queue->fault, sizeof(int),
                                 cudaMemcpyDeviceToDevice, queue->stream);
    if (status == cudaSuccess)
        status = cudaEventRecord(read->packed, queue->stream);
    if (status == cudaSuccess)
        status = cudaStreamWaitEvent(queue->reading, read->packed, 0);
    if (status == cudaSuccess)
        status = cudaMemcpyAsync(read->host, read->device, fault + sizeof(int), cudaMemcpyDeviceToHost,
                                 queue->reading);
    return status == cudaSuccess ? cudaEventRecord(read->sent, queue->reading) : status;
}

void cuda_read(struct queue *base, struct matrix matrix, void *destination)
{
    struct cuda_queue *queue = (struct cuda_queue *)base;
    const size_t size = value_bytes(matrix.type), width = (size_t)matrix.cols * size,
                 bytes = width * (size_t)matrix.rows;
    struct cuda_read *read = &queue->read[queue->reads % CUDA_READS];
    if (bytes >= READ_LEAST) {
        read_finish(base, read);
        if (base->failed)
            return;
        if (read_reserve(read, bytes)) {
            read->bytes = bytes;
            if (cuda_ok(base, "read", matrix, read_start(queue, read, matrix))) {
                read->destination = destination;
                queue->reads++;
            }
            return;
        }
    }
    cuda_ok(base, "read", matrix,
            cudaMemcpy2DAsync(destination, width, matrix_address(matrix), (size_t)matrix.stride * size, width,
                              (size_t)matrix.rows, cudaMemcpyDeviceToHost, queue->stream));
}

uint64_t cuda_queue_mark(const struct queue *queue)
{
    return ((const struct cuda_queue *)queue)->reads;
}

void cuda_queue_reach(struct queue *base, uint64_t mark)
{
    struct cuda_queue *queue = (struct cuda_queue *)base;
    const uint64_t first = queue->reads > CUDA_READS ? queue->reads - CUDA_READS : 0;
    for (uint64_t number = first; number < mark; number++)
        read_finish(base, &queue->read[number % CUDA_READS]);
}

void cuda_reads_free(struct queue *base)
{
    struct cuda_queue *queue = (struct cuda_queue *)base;
    if (queue->reading)
        cudaStreamSynchronize(queue->reading);
    for (int i = 0; i < CUDA_READS; i++)
        read_free(&queue->read[i]);
    if (queue->reading)
        cudaStreamDestroy(queue->reading);
}
