/* gemm.cu: matrix products, by cuBLAS; operands rounded to bf16 first under MATH_BF16. */
#include "kernels/cuda/table.cuh"

#include <stdlib.h>

/* ---- operands ---- */

/* 4 bytes in, 2 out a value, bound by memory. One thread takes four neighbouring values of a row. */
__global__ void round_rows(const float *x, int64_t x_stride, int64_t rows, int64_t cols, __nv_bfloat16 *to,
                           int64_t to_stride)
{
    int64_t quads = (cols + 3) / 4, index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * quads)
        return;
    int64_t row = index / quads, k = index % quads * 4;
    const float *from = x + row * x_stride + k;
    __nv_bfloat16 *out = to + row * to_stride + k;
    if (k + 4 <= cols && ((size_t)from & 15) == 0) {
        float4 value = *(const float4 *)from;
        __nv_bfloat16 four[4] = {__float2bfloat16_rn(value.x), __float2bfloat16_rn(value.y),
                                 __float2bfloat16_rn(value.z), __float2bfloat16_rn(value.w)};
        memcpy(out, four, 8); /* the row starts 16-byte aligned: to_stride is a multiple of 8 */
    } else {
        for (int i = 0; i < 4 && k + i < cols; i++)
            out[i] = __float2bfloat16_rn(from[i]);
    }
}

bool operand_make(struct queue *queue, const char *op, struct matrix x, struct operand *operand, void **scratch)
{
    *scratch = NULL;
    if (!queue_is_bf16(queue)) {
        *operand = operand_f32(x);
        return true;
    }
    int64_t stride = (x.cols + 7) / 8 * 8; /* 16-byte rows, as cuBLAS's fast kernels want them */
    *scratch = scratch_take(queue, op, x, (size_t)(x.rows * stride) * sizeof(__nv_bfloat16));
    if (!*scratch)
        return false;
    if (x.rows > 0 && x.cols > 0)
        LAUNCH(round_rows, dim3(blocks_for(x.rows * ((x.cols + 3) / 4), 256)), dim3(256), 0,
               queue_stream(queue), matrix_floats(x), x.stride, x.rows, x.cols, (__nv_bfloat16 *)*scratch,
               stride);
    operand->data = *scratch;
    operand->bf16 = true;
    operand->stride = stride;
    return launch_ok(queue, op, x);
}

void product_run(struct queue *queue, const struct product *p)
{
    const float one = 1, scale = p->add ? 1.0f : 0.0f;
    cudaDataType_t type = p->a.bf16 ? CUDA_R_16BF : CUDA_R_32F;
    struct matrix shape = matrix_shape(p->rows, p->cols);
    bool tf32 = queue->backend->options.math == MATH_TF32 && !p->f32;
    cublasHandle_t blas = queue->failed || p->rows == 0 || p->cols == 0 ? NULL : queue_blas(queue);
    if (!blas)
        return;
    /* cuBLAS is column-major: a row-major product c = a b is its c^T = b^T a^T. */
    cublasStatus_t status = cublasGemmStridedBatchedEx(
        blas, p->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, p->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
        (int)p->cols, (int)p->rows, (int)p->inner, &one, p->b.data, type, (int)p->b.stride, p->b_apart,
        p->a.data, type, (int)p->a.stride, p->a_apart, &scale, p->c, CUDA_R_32F, (int)p->c_stride, p->c_apart,
        (int)(p->batch ? p->batch : 1), tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
        CUBLAS_GEMM_DEFAULT);
    if (status != CUBLAS_STATUS_SUCCESS)
        cuda_fail(queue, blas_kind(status), "%s [%lld, %lld]: a product over %lld: cuBLAS: %s", p->op,
                  (long long)shape.rows, (long long)shape.cols, (long long)p->inner,
                  cublasGetStatusString(status));
}

/* ---- frozen weights ---- */

static struct operand weight_operand(const struct weight *base)
{
    const struct cuda_weight *weight = (const struct cuda_weight *)base;
    struct operand operand = {weight->matrix, base->backend->options.math == MATH_BF16, base->cols};
    return operand;
}

/* y [M, N] += bias [N]: read and written once, bound by memory. */
__global__ void add_row(const float *bias, int64_t rows, int64_t cols, float *y, int64_t y_stride)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < rows * cols)
        y[index / cols * y_stride + index % cols] += bias[index % cols];
}

