/* reduce.cuh: sums and maxima over a warp or a block, in an order that depends on the block's size
 * only. Every thread of the block must call; every thread gets the result. */
#ifndef OFFRAMP_KERNELS_CUDA_REDUCE_CUH
#define OFFRAMP_KERNELS_CUDA_REDUCE_CUH

#include "kernels/cuda/device.cuh"

template <typename T> __device__ inline T warp_sum(T value)
{
    for (int bits = 16; bits > 0; bits >>= 1)
        value += __shfl_xor_sync(0xffffffffu, value, bits);
    return value;
}

__device__ inline float warp_max(float value)
{
    for (int bits = 16; bits > 0; bits >>= 1)
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, bits));
    return value;
}

/* partial: shared memory for one value a warp (32). The block's size is a multiple of 32. */
template <typename T> __device__ inline T block_sum(T value, T *partial)
{
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    value = warp_sum(value);
    __syncthreads(); /* an earlier reduction may still read partial */
    if (lane == 0)
        partial[warp] = value;
    __syncthreads();
    return warp_sum(lane < warps ? partial[lane] : (T)0);
}

__device__ inline float block_max(float value, float *partial)
{
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    value = warp_max(value);
    __syncthreads();
    if (lane == 0)
        partial[warp] = value;
    __syncthreads();
    return warp_max(lane < warps ? partial[lane] : -INFINITY);
}

#endif
