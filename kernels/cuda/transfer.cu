/* transfer.cu: copies between host and device, both ways, through two halves of page-locked memory in turn.
 * They have streams of their own, so that the device computes meanwhile. */
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
    for (size_t at = 0, turn = 0; at < bytes && status == cudaSuccess; at += STAGING_BYTES, turn ^= 1) {
        const size_t part = bytes - at < STAGING_BYTES ? bytes - at : STAGING_BYTES;
        status = staging->half[turn] ? staging_finish(backend, turn) : staging_make(staging, turn);
        if (status != cudaSuccess)
            break;
        memcpy(staging->half[turn], (const char *)source + at, part);
        status = cudaEventRecord(staging->begun[turn], backend->upload);
        if (status == cudaSuccess)
            status = cudaMemcpyAsync((char *)to + at, staging->half[turn], part, cudaMemcpyHostToDevice,
                                     backend->upload);
        if (status == cudaSuccess)
            status = cudaEventRecord(staging->sent[turn], backend->upload);
        staging->sending[turn] = status == cudaSuccess;
    }
    return status;
}

/* ---- views ---- */

#define CONVERT_THREADS 256

static void *matrix_address(struct matrix matrix)
{
    return (char *)matrix.buffer->data + (size_t)matrix.offset * value_size(matrix.type);
}

void cuda_write(struct queue *queue, struct matrix matrix, const void *source)
{
    size_t size = value_size(matrix.type), width = (size_t)matrix.cols * size;
    cuda_ok(queue, "write", matrix,
            cudaMemcpy2DAsync(matrix_address(matrix), (size_t)matrix.stride * size, source, width, width,
                              (size_t)matrix.rows, cudaMemcpyHostToDevice, queue_stream(queue)));
}

/* x [rows, cols], rows one behind the other, bf16: 8 values a thread, 16 bytes at a time where they lie so. 6
 * bytes and about 1 integer operation a value: bound by memory. */
__global__ void widen_rows(const uint16_t *x, int64_t rows, int64_t cols, float *to, int64_t stride)
{
    const int64_t eights = (cols + 7) / 8, index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * eights)
        return;
    const int64_t row = index / eights, k = index % eights * 8;
    const uint16_t *from = x + row * cols + k;
    float *out = to + row * stride + k;
    if (k + 8 <= cols && (((size_t)from | (size_t)out) & 15) == 0) {
        const uint4 pairs = *(const uint4 *)from;
        *(uint4 *)out = make_uint4(pairs.x << 16, pairs.x & 0xffff0000, pairs.y << 16, pairs.y & 0xffff0000);
        *(uint4 *)(out + 4) =
            make_uint4(pairs.z << 16, pairs.z & 0xffff0000, pairs.w << 16, pairs.w & 0xffff0000);
    } else {
        for (int i = 0; i < 8 && k + i < cols; i++)
            ((unsigned *)out)[i] = (unsigned)from[i] << 16;
    }
}

void cuda_write_bf16(struct queue *queue, struct matrix matrix, const void *source)
{
    const size_t bytes = (size_t)(matrix.rows * matrix.cols) * sizeof(uint16_t);
    void *packed = scratch_take(queue, "write_bf16", matrix, bytes);
    if (packed &&
        cuda_ok(queue, "write_bf16", matrix,
                cudaMemcpyAsync(packed, source, bytes, cudaMemcpyHostToDevice, queue_stream(queue)))) {
        LAUNCH(widen_rows, dim3(blocks_for(matrix.rows * ((matrix.cols + 7) / 8), CONVERT_THREADS)),
               dim3(CONVERT_THREADS), 0, queue_stream(queue), (const uint16_t *)packed, matrix.rows,
               matrix.cols, matrix_floats(matrix), matrix.stride);
        launch_ok(queue, "write_bf16", matrix);
    }
    scratch_free(queue, packed);
}

void cuda_copy(struct queue *queue, struct matrix x, struct matrix y)
{
    size_t size = value_size(x.type);
    cuda_ok(queue, "copy", x,
            cudaMemcpy2DAsync(matrix_address(y), (size_t)y.stride * size, matrix_address(x),
                              (size_t)x.stride * size, (size_t)x.cols * size, (size_t)x.rows,
                              cudaMemcpyDeviceToDevice, queue_stream(queue)));
}

