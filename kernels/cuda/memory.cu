/* memory.cu: opening a device, queues, buffers and errors. */
#include "kernels/cuda/device.cuh"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/table.cuh"

int cuda_refuse(struct error *error, enum error_kind kind, const char *format, ...)
{
    va_list list;
    error->kind = kind;
    va_start(list, format);
    vsnprintf(error->text, sizeof error->text, format, list);
    va_end(list);
    return -1;
}

void cuda_fail(struct queue *queue, enum error_kind kind, const char *format, ...)
{
    va_list list;
    if (queue->failed)
        return;
    queue->failed = true;
    queue->error.kind = kind;
    va_start(list, format);
    vsnprintf(queue->error.text, sizeof queue->error.text, format, list);
    va_end(list);
}

bool cuda_ok(struct queue *queue, const char *op, struct matrix shape, cudaError_t status)
{
    ((struct cuda_queue *)queue)->last_op = op;
    ((struct cuda_queue *)queue)->last_shape = shape;
    if (status != cudaSuccess)
        cuda_fail(queue, cuda_kind(status), "%s [%lld, %lld]: cuda: %s", op, (long long)shape.rows,
                  (long long)shape.cols, cudaGetErrorString(status));
    return status == cudaSuccess;
}

bool launch_ok(struct queue *queue, const char *op, struct matrix shape)
{
    return cuda_ok(queue, op, shape, cudaGetLastError());
}

cudaError_t device_take(struct backend *backend, enum ran_out what, void **to, size_t bytes)
{
    cudaMemPool_t pool;
    cudaError_t status = cudaMalloc(to, bytes ? bytes : 1);
    if (status != cudaErrorMemoryAllocation)
        return status;
    cudaGetLastError(); /* out of memory is not sticky: clear it */
    /* What ops have given back is still the pool's. */
    if (cudaDeviceSynchronize() == cudaSuccess && cudaDeviceGetDefaultMemPool(&pool, 0) == cudaSuccess &&
        cudaMemPoolTrimTo(pool, 0) == cudaSuccess)
        status = cudaMalloc(to, bytes ? bytes : 1);
    if (status == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        backend_note_out(backend, what);
    }
    return status;
}

void *scratch_take(struct queue *queue, const char *op, struct matrix shape, size_t bytes)
{
    void *scratch = NULL;
    if (cudaMallocAsync(&scratch, bytes ? bytes : 1, queue_stream(queue)) == cudaSuccess)
        return scratch;
    size_t unused = 0, total = 0;
    cudaGetLastError();
    cudaMemGetInfo(&unused, &total);
    backend_note_out(queue->backend, RAN_OUT_ROWS);
    cuda_fail(queue, ERROR_NO_MEMORY,
              "%s [%lld, %lld]: out of device memory: %zu bytes of working memory wanted, %zu of %zu free", op,
              (long long)shape.rows, (long long)shape.cols, bytes, unused, total);
    return NULL;
}

void scratch_free(struct queue *queue, void *scratch)
{
    if (scratch)
        cudaFreeAsync(scratch, queue_stream(queue));
}

/* ---- backend ---- */

/* Some thousand rows of a large model, whose products fill any device. */
#define ACTIVATIONS ((uint64_t)1 << 30)

/* Scores of attention, logits and rounded operands, as large as their limits let them be; what cuBLAS and reads
 * take. */
#define WORKING EMULATED_ELSE((uint64_t)1 << 25, (uint64_t)3 << 29)

/* The major number of the oldest devices that build.mk has code made for. */
#define OLDEST 8

static const char *const math_labels[] = {"", "f32", "tf32", "bf16"}; /* by enum math */

static int explain_absence(cudaError_t status, struct error *error)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return cuda_refuse(
        error, ERROR_DEVICE,
        "there is none: %s%s%s%s; nvidia-smi shows what the driver sees; --device cpu needs none",
        status == cudaSuccess ? "none is visible" : cudaGetErrorString(status),
        visible ? " (CUDA_VISIBLE_DEVICES is \"" : "", visible ? visible : "", visible ? "\")" : "");
}

/* The device is there, and the kernels are made for it. */
static int choose_device(struct cudaDeviceProp *properties, struct error *error)
{
    int count = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess || count == 0)
        return explain_absence(status, error);
    if ((status = cudaSetDevice(0)) != cudaSuccess ||
        (status = cudaGetDeviceProperties(properties, 0)) != cudaSuccess)
        return cuda_refuse(error, cuda_kind(status), "it cannot be opened: %s", cudaGetErrorString(status));
    if (properties->major < OLDEST)
        return cuda_refuse(error, ERROR_DEVICE,
                           "%s has compute capability %d.%d; the kernels are made for %d.0 and later",
                           properties->name, properties->major, properties->minor, OLDEST);
    return 0;
}

