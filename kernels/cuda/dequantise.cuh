/* dequantise.cuh: eight neighbouring values of a weight's row, from the file's own format.
 *
 * `row` is the row's first byte, k a multiple of 8 inside the row. f32, f16 and bf16 rows are read 16
 * bytes at a time and must be aligned to it (8 values); the block formats are aligned to 2 bytes only,
 * and a block's scale is read again by each of its four eights, from the cache. */
#ifndef OFFRAMP_KERNELS_CUDA_DEQUANTISE_CUH
#define OFFRAMP_KERNELS_CUDA_DEQUANTISE_CUH

#include "kernels/cuda/device.cuh"

#define BLOCK_VALUES 32
#define Q8_0_BYTES   34
#define Q4_0_BYTES   18
#define Q4_1_BYTES   20

__device__ inline float half_at(const unsigned char *bytes)
{
    __half value;
    memcpy(&value, bytes, 2);
    return __half2float(value);
}

template <enum dtype TYPE> struct eight;

template <> struct eight<DTYPE_F32> {
    static __device__ inline void load(const unsigned char *row, int64_t k, float value[8])
    {
        const float4 *from = (const float4 *)(row + k * 4);
        float4 a = from[0], b = from[1];
        value[0] = a.x, value[1] = a.y, value[2] = a.z, value[3] = a.w;
        value[4] = b.x, value[5] = b.y, value[6] = b.z, value[7] = b.w;
    }
};

template <> struct eight<DTYPE_BF16> {
    static __device__ inline void load(const unsigned char *row, int64_t k, float value[8])
    {
        uint4 bits = *(const uint4 *)(row + k * 2);
        const unsigned word[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            value[2 * i] = __int_as_float((int)(word[i] << 16));
            value[2 * i + 1] = __int_as_float((int)(word[i] & 0xffff0000u));
        }
    }
};

template <> struct eight<DTYPE_F16> {
    static __device__ inline void load(const unsigned char *row, int64_t k, float value[8])
    {
        uint4 bits = *(const uint4 *)(row + k * 2);
        const unsigned word[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
        for (int i = 0; i < 8; i++) {
            unsigned short half = (unsigned short)(word[i / 2] >> (i % 2 * 16));
            value[i] = half_at((const unsigned char *)&half);
        }
    }
};

template <> struct eight<DTYPE_Q8_0> {
    static __device__ inline void load(const unsigned char *row, int64_t k, float value[8])
    {
        const unsigned char *block = row + k / BLOCK_VALUES * Q8_0_BYTES;
        const unsigned short *quants = (const unsigned short *)(block + 2 + k % BLOCK_VALUES);
        float scale = half_at(block);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            unsigned pair = quants[i];
            value[2 * i] = scale * (float)(signed char)(pair & 255);
            value[2 * i + 1] = scale * (float)(signed char)(pair >> 8);
        }
    }
};

/* The 8 nibbles of values k .. k+7: low halves for the block's first 16 values, high for the rest. */
__device__ inline void load_nibbles(const unsigned char *nibbles, int64_t k, float value[8])
{
    const unsigned short *pairs = (const unsigned short *)(nibbles + k % 16);
    int shift = k % BLOCK_VALUES < 16 ? 0 : 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        unsigned pair = pairs[i] >> shift;
        value[2 * i] = (float)(pair & 15);
        value[2 * i + 1] = (float)(pair >> 8 & 15);
    }
}

template <> struct eight<DTYPE_Q4_0> {
    static __device__ inline void load(const unsigned char *row, int64_t k, float value[8])
    {
        const unsigned char *block = row + k / BLOCK_VALUES * Q4_0_BYTES;
        float scale = half_at(block);
        load_nibbles(block + 2, k, value);
#pragma unroll
        for (int i = 0; i < 8; i++)
            value[i] = scale * (value[i] - 8);
    }
};

template <> struct eight<DTYPE_Q4_1> {
    static __device__ inline void load(const unsigned char *row, int64_t k, float value[8])
    {
        const unsigned char *block = row + k / BLOCK_VALUES * Q4_1_BYTES;
        float scale = half_at(block), least = half_at(block + 2);
        load_nibbles(block + 4, k, value);
#pragma unroll
        for (int i = 0; i < 8; i++)
            value[i] = scale * value[i] + least;
    }
};

/* One value of any format: for rows whose length or alignment rules out the eights. */
template <enum dtype TYPE> __device__ inline float one_value(const unsigned char *row, int64_t k)
{
    if (TYPE == DTYPE_F32) {
        float value;
        memcpy(&value, row + k * 4, 4);
        return value;
    }
    if (TYPE == DTYPE_BF16) {
        unsigned short bits;
        memcpy(&bits, row + k * 2, 2);
        return __int_as_float((int)((unsigned)bits << 16));
    }
    return half_at(row + k * 2);
}

/* Bytes of a row of K values, on the device as in the file. */
static inline size_t part_row_bytes(enum dtype type, int64_t cols)
{
    switch (type) {
    case DTYPE_F32: return (size_t)cols * 4;
    case DTYPE_Q8_0: return (size_t)(cols / BLOCK_VALUES) * Q8_0_BYTES;
    case DTYPE_Q4_0: return (size_t)(cols / BLOCK_VALUES) * Q4_0_BYTES;
    case DTYPE_Q4_1: return (size_t)(cols / BLOCK_VALUES) * Q4_1_BYTES;
    default: return (size_t)cols * 2;
    }
}

static inline bool is_block_format(enum dtype type)
{
    return type == DTYPE_Q8_0 || type == DTYPE_Q4_0 || type == DTYPE_Q4_1;
}

/* Calls action.template run<TYPE>() for the weight format `type`. */
template <typename Action> static void with_format(enum dtype type, Action action)
{
    switch (type) {
    case DTYPE_F32: action.template run<DTYPE_F32>(); break;
    case DTYPE_F16: action.template run<DTYPE_F16>(); break;
    case DTYPE_BF16: action.template run<DTYPE_BF16>(); break;
    case DTYPE_Q8_0: action.template run<DTYPE_Q8_0>(); break;
    case DTYPE_Q4_0: action.template run<DTYPE_Q4_0>(); break;
    default: action.template run<DTYPE_Q4_1>(); break;
    }
}

#endif
