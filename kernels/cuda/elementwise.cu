/* elementwise.cu: sums and updates without structure. All are bound by memory. */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/table.cuh"

#define THREADS    256
#define SUM_ROWS   256 /* rows per piece of a sum over rows: fixed, so that the order is */
#define SUM_PIECES 1024

/* 12 bytes a value. */
__global__ void add_scaled(float alpha, const float *x, int64_t x_stride, int64_t rows, int64_t cols, float *y,
                           int64_t y_stride)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < rows * cols) {
        int64_t row = index / cols, col = index % cols;
        y[row * y_stride + col] += alpha * x[row * x_stride + col];
    }
}

void cuda_axpy(struct queue *queue, float alpha, struct matrix x, struct matrix y)
{
    if (x.rows * x.cols == 0)
        return;
    LAUNCH(add_scaled, dim3(blocks_for(x.rows * x.cols, THREADS)), dim3(THREADS), 0, queue_stream(queue), alpha,
           matrix_floats(x), x.stride, x.rows, x.cols, matrix_floats(y), y.stride);
    launch_ok(queue, "axpy", y);
}

void cuda_add_bias(struct queue *queue, struct matrix b, struct matrix y)
{
    if (y.rows * y.cols == 0)
        return;
    /* The bias is a matrix whose rows all lie in one place. */
    LAUNCH(add_scaled, dim3(blocks_for(y.rows * y.cols, THREADS)), dim3(THREADS), 0, queue_stream(queue), 1.0f,
           matrix_floats(b), (int64_t)0, y.rows, y.cols, matrix_floats(y), y.stride);
    launch_ok(queue, "add_bias", y);
}

/* partial [pieces, cols]: each piece's sum over its rows, in order; neighbouring threads read
 * neighbouring columns. */
__global__ void sum_piece(const float *x, int64_t stride, int64_t rows, int64_t cols, float *partial)
{
    int64_t col = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, first = (int64_t)blockIdx.y * SUM_ROWS;
    int64_t last = first + SUM_ROWS < rows ? first + SUM_ROWS : rows;
    if (col >= cols)
        return;
    float sum = 0;
    for (int64_t row = first; row < last; row++)
        sum += x[row * stride + col];
    partial[blockIdx.y * cols + col] = sum;
}

/* s [cols] += the pieces, in order. */
__global__ void add_pieces(const float *partial, int64_t pieces, int64_t cols, float *s)
{
    int64_t col = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (col >= cols)
        return;
    float sum = 0;
    for (int64_t piece = 0; piece < pieces; piece++)
        sum += partial[piece * cols + col];
    s[col] += sum;
}

void cuda_sum_rows(struct queue *queue, struct matrix x, struct matrix s)
{
    int64_t pieces = (x.rows + SUM_ROWS - 1) / SUM_ROWS;
    cudaStream_t stream = queue_stream(queue);
    if (x.rows * x.cols == 0)
        return;
    float *partial = (float *)scratch_take(queue, "sum_rows", x, (size_t)(pieces * x.cols) * sizeof(float));
    if (!partial)
        return;
    LAUNCH(sum_piece, dim3(blocks_for(x.cols, THREADS), (unsigned)pieces), dim3(THREADS), 0, stream,
           matrix_floats(x), x.stride, x.rows, x.cols, partial);
    LAUNCH(add_pieces, dim3(blocks_for(x.cols, THREADS)), dim3(THREADS), 0, stream, partial, pieces, x.cols,
           matrix_floats(s));
    launch_ok(queue, "sum_rows", x);
    scratch_free(queue, partial);
}

/* partial [blocks]: sums of squares in f64 of every gridDim-th block of values. */
__global__ void square_piece(const float *x, int64_t stride, int64_t rows, int64_t cols, double *partial)
{
    __shared__ double warps[32];
    double sum = 0;
    for (int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; index < rows * cols;
         index += (int64_t)gridDim.x * blockDim.x) {
        double value = x[index / cols * stride + index % cols];
        sum += value * value;
    }
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

__global__ void add_squares(const double *partial, int count, double *s)
{
    __shared__ double warps[32];
    double sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x)
        sum += partial[i];
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0)
        *s += sum;
}

void cuda_sum_squares(struct queue *queue, struct matrix x, struct matrix s)
{
    int64_t values = x.rows * x.cols;
    if (values == 0)
        return;
    unsigned blocks = blocks_for(values, THREADS);
    if (blocks > SUM_PIECES)
        blocks = SUM_PIECES;
    double *partial = (double *)scratch_take(queue, "sum_squares", x, blocks * sizeof(double));
    if (!partial)
        return;
    LAUNCH(square_piece, dim3(blocks), dim3(THREADS), 0, queue_stream(queue), matrix_floats(x), x.stride,
           x.rows, x.cols, partial);
    LAUNCH(add_squares, dim3(1), dim3(THREADS), 0, queue_stream(queue), partial, (int)blocks,
           matrix_doubles(s));
    launch_ok(queue, "sum_squares", x);
    scratch_free(queue, partial);
}

/* 4 bytes a value; one block a row. */
__global__ void mean_squares(const float *x, int64_t stride, int64_t cols, float *m, int64_t m_stride)
{
    __shared__ float warps[32];
    const float *row = x + blockIdx.x * stride;
    float sum = 0;
    for (int64_t col = threadIdx.x; col < cols; col += blockDim.x)
        sum += row[col] * row[col];
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0)
        m[blockIdx.x * m_stride] = sum / (float)cols;
}

void cuda_mean_square(struct queue *queue, struct matrix x, struct matrix m)
{
    if (x.rows == 0)
        return;
    LAUNCH(mean_squares, dim3((unsigned)x.rows), dim3(THREADS), 0, queue_stream(queue), matrix_floats(x),
           x.stride, x.cols, matrix_floats(m), m.stride);
    launch_ok(queue, "mean_square", x);
}