/* ---- reading back ---- */

__device__ inline unsigned bf16_pair(float low, float high)
{
    return bf16_bits(low) | bf16_bits(high) << 16;
}

/* to [rows, cols], rows one behind the other: 8 values a thread, 16 bytes at a time where they lie so. 6 bytes
 * and about 7 integer operations a value: bound by memory. */
__global__ void pack_rounded(const float *x, int64_t stride, int64_t rows, int64_t cols, uint16_t *to)
{
    const int64_t eights = (cols + 7) / 8, index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * eights)
        return;
    const int64_t row = index / eights, k = index % eights * 8;
    const float *from = x + row * stride + k;
    uint16_t *out = to + row * cols + k;
    if (k + 8 <= cols && (((size_t)from | (size_t)out) & 15) == 0) {
        const float4 a = *(const float4 *)from, b = *(const float4 *)(from + 4);
        *(uint4 *)out =
            make_uint4(bf16_pair(a.x, a.y), bf16_pair(a.z, a.w), bf16_pair(b.x, b.y), bf16_pair(b.z, b.w));
    } else {
        for (int i = 0; i < 8 && k + i < cols; i++)
            out[i] = (uint16_t)bf16_bits(from[i]);
    }
}

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

static void widen_values(float *to, const uint16_t *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] = bf16_to_f32(from[i]);
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
        if (read->rounded)
            widen_values((float *)read->destination, (const uint16_t *)read->host,
                         read->bytes / sizeof(uint16_t));
        else
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

static cudaError_t read_pack(struct cuda_queue *queue, struct cuda_read *read, struct matrix matrix)
{
    const size_t size = value_size(matrix.type), width = (size_t)matrix.cols * size;
    if (!read->rounded)
        return cudaMemcpy2DAsync(read->device, width, matrix_address(matrix), (size_t)matrix.stride * size,
                                 width, (size_t)matrix.rows, cudaMemcpyDeviceToDevice, queue->stream);
    LAUNCH(pack_rounded, dim3(blocks_for(matrix.rows * ((matrix.cols + 7) / 8), CONVERT_THREADS)),
           dim3(CONVERT_THREADS), 0, queue->stream, matrix_floats(matrix), matrix.stride, matrix.rows,
           matrix.cols, (uint16_t *)read->device);
    return cudaGetLastError();
}

static cudaError_t read_start(struct cuda_queue *queue, struct cuda_read *read, struct matrix matrix)
{
    const size_t fault = fault_place(read->bytes);
    cudaError_t status =
        queue->reading ? cudaSuccess : cudaStreamCreateWithFlags(&queue->reading, cudaStreamNonBlocking);
    if (status == cudaSuccess)
        status = read_pack(queue, read, matrix);
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

static void read_put(struct queue *base, struct matrix matrix, void *destination, bool rounded)
{
    struct cuda_queue *queue = (struct cuda_queue *)base;
    const size_t size = value_size(matrix.type), width = (size_t)matrix.cols * size,
                 bytes = width * (size_t)matrix.rows / (rounded ? 2 : 1);
    struct cuda_read *read = &queue->read[queue->reads % CUDA_READS];
    if (bytes >= READ_LEAST) {
        read_finish(base, read);
        if (base->failed)
            return;
        if (read_reserve(read, bytes)) {
            read->bytes = bytes;
            read->rounded = rounded;
            if (cuda_ok(base, "read", matrix, read_start(queue, read, matrix))) {
                read->destination = destination;
                queue->reads++;
            }
            return;
        }
    }
    if (cuda_ok(base, "read", matrix,
                cudaMemcpy2DAsync(destination, width, matrix_address(matrix), (size_t)matrix.stride * size,
                                  width, (size_t)matrix.rows, cudaMemcpyDeviceToHost, queue->stream)) &&
        rounded)
        round_floats((float *)destination, matrix.rows * matrix.cols);
}

void cuda_read(struct queue *queue, struct matrix matrix, void *destination)
{
    read_put(queue, matrix, destination, false);
}

void cuda_read_rounded(struct queue *queue, struct matrix matrix, float *destination)
{
    read_put(queue, matrix, destination, true);
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
