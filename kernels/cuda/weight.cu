/* weight.cu: weights on the device: uploaded as the file has them, turned once into the compute type
 * for products of many rows, or kept as they are for few. */
#include "kernels/cuda/dequantise.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/table.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- preparation ---- */

/* [rows, cols] of a part into the compute type. Reads the format's bytes, writes 2 or 4 a value: bound
 * by memory; one thread makes 8 values of a block format, or one of a plain one. */
template <enum dtype TYPE, typename T>
__global__ void expand_part(const unsigned char *data, size_t row_bytes, int64_t rows, int64_t cols, T *to)
{
    const int width = TYPE == DTYPE_F32 || TYPE == DTYPE_F16 || TYPE == DTYPE_BF16 ? 1 : 8;
    int64_t index = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * width;
    if (index >= rows * cols)
        return;
    const unsigned char *row = data + index / cols * row_bytes;
    int64_t k = index % cols;
    if (width == 1) {
        store_value(to + index, one_value<TYPE>(row, k));
    } else {
        float value[8];
        eight<TYPE>::load(row, k, value);
        for (int i = 0; i < 8; i++)
            store_value(to + index + i, value[i]);
    }
}

struct expand_action {
    const struct cuda_part *part;
    int64_t cols;
    void *to;
    bool bf16;
    cudaStream_t stream;

    template <enum dtype TYPE> void run() const
    {
        int64_t values = part->rows * cols;
        unsigned blocks = blocks_for(is_block_format(TYPE) ? values / 8 : values, 256);
        size_t row_bytes = part_row_bytes(TYPE, cols);
        if (bf16)
            LAUNCH((expand_part<TYPE, __nv_bfloat16>), dim3(blocks), dim3(256), 0, stream,
                   (const unsigned char *)part->data, row_bytes, part->rows, cols, (__nv_bfloat16 *)to);
        else
            LAUNCH((expand_part<TYPE, float>), dim3(blocks), dim3(256), 0, stream,
                   (const unsigned char *)part->data, row_bytes, part->rows, cols, (float *)to);
    }
};

static cudaError_t upload(struct backend *backend, const void *source, size_t bytes, void **to)
{
    cudaError_t status = device_take(backend, RAN_OUT_WEIGHT, to, bytes);
    return status == cudaSuccess ? cuda_upload(backend, *to, source, bytes) : status;
}

/* The parts on the device, the compute-type matrix made from them, and what is not needed given back. */
static cudaError_t prepare(struct cuda_weight *weight, const struct weight_part *parts, int count,
                           const float *bias)
{
    struct backend *backend = weight->base.backend;
    cudaStream_t stream = ((struct cuda_backend *)backend)->upload;
    bool bf16 = backend->options.math == MATH_BF16;
    size_t value = bf16 ? 2 : 4, row_bytes = (size_t)weight->base.cols * value;
    bool products = (weight->base.uses & (WEIGHT_FORWARD | WEIGHT_BACKWARD)) != 0;
    cudaError_t status = cudaSuccess;
    if (products)
        status = device_take(backend, RAN_OUT_WEIGHT, &weight->matrix, (size_t)weight->base.rows * row_bytes);
    int64_t first = 0;
    for (int i = 0; i < count && status == cudaSuccess; i++) {
        struct cuda_part *part = &weight->part[i];
        part->type = parts[i].type;
        part->rows = parts[i].rows;
        status = upload(backend, parts[i].data,
                        (size_t)part->rows * part_row_bytes(part->type, weight->base.cols), &part->data);
        if (status == cudaSuccess && products && part->rows > 0) {
            with_format(part->type,
                        expand_action{part, weight->base.cols,
                                      (char *)weight->matrix + (size_t)first * row_bytes, bf16, stream});
            status = cudaGetLastError();
        }
        weight->parts = i + 1;
        first += part->rows;
    }
    if (status == cudaSuccess && bias)
        status = upload(backend, bias, (size_t)weight->base.rows * sizeof *bias, (void **)&weight->bias);
    if (status == cudaSuccess)
        status = cudaStreamSynchronize(stream);
    if (status == cudaSuccess && !(weight->base.uses & WEIGHT_ROWS))
        for (; weight->parts > 0; weight->parts--)
            cudaFree(weight->part[weight->parts - 1].data);
    return status;
}