void cuda_matmul(struct queue *queue, struct matrix x, const struct weight *base, struct matrix y,
                 enum op_mode mode)
{
    const struct cuda_weight *weight = (const struct cuda_weight *)base;
    struct product product = {};
    void *scratch;
    if (y.rows == 0)
        return;
    if (x.rows <= MATMUL_FEW_ROWS && weight->parts > 0) {
        cuda_matmul_few(queue, x, base, y, mode);
        return;
    }
    if (!operand_make(queue, "matmul", x, &product.a, &scratch))
        return;
    product.op = "matmul";
    product.rows = x.rows;
    product.cols = base->rows;
    product.inner = base->cols;
    product.b = weight_operand(base);
    product.transpose_b = true;
    product.c = matrix_floats(y);
    product.c_stride = y.stride;
    product.add = mode == OP_ADD;
    product_run(queue, &product);
    if (weight->bias && !queue->failed) {
        LAUNCH(add_row, dim3(blocks_for(y.rows * y.cols, 256)), dim3(256), 0, queue_stream(queue), weight->bias,
               y.rows, y.cols, matrix_floats(y), y.stride);
        launch_ok(queue, "matmul", y);
    }
    scratch_free(queue, scratch);
}

void cuda_matmul_grad(struct queue *queue, struct matrix dy, const struct weight *base, struct matrix dx,
                      enum op_mode mode)
{
    struct product product = {};
    void *scratch;
    if (dx.rows == 0 || !operand_make(queue, "matmul_grad", dy, &product.a, &scratch))
        return;
    product.op = "matmul_grad";
    product.rows = dy.rows;
    product.cols = base->cols;
    product.inner = base->rows;
    product.b = weight_operand(base);
    product.c = matrix_floats(dx);
    product.c_stride = dx.stride;
    product.add = mode == OP_ADD;
    product_run(queue, &product);
    scratch_free(queue, scratch);
}

/* ---- buffers ---- */

void cuda_gemm(struct queue *queue, struct matrix a, bool transpose_a, struct matrix b, bool transpose_b,
               struct matrix c, enum op_mode mode)
{
    struct product product = {};
    void *scratch_a = NULL, *scratch_b = NULL;
    if (operand_make(queue, "gemm", a, &product.a, &scratch_a) &&
        operand_make(queue, "gemm", b, &product.b, &scratch_b)) {
        product.op = "gemm";
        product.rows = c.rows;
        product.cols = c.cols;
        product.inner = transpose_a ? a.rows : a.cols;
        product.transpose_a = transpose_a;
        product.transpose_b = transpose_b;
        product.c = matrix_floats(c);
        product.c_stride = c.stride;
        product.add = mode == OP_ADD;
        product_run(queue, &product);
    }
    scratch_free(queue, scratch_a);
    scratch_free(queue, scratch_b);
}

/* Operands of neighbours that are one matrix (a tap's states, under many heads) are rounded once. */
static bool operands_make(struct queue *queue, const struct gemm *gemms, int count, bool right,
                          const void **pointers, struct operand *operand, void **scratch)
{
    for (int i = 0; i < count; i++) {
        const struct matrix x = right ? gemms[i].b : gemms[i].a, *before = NULL;
        if (i > 0)
            before = right ? &gemms[i - 1].b : &gemms[i - 1].a;
        if (before && before->buffer == x.buffer && before->offset == x.offset)
            pointers[i] = pointers[i - 1];
        else if (operand_make(queue, "gemm_group", x, operand, &scratch[i]))
            pointers[i] = operand->data;
        else
            return false;
    }
    return true;
}

/* Where a, b and c of each product lie, in this order. */
struct pointer_list {
    const void *pointer[3 * GEMMS_ALIKE];
};

/* Kernel parameters reach the device without a copy, which from pageable memory may wait for the stream. One
 * thread a pointer, 8 bytes. */
__global__ void write_pointers(struct pointer_list list, int count, const void **table)
{
    if ((int)threadIdx.x < count)
        table[threadIdx.x] = list.pointer[threadIdx.x];
}

