/* norm.cu: root-mean-square norm and its gradient, per row or per group of columns. */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/table.cuh"

/* Threads for a group of that many values: a warp for attention heads, more for whole rows. */
static unsigned group_threads(int64_t group)
{
    unsigned threads = 32;
    while (threads < 512 && threads * 4 < group)
        threads *= 2;
    return threads;
}

/* One block a group of a row. 8 bytes a value (read twice, the second time from the cache; written
 * once), about 4 flops: bound by memory. y may be x. */
__global__ void norm_groups(const float *x, int64_t x_stride, const float *scale, int64_t group, float epsilon,
                            float *y, int64_t y_stride)
{
    __shared__ float warps[32];
    const float *from = x + blockIdx.x * x_stride + blockIdx.y * group;
    float *to = y + blockIdx.x * y_stride + blockIdx.y * group;
    float sum = 0;
    for (int64_t i = threadIdx.x; i < group; i += blockDim.x)
        sum += from[i] * from[i];
    float inverse = rsqrtf(block_sum(sum, warps) / (float)group + epsilon);
    for (int64_t i = threadIdx.x; i < group; i += blockDim.x)
        to[i] = from[i] * inverse * scale[i];
}

void cuda_norm(struct queue *queue, struct matrix x, struct matrix scale, float epsilon, struct matrix y)
{
    int64_t group = scale.cols;
    if (x.rows == 0)
        return;
    LAUNCH(norm_groups, dim3((unsigned)x.rows, (unsigned)(x.cols / group)), dim3(group_threads(group)), 0,
           queue_stream(queue), matrix_floats(x), x.stride, matrix_floats(scale), group, epsilon,
           matrix_floats(y), y.stride);
    launch_ok(queue, "norm", x);
}

/* With r = 1 / rms and n = x r: dx = r (dy s - n mean(dy s n)). One block a group; 12 bytes a value
 * (16 when added): bound by memory. inverse [rows, groups] keeps r for dscale. */
__global__ void norm_groups_grad(const float *dy, int64_t dy_stride, const float *x, int64_t x_stride,
                                 const float *scale, int64_t group, float epsilon, float *dx, int64_t dx_stride,
                                 bool add, float *inverse)
{
    __shared__ float warps[32];
    int64_t first = blockIdx.y * group;
    const float *from = x + blockIdx.x * x_stride + first, *gradient = dy + blockIdx.x * dy_stride + first;
    float *to = dx + blockIdx.x * dx_stride + first;
    float squares = 0, products = 0;
    for (int64_t i = threadIdx.x; i < group; i += blockDim.x) {
        squares += from[i] * from[i];
        products += gradient[i] * scale[i] * from[i];
    }
    float r = rsqrtf(block_sum(squares, warps) / (float)group + epsilon);
    float mean = block_sum(products, warps) * r / (float)group;
    for (int64_t i = threadIdx.x; i < group; i += blockDim.x) {
        float value = r * (gradient[i] * scale[i] - from[i] * r * mean);
        to[i] = add ? to[i] + value : value;
    }
    if (threadIdx.x == 0)
        inverse[blockIdx.x * gridDim.y + blockIdx.y] = r;
}

#define PART_ROWS 128

/* partial [parts, group]: sum over the rows of a part and all groups of dy n. */
__global__ void scale_part(const float *dy, int64_t dy_stride, const float *x, int64_t x_stride,
                           const float *inverse, int64_t rows, int64_t groups, int64_t group, float *partial)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, first = (int64_t)blockIdx.y * PART_ROWS;
    int64_t last = first + PART_ROWS < rows ? first + PART_ROWS : rows;
    if (i >= group)
        return;
    float sum = 0;
    for (int64_t row = first; row < last; row++)
        for (int64_t g = 0; g < groups; g++)
            sum += dy[row * dy_stride + g * group + i] * x[row * x_stride + g * group + i] *
                   inverse[row * groups + g];
    partial[blockIdx.y * group + i] = sum;
}

__global__ void add_scale_parts(const float *partial, int64_t parts, int64_t group, float *dscale)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= group)
        return;
    float sum = 0;
    for (int64_t part = 0; part < parts; part++)
        sum += partial[part * group + i];
    dscale[i] += sum;
}

void cuda_norm_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix scale, float epsilon,
                    struct matrix dx, enum op_mode mode, struct matrix dscale)
{
    int64_t group = scale.cols, groups = x.cols / group, parts = (x.rows + PART_ROWS - 1) / PART_ROWS;
    cudaStream_t stream = queue_stream(queue);
    if (x.rows == 0)
        return;
    size_t values = (size_t)(x.rows * groups + parts * group);
    float *inverse = (float *)scratch_take(queue, "norm_grad", x, values * sizeof(float));
    if (!inverse)
        return;
    float *partial = inverse + x.rows * groups;
    LAUNCH(norm_groups_grad, dim3((unsigned)x.rows, (unsigned)groups), dim3(group_threads(group)), 0, stream,
           matrix_floats(dy), dy.stride, matrix_floats(x), x.stride, matrix_floats(scale), group, epsilon,
           matrix_floats(dx), dx.stride, mode == OP_ADD, inverse);
    if (dscale.buffer) {
        LAUNCH(scale_part, dim3(blocks_for(group, 256), (unsigned)parts), dim3(256), 0, stream,
               matrix_floats(dy), dy.stride, matrix_floats(x), x.stride, inverse, x.rows, groups, group,
               partial);
        LAUNCH(add_scale_parts, dim3(blocks_for(group, 256)), dim3(256), 0, stream, partial, parts, group,
               matrix_floats(dscale));
    }
    launch_ok(queue, "norm_grad", x);
    scratch_free(queue, inverse);
}