static size_t held_bytes(const struct cuda_weight *weight)
{
    size_t value = weight->base.backend->options.math == MATH_BF16 ? 2 : 4, bytes = 0;
    if (weight->matrix)
        bytes += (size_t)weight->base.rows * (size_t)weight->base.cols * value;
    for (int i = 0; i < weight->parts; i++)
        bytes += (size_t)weight->part[i].rows * part_row_bytes(weight->part[i].type, weight->base.cols);
    return bytes;
}

int cuda_weight_prepare(struct backend *backend, const struct weight_part *parts, int count, const float *bias,
                        unsigned uses, struct weight **result, struct error *error)
{
    struct cuda_weight *weight = (struct cuda_weight *)calloc(1, sizeof *weight);
    if (!weight)
        return cuda_refuse(error, ERROR_NO_MEMORY, "cuda: out of memory");
    if (count > CUDA_PARTS_MAX) {
        free(weight);
        return cuda_refuse(error, ERROR_INTERNAL, "cuda: a weight of %d parts: at most 4 are stacked", count);
    }
    weight->base.backend = backend;
    weight->base.uses = uses;
    weight->base.cols = parts[0].cols;
    for (int i = 0; i < count; i++)
        weight->base.rows += parts[i].rows;
    cudaError_t status = prepare(weight, parts, count, bias);
    if (status != cudaSuccess) {
        size_t unused = 0, total = 0;
        cudaGetLastError();
        cudaMemGetInfo(&unused, &total);
        cuda_refuse(error, cuda_kind(status),
                    "cuda: a weight [%lld, %lld] cannot be put on the device: %s; %zu of %zu bytes are free",
                    (long long)weight->base.rows, (long long)weight->base.cols, cudaGetErrorString(status),
                    unused, total);
        cuda_weight_destroy(&weight->base);
        return -1;
    }
    weight->base.bytes = held_bytes(weight);
    *result = &weight->base;
    return 0;
}

void cuda_weight_destroy(struct weight *base)
{
    struct cuda_weight *weight = (struct cuda_weight *)base;
    for (int i = 0; i < weight->parts; i++)
        if (weight->part[i].data != weight->matrix) /* a subset's */
            cudaFree(weight->part[i].data);
    cudaFree(weight->matrix);
    cudaFree(weight->bias);
    free(weight);
}

/* ---- embedding ---- */

/* y [M, K] = rows ids of one part; ids outside it are another part's, or, in the last part, wrong.
 * Bound by memory: the format's bytes in, 4 out a value, or 2 of a bf16 subset. One block a row. */
template <enum dtype TYPE, typename T>
__global__ void embed_rows(const unsigned char *data, size_t row_bytes, int64_t first, int64_t rows,
                           int64_t cols, const int32_t *ids, int64_t ids_stride, T *y, int64_t y_stride,
                           bool last, int *fault)
{
    int64_t id = ids[blockIdx.x * ids_stride] - first;
    if ((id + first < 0 || (last && id >= rows)) && threadIdx.x == 0)
        *fault = FAULT_TOKEN;
    if (id < 0 || id >= rows)
        return;
    const unsigned char *row = data + id * row_bytes;
    T *to = y + blockIdx.x * y_stride;
    if (TYPE == DTYPE_F32 || TYPE == DTYPE_F16 || TYPE == DTYPE_BF16) {
        for (int64_t k = threadIdx.x; k < cols; k += blockDim.x)
            store_value(to + k, one_value<TYPE>(row, k));
    } else {
        for (int64_t k = threadIdx.x * 8; k < cols; k += blockDim.x * 8) {
            float value[8];
            eight<TYPE>::load(row, k, value);
            for (int i = 0; i < 8; i++)
                store_value(to + k + i, value[i]);
        }
    }
}

