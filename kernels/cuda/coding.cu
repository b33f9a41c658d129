/* coding.cu: what codecs keep of states. */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/table.cuh"

#define THREADS 256

/* ---- integers ---- */

/* round_scale of kernels/backend.h. */
__device__ inline float bf16_scale(double root)
{
    const unsigned bits = bf16_bits((float)root), exponent = bits >> 7;
    if (!(root < 1e39))
        return __int_as_float(0x7fc00000); /* NaN */
    return exponent == 0 ? 0 : __int_as_float((int)((exponent == 0xff ? 0x7f7fu : bits) << 16));
}

/* v to the nearest integer; its squared error is added to *lost. */
__device__ inline int nearest_short(float v, float *lost)
{
    const float nearest = fminf(fmaxf(rintf(v), -32768.0f), 32767.0f);
    *lost += (v - nearest) * (v - nearest);
    return (int)nearest;
}

__device__ inline unsigned short_pair(int low, int high)
{
    return ((unsigned)low & 0xffff) | (unsigned)high << 16;
}

/* One block a row. x [inner] is read for its root mean square, products and offset [cols] for the integers,
 * four neighbouring values a thread where they lie so: 4 + 4 + 2 bytes and about 12 operations a value, two of
 * them f64, bound by memory (the offset stays in the cache). The product before it takes 2 K operations a value
 * and is what bounds the op. */
__global__ void quantise_rows(const float *x, int64_t x_stride, int64_t inner, const float *products,
                              const float *offset, int64_t cols, float spacing, int16_t *q, int64_t q_stride,
                              float *scale, int64_t scale_stride, float *lost, int64_t lost_stride)
{
    __shared__ double warps[32];
    const float *row = x + blockIdx.x * x_stride, *product = products + blockIdx.x * cols;
    int16_t *to = q + blockIdx.x * q_stride;
    double squares = 0;
    for (int64_t k = threadIdx.x; k < inner; k += blockDim.x)
        squares += (double)row[k] * row[k];
    const float s = bf16_scale(sqrt(block_sum(squares, warps) / (double)inner));
    const float by_scale = s > 0 ? 1 / s : 0, by_spacing = 1 / spacing;
    const bool wide = (((size_t)product | (size_t)offset) & 15) == 0 && ((size_t)to & 7) == 0;
    float sum = 0;
    for (int64_t c = 4 * (int64_t)threadIdx.x; c < cols; c += 4 * (int64_t)blockDim.x)
        if (wide && c + 4 <= cols) {
            const float4 p = *(const float4 *)(product + c), o = *(const float4 *)(offset + c);
            const int a = nearest_short(p.x * by_scale * by_spacing - o.x, &sum),
                      b = nearest_short(p.y * by_scale * by_spacing - o.y, &sum),
                      d = nearest_short(p.z * by_scale * by_spacing - o.z, &sum),
                      e = nearest_short(p.w * by_scale * by_spacing - o.w, &sum);
            *(uint2 *)(to + c) = make_uint2(short_pair(a, b), short_pair(d, e));
        } else {
            for (int64_t i = c; i < c + 4 && i < cols; i++)
                to[i] = (int16_t)nearest_short(product[i] * by_scale * by_spacing - offset[i], &sum);
        }
    const double total = block_sum((double)sum, warps);
    if (threadIdx.x == 0) {
        scale[blockIdx.x * scale_stride] = isfinite(total) ? s : __int_as_float(0x7fc00000);
        lost[blockIdx.x * lost_stride] = (float)total;
    }
}

void cuda_quantise(struct queue *queue, struct matrix x, struct matrix basis, struct matrix offset,
                   float spacing, struct matrix q, struct matrix scale, struct matrix lost)
{
    float *products = (float *)scratch_take(queue, "quantise", q, (size_t)(q.rows * q.cols) * sizeof(float));
    struct product product = {};
    if (!products)
        return;
    product.op = "quantise";
    product.rows = q.rows;
    product.cols = q.cols;
    product.inner = x.cols;
    product.a = operand_f32(x);
    product.b = operand_f32(basis);
    product.f32 = true;
    product.c = products;
    product.c_stride = q.cols;
    product_run(queue, &product);
    LAUNCH(quantise_rows, dim3((unsigned)q.rows), row_threads(x.cols > q.cols ? x.cols : q.cols, THREADS), 0,
           queue_stream(queue), matrix_floats(x), x.stride, x.cols, products, matrix_floats(offset), q.cols,
           spacing, matrix_shorts(q), q.stride, matrix_floats(scale), scale.stride, matrix_floats(lost),
           lost.stride);
    launch_ok(queue, "quantise", q);
    scratch_free(queue, products);
}

/* ---- planes ---- */

/* The bf16 bits of a value, its sign behind its mantissa. */
__device__ inline unsigned rotated_bits(float value)
{
    const unsigned bits = bf16_bits(value);
    return (bits << 1 | bits >> 15) & 0xffff;
}

/* Four values' high bytes, and their low ones. */
__device__ inline uint2 split_four(float4 values)
{
    const unsigned a = rotated_bits(values.x), b = rotated_bits(values.y), c = rotated_bits(values.z),
                   d = rotated_bits(values.w);
    return make_uint2(a >> 8 | (b & 0xff00) | (c & 0xff00) << 8 | (d & 0xff00) << 16,
                      (a & 0xff) | (b & 0xff) << 8 | (c & 0xff) << 16 | d << 24);
}

/* Eight neighbouring values of a row a thread, 16 bytes in and 8 out at a time where they lie so. 6 bytes and
 * about 12 integer operations a value: bound by memory. */
__global__ void split_planes(const float *x, int64_t x_stride, int64_t rows, int64_t cols, uint8_t *high,
                             int64_t high_stride, uint8_t *low, int64_t low_stride)
{
    const int64_t eights = (cols + 7) / 8, index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * eights)
        return;
    const int64_t row = index / eights, k = index % eights * 8;
    const float *from = x + row * x_stride + k;
    uint8_t *to_high = high + row * high_stride + k, *to_low = low + row * low_stride + k;
    if (k + 8 <= cols && ((size_t)from & 15) == 0 && (((size_t)to_high | (size_t)to_low) & 7) == 0) {
        const uint2 a = split_four(*(const float4 *)from), b = split_four(*(const float4 *)(from + 4));
        *(uint2 *)to_high = make_uint2(a.x, b.x);
        *(uint2 *)to_low = make_uint2(a.y, b.y);
    } else {
        for (int i = 0; i < 8 && k + i < cols; i++) {
            const unsigned bits = rotated_bits(from[i]);
            to_high[i] = (uint8_t)(bits >> 8);
            to_low[i] = (uint8_t)bits;
        }
    }
}

void cuda_split_planes(struct queue *queue, struct matrix x, struct matrix high, struct matrix low)
{
    LAUNCH(split_planes, dim3(blocks_for(x.rows * ((x.cols + 7) / 8), THREADS)), dim3(THREADS), 0,
           queue_stream(queue), matrix_floats(x), x.stride, x.rows, x.cols, matrix_bytes(high), high.stride,
           matrix_bytes(low), low.stride);
    launch_ok(queue, "split_planes", x);
}
