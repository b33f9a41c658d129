/* device.cuh: what every file of the cuda backend stands on: the toolkit (or, for tests, its
 * emulation), launches, errors and working memory.
 *
 * A launch goes through LAUNCH and dynamic shared memory through DYNAMIC_SHARED, so that the same
 * source is compiled by nvcc and, with tests/cuda/emulator.h in front, by a C++ compiler.
 */
#ifndef OFFRAMP_KERNELS_CUDA_DEVICE_CUH
#define OFFRAMP_KERNELS_CUDA_DEVICE_CUH

#ifdef OFFRAMP_CUDA_EMULATED
#define LAUNCH(kernel, grid, block, shared, stream, ...) \
    emulator_launch(#kernel, grid, block, shared, [&] { kernel(__VA_ARGS__); })
#define DYNAMIC_SHARED(type, name) type *name = (type *)emulator_dynamic_shared()
#else
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define LAUNCH(kernel, grid, block, shared, stream, ...) kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define DYNAMIC_SHARED(type, name)                                  \
    extern __shared__ __align__(16) unsigned char name##_storage[]; \
    type *name = (type *)name##_storage
#endif

extern "C" {
#include "kernels/backend.h"
}

#endif
