/* emulator.h: runs the CUDA kernels of kernels/cuda on the processor, for tests only.
 *
 * The .cu files are compiled as C++ with this header in front (-include) and
 * OFFRAMP_CUDA_EMULATED defined. Blocks run one after the other; the threads of a block are fibers
 * that switch at barriers and shuffles only. Which of the threads that can run comes next is random,
 * seeded by OFFRAMP_EMULATOR_SEED, so that a missing barrier shows. What a device
 * would leave undefined ends the program with a message that names kernel, block and threads:
 *   - a barrier that not every thread of the block reaches, or reached from different lines;
 *   - a shuffle that not every thread of its mask reaches, or of different kinds;
 *   - a source lane outside the mask.
 * Device memory is the heap, so AddressSanitizer sees accesses outside a buffer; it is filled with
 * NaN patterns, so a value nobody wrote shows too. cuBLAS calls run plain loops.
 */
#ifndef OFFRAMP_TESTS_CUDA_EMULATOR_H
#define OFFRAMP_TESTS_CUDA_EMULATOR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <functional>

/* ---- language ---- */

#define __global__ static
#define __device__ __attribute__((unused))
#define __host__
#define __forceinline__ inline
/* In a section of its own, which every block finds full of garbage. */
#define __shared__   static __attribute__((section("emulator_shared")))
#define __constant__ static
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c)
    {
    }
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w)
{
    return float4{x, y, z, w};
}
static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return uint2{x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return uint4{x, y, z, w};
}

/* Variables of the running thread: the scheduler sets them at each switch. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
extern int emulator_current; /* its number in the block */
static const int warpSize = 32;

/* ---- scheduling (emulator.cpp) ---- */

void emulator_launch(const char *kernel, dim3 grid, dim3 block, size_t shared,
                     const std::function<void()> &body);
void *emulator_dynamic_shared(void);
/* Until every thread of the block is here, from the same line. */
void emulator_block_barrier(int line);
/* Waits until every thread of `mask` in this warp is here, for the same kind of exchange and line; gives
 * value, gets that of lane `source`. */
uint64_t emulator_warp_exchange(unsigned mask, uint64_t value, int source, int kind, int line);
[[noreturn]] void emulator_fail(const char *what);
static inline int emulator_lane(void)
{
    return emulator_current % 32;
}

static inline void __syncthreads(int line = __builtin_LINE())
{
    emulator_block_barrier(line);
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE())
{
    emulator_warp_exchange(mask, 0, emulator_lane(), 0, line);
}

/* Every lane of mask gives value; each gets that of lane `source` (of itself when it is outside the warp). */
template <typename T> static T emulator_exchange(unsigned mask, T value, int source, int kind, int line)
{
    static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits =
        emulator_warp_exchange(mask, bits, source >= 0 && source < 32 ? source : emulator_lane(), kind, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}
template <typename T>
static T __shfl_sync(unsigned mask, T value, int source, int width = 32, int line = __builtin_LINE())
{
    int lane = emulator_lane();
    return emulator_exchange(mask, value, (lane & ~(width - 1)) + (source & (width - 1)), 1, line);
}
template <typename T>
static T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, int line = __builtin_LINE())
{
    int lane = emulator_lane(), source = lane ^ bits;
    return emulator_exchange(mask, value, (source & ~(width - 1)) <= (lane & ~(width - 1)) ? source : lane, 2,
                             line);
}
template <typename T>
static T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE())
{
    int lane = emulator_lane(), source = lane + (int)delta;
    return emulator_exchange(mask, value, source / width == lane / width ? source : lane, 3, line);
}

/* ---- numbers ---- */

struct __nv_bfloat16 {
    uint16_t bits;
};
struct __half {
    uint16_t bits;
};
static inline float __bfloat162float(__nv_bfloat16 value)
{
    uint32_t bits = (uint32_t)value.bits << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}
