/* elementwise.cu: sums and updates without structure. All are bound by memory. */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/table.cuh"

#define THREADS   256
#define SUM_ROWS  256 /* rows per part of a sum over rows: fixed, so that the order is */
#define SUM_PARTS 1024
#define SQUARES   EMULATED_ELSE(2, 32) /* matrices of a launch, whose arguments have 4 KB */

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

/* partial [parts, cols]: each part's sum over its rows, in order; neighbouring threads read
 * neighbouring columns. */
__global__ void sum_part(const float *x, int64_t stride, int64_t rows, int64_t cols, float *partial)
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

/* s [cols] += the parts, in order. */
__global__ void add_parts(const float *partial, int64_t parts, int64_t cols, float *s)
{
    int64_t col = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (col >= cols)
        return;
    float sum = 0;
    for (int64_t part = 0; part < parts; part++)
        sum += partial[part * cols + col];
    s[col] += sum;
}

void cuda_sum_rows(struct queue *queue, struct matrix x, struct matrix s)
{
    int64_t parts = (x.rows + SUM_ROWS - 1) / SUM_ROWS;
    cudaStream_t stream = queue_stream(queue);
    if (x.rows * x.cols == 0)
        return;
    float *partial = (float *)scratch_take(queue, "sum_rows", x, (size_t)(parts * x.cols) * sizeof(float));
    if (!partial)
        return;
    LAUNCH(sum_part, dim3(blocks_for(x.cols, THREADS), (unsigned)parts), dim3(THREADS), 0, stream,
           matrix_floats(x), x.stride, x.rows, x.cols, partial);
    LAUNCH(add_parts, dim3(blocks_for(x.cols, THREADS)), dim3(THREADS), 0, stream, partial, parts, x.cols,
           matrix_floats(s));
    launch_ok(queue, "sum_rows", x);
    scratch_free(queue, partial);
}

/* A matrix whose squares are summed, and its blocks' sums in a common `partial`. */
struct squared {
    const float *x;
    int64_t stride, cols, count; /* count: rows * cols */
    double *s;
    int64_t partial; /* its first */
    unsigned blocks;
};

struct squares {
    struct squared one[SQUARES];
    int count;
};

/* Block (b, i): the sum of squares in f64 of every blocks-th block of values of matrix i. */
__global__ void square_part(const struct squares squares, double *partial)
{
    __shared__ double warps[32];
    const struct squared &own = squares.one[blockIdx.y];
    if (blockIdx.x >= own.blocks)
        return;
    double sum = 0;
    for (int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; index < own.count;
         index += (int64_t)own.blocks * blockDim.x) {
        double value = own.x[index / own.cols * own.stride + index % own.cols];
        sum += value * value;
    }
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0)
        partial[own.partial + blockIdx.x] = sum;
}

/* A block for each matrix. The first matrix of an s adds up all of that s, in order. */
__global__ void add_squares(const struct squares squares, const double *partial)
{
    __shared__ double warps[32];
    double *s = squares.one[blockIdx.x].s;
    for (int i = 0; i < (int)blockIdx.x; i++)
        if (squares.one[i].s == s)
            return;
    for (int i = blockIdx.x; i < squares.count; i++) {
        const struct squared &own = squares.one[i];
        if (own.s != s)
            continue;
        double sum = 0;
        for (unsigned b = threadIdx.x; b < own.blocks; b += blockDim.x)
            sum += partial[own.partial + b];
        sum = block_sum(sum, warps);
        if (threadIdx.x == 0)
            *s += sum;
    }
}

/* Up to SQUARES of them. */
static void launch_squares(struct queue *queue, const struct square_sum *sums, int count)
{
    struct squares squares = {};
    int64_t partials = 0;
    unsigned most = 0;
    for (int i = 0; i < count; i++) {
        struct squared *own = &squares.one[i];
        own->x = matrix_floats(sums[i].x);
        own->stride = sums[i].x.stride;
        own->cols = sums[i].x.cols;
        own->count = sums[i].x.rows * own->cols;
        own->s = matrix_doubles(sums[i].s);
        own->partial = partials;
        own->blocks = blocks_for(own->count, THREADS);
        own->blocks = own->blocks < SUM_PARTS ? own->blocks : SUM_PARTS;
        most = own->blocks > most ? own->blocks : most;
        partials += own->blocks;
    }
    squares.count = count;
    double *partial = (double *)scratch_take(queue, "sum_squares", sums->x, partials * sizeof(double));
    if (!partial)
        return;
    LAUNCH(square_part, dim3(most, (unsigned)count), dim3(THREADS), 0, queue_stream(queue), squares, partial);
    LAUNCH(add_squares, dim3((unsigned)count), dim3(THREADS), 0, queue_stream(queue), squares, partial);
    launch_ok(queue, "sum_squares", sums->x);
    scratch_free(queue, partial);
}

void cuda_sum_squares(struct queue *queue, const struct square_sum *sums, int count)
{
    for (int first = 0; first < count; first += SQUARES)
        launch_squares(queue, sums + first, count - first < SQUARES ? count - first : SQUARES);
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