template <typename T> struct embed_action {
    const struct cuda_part *part;
    int64_t first, cols;
    struct matrix ids;
    T *y;
    int64_t y_stride;
    bool last;
    struct queue *queue;

    template <enum dtype TYPE> void run() const
    {
        LAUNCH((embed_rows<TYPE, T>), dim3((unsigned)ids.rows), dim3(128), 0, queue_stream(queue),
               (const unsigned char *)part->data, part_row_bytes(TYPE, cols), first, part->rows, cols,
               matrix_ints(ids), ids.stride, y, y_stride, last, queue_fault(queue));
    }
};

template <typename T>
static void embed_parts(struct queue *queue, const struct weight *base, struct matrix ids, T *y,
                        int64_t y_stride)
{
    const struct cuda_weight *weight = (const struct cuda_weight *)base;
    int64_t first = 0;
    for (int i = 0; i < weight->parts && ids.rows > 0; i++) {
        with_format(weight->part[i].type, embed_action<T>{&weight->part[i], first, base->cols, ids, y, y_stride,
                                                          i + 1 == weight->parts, queue});
        first += weight->part[i].rows;
    }
}

void cuda_embed(struct queue *queue, const struct weight *weight, struct matrix ids, struct matrix y)
{
    embed_parts(queue, weight, ids, matrix_floats(y), y.stride);
    launch_ok(queue, "embed", y);
}

/* ---- subsets ---- */

int cuda_weight_subset_create(struct backend *backend, int64_t rows, int64_t cols, struct weight **result,
                              struct error *error)
{
    const bool bf16 = backend->options.math == MATH_BF16;
    const size_t bytes = (size_t)(rows * cols) * (bf16 ? 2 : 4);
    struct cuda_weight *weight = (struct cuda_weight *)calloc(1, sizeof *weight);
    if (!weight)
        return cuda_refuse(error, ERROR_NO_MEMORY, "cuda: out of memory");
    const cudaError_t status = device_take(backend, RAN_OUT_WEIGHT, &weight->matrix, bytes);
    if (status != cudaSuccess) {
        free(weight);
        return cuda_refuse(error, cuda_kind(status), "cuda: a subset of %zu bytes cannot be had: %s", bytes,
                           cudaGetErrorString(status));
    }
    weight->base.bytes = bytes;
    weight->parts = 1; /* for few rows: the matrix again */
    weight->part[0].type = bf16 ? DTYPE_BF16 : DTYPE_F32;
    weight->part[0].rows = rows;
    weight->part[0].data = weight->matrix;
    *result = &weight->base;
    return 0;
}

void cuda_gather(struct queue *queue, const struct weight *from, struct matrix ids, struct weight *subset)
{
    void *matrix = ((struct cuda_weight *)subset)->matrix;
    if (queue_is_bf16(queue))
        embed_parts(queue, from, ids, (__nv_bfloat16 *)matrix, subset->cols);
    else
        embed_parts(queue, from, ids, (float *)matrix, subset->cols);
    launch_ok(queue, "gather", matrix_shape(subset->rows, subset->cols));
}

/* ---- few rows ---- */

#define FEW_WARPS   8
#define FEW_OUTPUTS 2 /* rows of W per warp: two streams of loads in flight, x is read once for both */

/* y [M, N] (=, +=) x [M, K] W^T, M <= 8. A warp makes FEW_OUTPUTS columns of y for all M rows. Reads
 * every byte of W once: bound by memory bandwidth; 2 M flops a weight; x [M, K] stays in the caches.
 * Each row of x is summed by itself in an order that depends on K only. */
