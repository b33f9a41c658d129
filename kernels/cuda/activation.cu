/* activation.cu: silu(g) u and its gradient. Bound by memory: 12 bytes a value forward, 20 back. */
#include "kernels/cuda/table.cuh"

#define THREADS 256

__global__ void swiglu_values(const float *x, int64_t x_stride, int64_t rows, int64_t cols, float *y,
                              int64_t y_stride)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * cols)
        return;
    int64_t row = index / cols, col = index % cols;
    float gate = x[row * x_stride + col], up = x[row * x_stride + cols + col];
    y[row * y_stride + col] = gate / (1.0f + __expf(-gate)) * up;
}

void cuda_swiglu(struct queue *queue, struct matrix x, struct matrix y)
{
    if (y.rows * y.cols == 0)
        return;
    LAUNCH(swiglu_values, dim3(blocks_for(y.rows * y.cols, THREADS)), dim3(THREADS), 0, queue_stream(queue),
           matrix_floats(x), x.stride, y.rows, y.cols, matrix_floats(y), y.stride);
    launch_ok(queue, "swiglu", y);
}

__global__ void swiglu_gradients(const float *dy, int64_t dy_stride, const float *x, int64_t x_stride,
                                 int64_t rows, int64_t cols, float *dx, int64_t dx_stride)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * cols)
        return;
    int64_t row = index / cols, col = index % cols;
    float gate = x[row * x_stride + col], up = x[row * x_stride + cols + col],
          gradient = dy[row * dy_stride + col];
    float sigmoid = 1.0f / (1.0f + __expf(-gate)), silu = gate * sigmoid;
    dx[row * dx_stride + col] = gradient * up * (sigmoid + silu * (1.0f - sigmoid));
    dx[row * dx_stride + cols + col] = gradient * silu;
}

void cuda_swiglu_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix dx)
{
    if (dy.rows * dy.cols == 0)
        return;
    LAUNCH(swiglu_gradients, dim3(blocks_for(dy.rows * dy.cols, THREADS)), dim3(THREADS), 0,
           queue_stream(queue), matrix_floats(dy), dy.stride, matrix_floats(x), x.stride, dy.rows, dy.cols,
           matrix_floats(dx), dx.stride);
    launch_ok(queue, "swiglu_grad", dy);
}