static void describe(struct backend *base, const struct cudaDeviceProp *properties, int runtime)
{
    const char *math = math_labels[base->options.math];
    int blas[3] = {0};
    cublasGetProperty(MAJOR_VERSION, &blas[0]);
    cublasGetProperty(MINOR_VERSION, &blas[1]);
    cublasGetProperty(PATCH_LEVEL, &blas[2]);
    snprintf(base->identity, sizeof base->identity, "cuda %.80s sm_%d%d %s cuda-%d.%d cublas-%d.%d.%d",
             properties->name, properties->major, properties->minor, math, runtime / 1000, runtime % 1000 / 10,
             blas[0], blas[1], blas[2]);
    snprintf(base->description, sizeof base->description, "cuda (%.80s, %s)", properties->name, math);
}

static int cuda_open(const struct backend_options *options, struct backend **result, struct error *error)
{
    struct cudaDeviceProp properties;
    cudaMemPool_t pool;
    int runtime = 0;
    uint64_t keep = UINT64_MAX; /* the pool gives nothing back between ops */
    cudaError_t status;
    if (choose_device(&properties, error) < 0)
        return -1;
    struct cuda_backend *backend = (struct cuda_backend *)calloc(1, sizeof *backend);
    if (!backend)
        return cuda_refuse(error, ERROR_NO_MEMORY, "cuda: out of memory");
    if ((status = cudaRuntimeGetVersion(&runtime)) != cudaSuccess ||
        (status = cudaDeviceGetDefaultMemPool(&pool, 0)) != cudaSuccess ||
        (status = cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep)) != cudaSuccess ||
        (status = cudaStreamCreateWithFlags(&backend->upload, cudaStreamNonBlocking)) != cudaSuccess) {
        free(backend);
        return cuda_refuse(error, cuda_kind(status), "it cannot be opened: %s", cudaGetErrorString(status));
    }
    backend->base.table = offramp_cuda_library.table;
    backend->base.name = "cuda";
    backend->base.options = *options;
    backend->base.activations = ACTIVATIONS;
    backend->base.working = WORKING;
    describe(&backend->base, &properties, runtime);
    *result = &backend->base;
    return 0;
}

static void cuda_close(struct backend *base)
{
    struct cuda_backend *backend = (struct cuda_backend *)base;
    for (int i = 0; i < 2; i++) {
        cudaFreeHost(backend->staging.half[i]);
        if (backend->staging.begun[i])
            cudaEventDestroy(backend->staging.begun[i]);
        if (backend->staging.sent[i])
            cudaEventDestroy(backend->staging.sent[i]);
    }
    cudaStreamDestroy(backend->upload);
    free(backend);
}

static uint64_t cuda_memory(const struct backend *backend)
{
    size_t unused = 0, total = 0;
    (void)backend;
    return cudaMemGetInfo(&unused, &total) == cudaSuccess ? unused : 0;
}

static int cuda_queue_create(struct backend *backend, struct queue **result, struct error *error)
{
    struct cuda_queue *queue = (struct cuda_queue *)calloc(1, sizeof *queue);
    cudaError_t status;
    if (!queue)
        return cuda_refuse(error, ERROR_NO_MEMORY, "cuda: out of memory");
    if ((status = cudaStreamCreateWithFlags(&queue->stream, cudaStreamNonBlocking)) != cudaSuccess) {
        free(queue);
        return cuda_refuse(error, cuda_kind(status), "cuda: a stream cannot be made: %s",
                           cudaGetErrorString(status));
    }
    if ((status = cudaMalloc(&queue->fault, sizeof *queue->fault)) != cudaSuccess ||
        (status = cudaMemsetAsync(queue->fault, 0, sizeof *queue->fault, queue->stream)) != cudaSuccess) {
        cudaFree(queue->fault);
        cudaStreamDestroy(queue->stream);
        free(queue);
        return cuda_refuse(error, cuda_kind(status), "cuda: a queue cannot be made: %s",
                           cudaGetErrorString(status));
    }
    queue->base.backend = backend;
    *result = &queue->base;
    return 0;
}

cublasHandle_t queue_blas(struct queue *base)
{
    struct cuda_queue *queue = (struct cuda_queue *)base;
    if (queue->blas)
        return queue->blas;
    cublasStatus_t status = cublasCreate(&queue->blas);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasSetStream(queue->blas, queue->stream);
    if (status != CUBLAS_STATUS_SUCCESS)
        cuda_fail(base, blas_kind(status), "cuBLAS does not start: %s", cublasGetStatusString(status));
    return status == CUBLAS_STATUS_SUCCESS ? queue->blas : NULL;
}