static inline __nv_bfloat16 __float2bfloat16_rn(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value != value)
        return __nv_bfloat16{(uint16_t)(bits >> 16 | 64)};
    return __nv_bfloat16{(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
static inline float __half2float(__half value)
{
    uint32_t sign = (uint32_t)(value.bits & 0x8000) << 16, exponent = value.bits >> 10 & 31,
             mantissa = value.bits & 1023;
    float result;
    if (exponent == 0) {
        result = ldexpf((float)mantissa, -24);
        return sign ? -result : result;
    }
    uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | mantissa << 13;
    memcpy(&result, &bits, sizeof result);
    return result;
}
static inline float __int_as_float(int value)
{
    float result;
    memcpy(&result, &value, sizeof result);
    return result;
}
static inline int __float_as_int(float value)
{
    int result;
    memcpy(&result, &value, sizeof result);
    return result;
}
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
#define __expf expf
static inline float __fdividef(float x, float y)
{
    return x / y;
}
template <typename T> static inline T __ldg(const T *pointer)
{
    return *pointer;
}
static inline int atomicMin(int *address, int value)
{
    int old = *address;
    *address = value < old ? value : old;
    return old;
}
template <typename T> static inline T min(T a, T b)
{
    return b < a ? b : a;
}
template <typename T> static inline T max(T a, T b)
{
    return a < b ? b : a;
}

/* ---- runtime: one device, one processor thread, everything done before a call returns ---- */

typedef int cudaError_t;
enum {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorIllegalAddress = 700
};
enum cudaMemcpyKind {
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
    cudaMemcpyDefault = 4
};
typedef struct emulator_stream *cudaStream_t;
typedef struct emulator_event *cudaEvent_t;
typedef struct emulator_pool *cudaMemPool_t;
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem, sharedMemPerBlockOptin;
    int l2CacheSize;
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostRegisterDefault = 0 };
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold = 4 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError(void);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total);
cudaError_t emulator_malloc(void **pointer, size_t bytes);
template <typename T> static inline cudaError_t cudaMalloc(T **pointer, size_t bytes)
{
    return emulator_malloc((void **)pointer, bytes);
}
template <typename T> static inline cudaError_t cudaMallocAsync(T **pointer, size_t bytes, cudaStream_t)
{
    return emulator_malloc((void **)pointer, bytes);
}
cudaError_t emulator_malloc_host(void **pointer, size_t bytes);
template <typename T> static inline cudaError_t cudaMallocHost(T **pointer, size_t bytes)
{
    return emulator_malloc_host((void **)pointer, bytes);
}
cudaError_t cudaFree(void *pointer);
cudaError_t cudaFreeAsync(void *pointer, cudaStream_t stream);
cudaError_t cudaFreeHost(void *pointer);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device);
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t keep);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void *value);
template <typename F> static inline cudaError_t cudaFuncSetAttribute(F, cudaFuncAttribute, int)
{
    return cudaSuccess;
}

/* ---- cuBLAS: the calls that kernels/cuda makes, by plain loops accumulating in double ---- */

typedef int cublasStatus_t;
enum { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_ALLOC_FAILED = 3, CUBLAS_STATUS_INVALID_VALUE = 7 };
typedef struct emulator_blas *cublasHandle_t;
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cudaDataType_t { CUDA_R_32F = 0, CUDA_R_16BF = 14 };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_32F_FAST_TF32 = 77 };
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT = -1 };
enum libraryPropertyType { MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL };
enum cublasMath_t { CUBLAS_DEFAULT_MATH = 0, CUBLAS_PEDANTIC_MATH = 2 };
const char *cublasGetStatusString(cublasStatus_t status);
cublasStatus_t cublasCreate(cublasHandle_t *handle);
cublasStatus_t cublasDestroy(cublasHandle_t handle);
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode);
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes);
cublasStatus_t cublasGetProperty(libraryPropertyType which, int *value);
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t transpose_a,
                                          cublasOperation_t transpose_b, int m, int n, int k, const void *alpha,
                                          const void *a, cudaDataType_t a_type, int lda, long long a_step,
                                          const void *b, cudaDataType_t b_type, int ldb, long long b_step,
                                          const void *beta, void *c, cudaDataType_t c_type, int ldc,
                                          long long c_step, int batch, cublasComputeType_t compute,
                                          cublasGemmAlgo_t algorithm);
cublasStatus_t cublasGemmBatchedEx(cublasHandle_t handle, cublasOperation_t transpose_a,
                                   cublasOperation_t transpose_b, int m, int n, int k, const void *alpha,
                                   const void *const *a, cudaDataType_t a_type, int lda, const void *const *b,
                                   cudaDataType_t b_type, int ldb, const void *beta, void *const *c,
                                   cudaDataType_t c_type, int ldc, int batch, cublasComputeType_t compute,
                                   cublasGemmAlgo_t algorithm);
static inline cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transpose_a,
                                          cublasOperation_t transpose_b, int m, int n, int k, const void *alpha,
                                          const void *a, cudaDataType_t a_type, int lda, const void *b,
                                          cudaDataType_t b_type, int ldb, const void *beta, void *c,
                                          cudaDataType_t c_type, int ldc, cublasComputeType_t compute,
                                          cublasGemmAlgo_t algorithm)
{
    return cublasGemmStridedBatchedEx(handle, transpose_a, transpose_b, m, n, k, alpha, a, a_type, lda, 0, b,
                                      b_type, ldb, 0, beta, c, c_type, ldc, 0, 1, compute, algorithm);
}

#endif
