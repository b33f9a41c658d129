/* ceilings.cu: what bounds everything on this device, for tests/gpu/all.sh: copy bandwidth (bytes read plus
 * bytes written), upload from page-locked memory, and cuBLAS's rate of 8192 cubed products on random data.
 * One "name value unit" a line; medians of ROUNDS by events. */
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#define ROUNDS 10
#define SIZE   8192

static void check(cudaError_t status, const char *what)
{
    if (status == cudaSuccess)
        return;
    fprintf(stderr, "ceilings: %s: %s\n", what, cudaGetErrorString(status));
    exit(1);
}

/* Random values of about 1 in both types: zeros run faster than data does. */
__global__ void fill(float *f32, __nv_bfloat16 *bf16, size_t count)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count)
        return;
    unsigned long long z = (i + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    float value = (float)(unsigned)(z >> 33) / 1073741824.0f - 1.0f;
    f32[i] = value;
    bf16[i] = __float2bfloat16_rn(value);
}

/* The median of ROUNDS times of action(), in seconds, after one that does not count. */
template <typename Action> static double median_seconds(Action action)
{
    float milliseconds[ROUNDS];
    cudaEvent_t from, to;
    check(cudaEventCreate(&from), "event");
    check(cudaEventCreate(&to), "event");
    action();
    for (int i = 0; i < ROUNDS; i++) {
        check(cudaEventRecord(from), "event");
        action();
        check(cudaEventRecord(to), "event");
        check(cudaEventSynchronize(to), "waiting");
        check(cudaEventElapsedTime(&milliseconds[i], from, to), "event");
    }
    std::sort(milliseconds, milliseconds + ROUNDS);
    return 1e-3 * milliseconds[ROUNDS / 2];
}

static double product_rate(cublasHandle_t blas, const void *a, cudaDataType_t type, cublasComputeType_t compute,
                           float *c)
{
    const float one = 1, zero = 0;
    const double seconds = median_seconds([&] {
        cublasStatus_t status =
            cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, SIZE, SIZE, SIZE, &one, a, type, SIZE, a, type, SIZE,
                         &zero, c, CUDA_R_32F, SIZE, compute, CUBLAS_GEMM_DEFAULT);
        if (status != CUBLAS_STATUS_SUCCESS) {
            fprintf(stderr, "ceilings: cuBLAS: %s\n", cublasGetStatusString(status));
            exit(1);
        }
    });
    return 2.0 * SIZE * SIZE * SIZE / seconds * 1e-12;
}

int main(void)
{
    const size_t count = (size_t)SIZE * SIZE, copied = (size_t)2 << 30, uploaded = (size_t)256 << 20;
    cudaDeviceProp properties;
    float *f32, *c;
    __nv_bfloat16 *bf16;
    char *from, *to, *host;
    cublasHandle_t blas;
    check(cudaGetDeviceProperties(&properties, 0), "the device");
    check(cudaMalloc(&f32, count * sizeof *f32), "memory");
    check(cudaMalloc(&bf16, count * sizeof *bf16), "memory");
    check(cudaMalloc(&c, count * sizeof *c), "memory");
    check(cudaMalloc(&from, copied), "memory");
    check(cudaMalloc(&to, copied), "memory");
    check(cudaMallocHost(&host, uploaded), "page-locked memory");
    fill<<<(unsigned)((count + 255) / 256), 256>>>(f32, bf16, count);
    check(cudaGetLastError(), "fill");
    if (cublasCreate(&blas) != CUBLAS_STATUS_SUCCESS) {
        fprintf(stderr, "ceilings: cuBLAS does not start\n");
        return 1;
    }
    printf("device %s\n", properties.name);
    const double copy = median_seconds(
                     [&] { check(cudaMemcpyAsync(to, from, copied, cudaMemcpyDeviceToDevice), "copy"); }),
                 upload = median_seconds(
                     [&] { check(cudaMemcpyAsync(to, host, uploaded, cudaMemcpyHostToDevice), "upload"); });
    printf("copy %.1f GB/s\n", 2e-9 * (double)copied / copy);
    printf("upload %.1f GB/s\n", 1e-9 * (double)uploaded / upload);
    printf("bf16 %.1f TFLOP/s\n", product_rate(blas, bf16, CUDA_R_16BF, CUBLAS_COMPUTE_32F, c));
    printf("tf32 %.1f TFLOP/s\n", product_rate(blas, f32, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32, c));
    printf("f32 %.1f TFLOP/s\n", product_rate(blas, f32, CUDA_R_32F, CUBLAS_COMPUTE_32F, c));
    return 0;
}