static void cuda_queue_destroy(struct queue *queue)
{
    cudaStreamSynchronize(queue_stream(queue));
    cuda_reads_free(queue);
    cuda_times_free((struct cuda_queue *)queue);
    if (((struct cuda_queue *)queue)->blas)
        cublasDestroy(((struct cuda_queue *)queue)->blas);
    cudaFree(queue_fault(queue));
    cudaStreamDestroy(queue_stream(queue));
    free(queue);
}

void cuda_waited(struct queue *queue, cudaError_t status, int fault)
{
    const struct cuda_queue *own = (const struct cuda_queue *)queue;
    if (status != cudaSuccess)
        cuda_fail(queue, cuda_kind(status),
                  "cuda: %s: by one of the ops up to %s [%lld, %lld]; the environment variable "
                  "CUDA_LAUNCH_BLOCKING=1 makes this name it",
                  cudaGetErrorString(status), own->last_op ? own->last_op : "none",
                  (long long)own->last_shape.rows, (long long)own->last_shape.cols);
    else if (fault == FAULT_TOKEN)
        cuda_fail(queue, ERROR_INPUT, "op_embed or op_gather: an id is outside the weight");
    else if (fault == FAULT_POSITION)
        cuda_fail(queue, ERROR_INPUT, "op_rope: a position is outside the table");
}

static int cuda_queue_wait(struct queue *queue, struct error *error)
{
    int fault = FAULT_NONE;
    cudaError_t status =
        cudaMemcpyAsync(&fault, queue_fault(queue), sizeof fault, cudaMemcpyDeviceToHost, queue_stream(queue));
    if (status == cudaSuccess)
        status = cudaStreamSynchronize(queue_stream(queue));
    if (status == cudaSuccess) {
        cuda_queue_reach(queue, cuda_queue_mark(queue));
        cuda_times_finish((struct cuda_queue *)queue);
    }
    cuda_waited(queue, status, fault);
    if (queue->failed)
        *error = queue->error;
    return queue->failed ? -1 : 0;
}

/* ---- buffers ---- */

static int cuda_buffer_create(struct backend *backend, size_t bytes, struct buffer **result,
                              struct error *error)
{
    cudaStream_t stream = ((struct cuda_backend *)backend)->upload;
    struct buffer *buffer = (struct buffer *)calloc(1, sizeof *buffer);
    size_t unused = 0, total = 0;
    if (!buffer)
        return cuda_refuse(error, ERROR_NO_MEMORY, "cuda: out of memory");
    if (device_take(backend, RAN_OUT_ROWS, &buffer->data, bytes) != cudaSuccess) {
        cudaMemGetInfo(&unused, &total);
        free(buffer);
        return cuda_refuse(error, ERROR_NO_MEMORY, "out of device memory: %zu bytes wanted, %zu of %zu free",
                           bytes, unused, total);
    }
    cudaError_t status = cudaMemsetAsync(buffer->data, 0, bytes, stream);
    if (status == cudaSuccess)
        status = cudaStreamSynchronize(stream);
    buffer->backend = backend;
    buffer->bytes = bytes;
    *result = buffer;
    return status == cudaSuccess
               ? 0
               : cuda_refuse(error, cuda_kind(status), "cuda: a new buffer: %s", cudaGetErrorString(status));
}

static void cuda_buffer_destroy(struct buffer *buffer)
{
    cudaFree(buffer->data);
    free(buffer);
}

static const struct backend_table table = {cuda_open,           cuda_close,
                                           cuda_memory,         cuda_queue_create,
                                           cuda_queue_destroy,  cuda_queue_wait,
                                           cuda_queue_mark,     cuda_queue_reach,
                                           cuda_time_begin,     cuda_time_end,
                                           cuda_buffer_create,  cuda_buffer_destroy,
                                           cuda_write,          cuda_write_bf16,
                                           cuda_read,           cuda_read_rounded,
                                           cuda_weight_prepare, cuda_weight_subset_create,
                                           cuda_weight_destroy, cuda_matmul,
                                           cuda_matmul_grad,    cuda_embed,
                                           cuda_gather,         cuda_gemm,
                                           cuda_gemm_alike,     cuda_gram,
                                           cuda_copy,           cuda_axpy,
                                           cuda_add_bias,       cuda_sum_rows,
                                           cuda_sum_squares,    cuda_mean_square,
                                           cuda_norm,           cuda_norm_grad,
                                           cuda_swiglu,         cuda_swiglu_grad,
                                           cuda_rope,           cuda_rope_grad,
                                           cuda_attention,      cuda_attention_grad,
                                           cuda_vocab_stats,    cuda_vocab_cross,
                                           cuda_vocab_loss,     cuda_quantise,
                                           cuda_split_planes,   cuda_adam};

const struct cuda_library offramp_cuda_library = {OFFRAMP_INTERFACE, sizeof table, OFFRAMP_VERSION, &table};
