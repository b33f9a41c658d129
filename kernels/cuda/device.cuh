/* device.cuh: what every file of the cuda backend uses: the toolkit (or, for tests, its emulation), launches,
 * errors and working memory.
 *
 * A launch goes through LAUNCH and dynamic shared memory through DYNAMIC_SHARED, so that the same
 * source is compiled by nvcc and, with tests/cuda/emulator.h in front, by a C++ compiler.
 */
#ifndef OFFRAMP_KERNELS_CUDA_DEVICE_CUH
#define OFFRAMP_KERNELS_CUDA_DEVICE_CUH

#ifdef OFFRAMP_CUDA_EMULATED
#define LAUNCH(kernel, grid, block, shared, stream, ...)                                                       \
    ((void)(stream), emulator_launch(#kernel, grid, block, shared, [&] { kernel(__VA_ARGS__); }))
#define DYNAMIC_SHARED(type, name)    type *name = (type *)emulator_dynamic_shared()
#define EMULATED_ELSE(emulated, real) (emulated) /* of limits that small tests would never reach */
#else
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define LAUNCH(kernel, grid, block, shared, stream, ...) kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define DYNAMIC_SHARED(type, name)                                                                             \
    extern __shared__ __align__(16) unsigned char name##_storage[];                                            \
    type *name = (type *)name##_storage
#define EMULATED_ELSE(emulated, real) (real)
#endif

extern "C" {
#include "kernels/backend.h"
}

/* Page-locked memory that weights go through: one half is filled while the other is on its way. */
struct staging {
    void *half[2];
    cudaEvent_t begun[2], sent[2]; /* when one was sent last it may be filled again */
    bool sending[2]; /* since it was waited for last */
};
#define STAGING_BYTES EMULATED_ELSE((size_t)1000, (size_t)16 << 20) /* a half */

struct cuda_backend {
    struct backend base;
    cudaStream_t upload; /* weights and first contents of buffers, beside what queues compute */
    struct staging staging; /* of the one thread that prepares weights */
};

/* A read on its way to the host (transfer.cu). */
struct cuda_read {
    void *device, *host; /* [room] bytes, the host's page-locked */
    size_t room, bytes;
    bool rounded; /* bf16, widened on its way to the destination */
    cudaEvent_t packed, sent;
    void *destination; /* NULL: none is on its way */
};
#define CUDA_READS 4

/* The time from one event to another, which goes to *total (timing.cu). */
struct cuda_span {
    cudaEvent_t from, to;
    double *total; /* NULL: not measured */
};
#define CUDA_SPANS 64

struct cuda_queue {
    struct queue base;
    cudaStream_t stream;
    cudaStream_t reading; /* NULL until the first long read */
    struct cuda_read read[CUDA_READS]; /* number r in r % CUDA_READS */
    uint64_t reads; /* put so far */
    struct cuda_span span[CUDA_SPANS]; /* of the last ops: number s in s % CUDA_SPANS */
    uint64_t spans; /* put so far */
    cublasHandle_t blas; /* NULL until the first product: making it takes memory and time */
    int *fault; /* enum fault, on the device: what a kernel found wrong in its inputs */
    const char *last_op; /* put last, with its shape */
    struct matrix last_shape;
};

/* Inputs that only a kernel can check; the queue fails at its next wait. */
enum fault { FAULT_NONE, FAULT_TOKEN, FAULT_POSITION };

/* Rows of a weight that share a format, as they lie in the file, on the device. */
struct cuda_part {
    enum dtype type;
    int64_t rows;
    void *data;
};

#define CUDA_PARTS_MAX 4

struct cuda_weight {
    struct weight base;
    void *matrix; /* [N, K] in the compute type, for products of many rows; or NULL */
    float *bias; /* [N] or NULL */
    int parts; /* in the file's formats, for few rows; 0: none */
    struct cuda_part part[CUDA_PARTS_MAX];
};

static inline cudaStream_t queue_stream(struct queue *queue)
{
    return ((struct cuda_queue *)queue)->stream;
}

static inline int *queue_fault(struct queue *queue)
{
    return ((struct cuda_queue *)queue)->fault;
}

static inline bool queue_is_bf16(const struct queue *queue)
{
    return queue->backend->options.math == MATH_BF16;
}

/* Whose fault a status is. */
static inline enum error_kind cuda_kind(cudaError_t status)
{
    return status == cudaErrorMemoryAllocation ? ERROR_NO_MEMORY : ERROR_DEVICE;
}

static inline enum error_kind blas_kind(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_ALLOC_FAILED ? ERROR_NO_MEMORY : ERROR_DEVICE;
}

/* error_set_kind, which this library does not have. */
int cuda_refuse(struct error *error, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Remembers the first failure of the queue, with the op and its shapes in the text. */
void cuda_fail(struct queue *queue, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Adds the seconds between two events that have passed. */
void cuda_time_add(double *total, cudaEvent_t from, cudaEvent_t to);
/* Counts what is left, when the queue has been waited for; and lets go of all. */
void cuda_times_finish(struct cuda_queue *queue);
void cuda_times_free(struct cuda_queue *queue);
/* Memory of the device outside any stream's order. Where there is none it notes what has run out. */
cudaError_t device_take(struct backend *backend, enum ran_out what, void **to, size_t bytes);
/* Copies from any host memory, on the upload stream; the source has been read when it returns. */
cudaError_t cuda_upload(struct backend *backend, void *to, const void *source, size_t bytes);
/* The queue fails when waiting gave an error, or a kernel found a fault. */
void cuda_waited(struct queue *queue, cudaError_t status, int fault);
void cuda_reads_free(struct queue *queue);
/* The queue's cuBLAS handle; NULL, and the queue has failed, when it cannot be made. */
cublasHandle_t queue_blas(struct queue *queue);
/* True when `status` is success; otherwise the queue fails with "op [rows, cols]: reason". */
bool cuda_ok(struct queue *queue, const char *op, struct matrix shape, cudaError_t status);
/* cuda_ok for what the last launch left behind. */
bool launch_ok(struct queue *queue, const char *op, struct matrix shape);

/* Working memory of one op, in the stream's order: given back by scratch_free without waiting.
 * NULL, and the queue fails, when the device has none left. */
void *scratch_take(struct queue *queue, const char *op, struct matrix shape, size_t bytes);
void scratch_free(struct queue *queue, void *scratch);

/* Blocks of `threads` that cover n, one value each. */
static inline unsigned blocks_for(int64_t n, int threads)
{
    return (unsigned)((n + threads - 1) / threads);
}

/* Threads of a block for a row of `size` values: about 8 values each, fixed by the size alone. */
static inline dim3 row_threads(int64_t size, unsigned most)
{
    unsigned threads = 32;
    while (threads < most && threads * 8 < size)
        threads *= 2;
    return dim3(threads);
}

/* A result in the compute type. */
__device__ inline void store_value(float *to, float value)
{
    *to = value;
}
__device__ inline void store_value(__nv_bfloat16 *to, float value)
{
    *to = __float2bfloat16_rn(value);
}

__device__ inline float load_value(const float *from)
{
    return *from;
}
__device__ inline float load_value(const __nv_bfloat16 *from)
{
    return __bfloat162float(*from);
}

/* The bits of f32_to_bf16: __float2bfloat16_rn makes one NaN of all. */
__device__ inline unsigned bf16_bits(float value)
{
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    const unsigned rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
    return (bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded;
}

/* ---- products (gemm.cu): operands in the compute type of the queue ---- */

/* A device matrix in f32 or bf16: row r starts at data + r * stride values. */
struct operand {
    const void *data;
    bool bf16;
    int64_t stride;
};

/* c [M, N] f32 (ld c_stride) = (add: c +) op(a) [M, K] op(b) [K, N], `batch` times, so far apart as
 * given in values; all row-major. */
struct product {
    const char *op; /* for errors */
    int64_t rows, cols, inner;
    struct operand a, b;
    bool transpose_a, transpose_b;
    bool f32; /* whatever the math mode */
    float *c;
    int64_t c_stride;
    bool add;
    int64_t batch, a_apart, b_apart, c_apart;
};
void product_run(struct queue *queue, const struct product *product);

static inline struct operand operand_f32(struct matrix x)
{
    struct operand operand = {matrix_floats(x), false, x.stride};
    return operand;
}

/* Rows [first, first + rows) of a view. */
static inline struct matrix view_rows(struct matrix matrix, int64_t first, int64_t rows)
{
    matrix.offset += first * matrix.stride;
    matrix.rows = rows;
    return matrix;
}

/* A shape for an error's text where there is no matrix. */
static inline struct matrix matrix_shape(int64_t rows, int64_t cols)
{
    struct matrix shape = {};
    shape.rows = rows;
    shape.cols = cols;
    return shape;
}

/* x [rows, cols] f32 as an operand: as it is in f32 mode, or rounded to bf16 into *scratch (which the
 * caller frees after use). False when the queue failed. */
bool operand_make(struct queue *queue, const char *op, struct matrix x, struct operand *operand,
                  void **scratch);

#endif