static void run_pointers(struct queue *queue, const struct gemm *gemm, int count,
                         const struct pointer_list *pointers, const struct operand *a, const struct operand *b)
{
    const size_t bytes = 3 * (size_t)count * sizeof(void *);
    const int64_t inner = gemm->transpose_a ? gemm->a.rows : gemm->a.cols;
    const float one = 1, scale = gemm->mode == OP_ADD ? 1.0f : 0.0f;
    const cudaDataType_t type = a->bf16 ? CUDA_R_16BF : CUDA_R_32F;
    const bool tf32 = queue->backend->options.math == MATH_TF32;
    cublasHandle_t blas = queue->failed ? NULL : queue_blas(queue);
    void **table = blas ? (void **)scratch_take(queue, "gemm_group", gemm->c, bytes) : NULL;
    if (!table)
        return;
    LAUNCH(write_pointers, dim3(1), dim3(3 * GEMMS_ALIKE), 0, queue_stream(queue), *pointers, 3 * count,
           (const void **)table);
    if (launch_ok(queue, "gemm_group", gemm->c)) {
        cublasStatus_t status = cublasGemmBatchedEx(
            blas, gemm->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, gemm->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
            (int)gemm->c.cols, (int)gemm->c.rows, (int)inner, &one, (const void **)table + count, type,
            (int)b->stride, (const void **)table, type, (int)a->stride, &scale, table + 2 * count, CUDA_R_32F,
            (int)gemm->c.stride, count, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
            CUBLAS_GEMM_DEFAULT);
        if (status != CUBLAS_STATUS_SUCCESS)
            cuda_fail(queue, blas_kind(status), "gemm_group [%lld, %lld]: %d products over %lld: cuBLAS: %s",
                      (long long)gemm->c.rows, (long long)gemm->c.cols, count, (long long)inner,
                      cublasGetStatusString(status));
    }
    scratch_free(queue, table);
}

void cuda_gemm_alike(struct queue *queue, const struct gemm *gemms, int count)
{
    struct pointer_list list = {};
    const void **pointers = list.pointer;
    void *scratch[2 * GEMMS_ALIKE] = {};
    struct operand a, b;
    if (gemms[0].c.rows > 0 && gemms[0].c.cols > 0 &&
        operands_make(queue, gemms, count, false, pointers, &a, scratch) &&
        operands_make(queue, gemms, count, true, pointers + count, &b, scratch + count)) {
        for (int i = 0; i < count; i++)
            pointers[2 * count + i] = matrix_floats(gemms[i].c);
        run_pointers(queue, gemms, count, &list, &a, &b);
    }
    for (int i = 0; i < 2 * count; i++)
        scratch_free(queue, scratch[i]);
}

/* ---- regression statistics ---- */

#define GRAM_ROWS 512

/* to [M, K] = w [M] x [M, K]: bound by memory. */
__global__ void weigh_rows(const float *x, int64_t x_stride, const float *w, int64_t w_stride, int64_t rows,
                           int64_t cols, float *to)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < rows * cols)
        to[index] = w[index / cols * w_stride] * x[index / cols * x_stride + index % cols];
}

/* g [K, N] f64 += part [K, N] f32: 20 bytes a value, bound by memory. */
__global__ void add_part(const float *part, int64_t rows, int64_t cols, double *g, int64_t g_stride)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < rows * cols)
        g[index / cols * g_stride + index % cols] += (double)part[index];
}

void cuda_gram(struct queue *queue, struct matrix x, struct matrix y, struct matrix w, struct matrix g)
{
    cudaStream_t stream = queue_stream(queue);
    float *weighed = (float *)scratch_take(queue, "gram", x, (size_t)(GRAM_ROWS * x.cols) * sizeof(float));
    float *part = (float *)scratch_take(queue, "gram", g, (size_t)(g.rows * g.cols) * sizeof(float));
    for (int64_t first = 0; first < x.rows && weighed && part && !queue->failed; first += GRAM_ROWS) {
        int64_t rows = x.rows - first < GRAM_ROWS ? x.rows - first : GRAM_ROWS;
        struct product product = {};
        LAUNCH(weigh_rows, dim3(blocks_for(rows * x.cols, 256)), dim3(256), 0, stream,
               matrix_floats(x) + first * x.stride, x.stride, matrix_floats(w) + first * w.stride, w.stride,
               rows, x.cols, weighed);
        product.op = "gram";
        product.rows = x.cols;
        product.cols = y.cols;
        product.inner = rows;
        product.a.data = weighed;
        product.a.stride = x.cols;
        product.transpose_a = true;
        product.b.data = matrix_floats(y) + first * y.stride;
        product.b.stride = y.stride;
        product.c = part;
        product.c_stride = g.cols;
        product_run(queue, &product);
        LAUNCH(add_part, dim3(blocks_for(g.rows * g.cols, 256)), dim3(256), 0, stream, part, g.rows, g.cols,
               matrix_doubles(g), g.stride);
        launch_ok(queue, "gram", g);
    }
    scratch_free(queue, weighed);
    scratch_free(queue, part);
}