template <enum dtype TYPE, int M, bool EIGHTS>
__global__ void multiply_few(const unsigned char *data, size_t row_bytes, int64_t rows, int64_t cols,
                             const float *x, int64_t x_stride, const float *bias, bool add, float *y,
                             int64_t y_stride)
{
    int lane = threadIdx.x % 32;
    int64_t first = ((int64_t)blockIdx.x * FEW_WARPS + threadIdx.x / 32) * FEW_OUTPUTS;
    float sum[FEW_OUTPUTS][M] = {};
    if (first >= rows)
        return;
    for (int64_t k = lane * (EIGHTS ? 8 : 1); k < cols; k += EIGHTS ? 256 : 32) {
#pragma unroll
        for (int o = 0; o < FEW_OUTPUTS; o++) {
            const unsigned char *row = data + (first + o < rows ? first + o : first) * row_bytes;
            if (EIGHTS) {
                float weight[8];
                eight<TYPE>::load(row, k, weight);
#pragma unroll
                for (int m = 0; m < M; m++)
#pragma unroll
                    for (int i = 0; i < 8; i++)
                        sum[o][m] += weight[i] * x[m * x_stride + k + i];
            } else {
                float weight = one_value<TYPE>(row, k);
#pragma unroll
                for (int m = 0; m < M; m++)
                    sum[o][m] += weight * x[m * x_stride + k];
            }
        }
    }
#pragma unroll
    for (int o = 0; o < FEW_OUTPUTS; o++)
#pragma unroll
        for (int m = 0; m < M; m++) {
            float total = warp_sum(sum[o][m]);
            if (lane == 0 && first + o < rows) {
                float *to = y + m * y_stride + first + o;
                total += bias ? bias[first + o] : 0;
                *to = add ? *to + total : total;
            }
        }
}

struct few_action {
    const struct cuda_part *part;
    const float *bias;
    int64_t cols;
    struct matrix x, y; /* y: the part's columns */
    bool add;
    cudaStream_t stream;

    template <enum dtype TYPE, int M, bool EIGHTS> void launch() const
    {
        LAUNCH((multiply_few<TYPE, M, EIGHTS>), dim3(blocks_for(part->rows, FEW_WARPS * FEW_OUTPUTS)),
               dim3(FEW_WARPS * 32), 0, stream, (const unsigned char *)part->data, part_row_bytes(TYPE, cols),
               part->rows, cols, matrix_floats(x), x.stride, bias, add, matrix_floats(y), y.stride);
    }

    template <enum dtype TYPE> void run() const
    {
        if (is_block_format(TYPE) || cols % 8 == 0)
            launch_rows<TYPE, true>();
        else
            launch_rows<TYPE, false>();
    }

    template <enum dtype TYPE, bool EIGHTS> void launch_rows() const
    {
        switch (x.rows) {
        case 1: launch<TYPE, 1, EIGHTS>(); break;
        case 2: launch<TYPE, 2, EIGHTS>(); break;
        case 3: launch<TYPE, 3, EIGHTS>(); break;
        case 4: launch<TYPE, 4, EIGHTS>(); break;
        case 5: launch<TYPE, 5, EIGHTS>(); break;
        case 6: launch<TYPE, 6, EIGHTS>(); break;
        case 7: launch<TYPE, 7, EIGHTS>(); break;
        default: launch<TYPE, 8, EIGHTS>(); break;
        }
    }
};

void cuda_matmul_few(struct queue *queue, struct matrix x, const struct weight *base, struct matrix y,
                     enum op_mode mode)
{
    const struct cuda_weight *weight = (const struct cuda_weight *)base;
    int64_t first = 0;
    for (int i = 0; i < weight->parts; i++) {
        const struct cuda_part *part = &weight->part[i];
        struct matrix columns = y;
        columns.offset += first;
        if (part->rows > 0)
            with_format(part->type, few_action{part, weight->bias ? weight->bias + first : NULL, base->cols, x,
                                               columns, mode == OP_ADD, queue_stream(queue)});
        first += part->rows;
    }
    launch_ok(queue, "matmul", y);
}
