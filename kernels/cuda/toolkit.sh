#!/usr/bin/env bash
# toolkit.sh: whether a CUDA toolkit makes what the cuda backend is made of, tried on a few lines.
#
#   kernels/cuda/toolkit.sh WORKS NVCC CUBLAS FLAG...
#
# CUBLAS is the toolkit's library, empty where it has none; FLAGs are those of build.mk. The file WORKS is made when all is
# well, and spares the next trial. Else one line on stderr says what is wrong, and the exit code is 1: the caller builds
# everything but the backend.
set -uo pipefail
works=$1 nvcc=$2 cublas=$3
shift 3
oldest=12 # 11's cuBLAS and compiler are not tried

without() {
    rm -f "$works"
    echo "build: no cuda backend: $1; the rest is built; pipelines/setup.sh --cuda gets a toolkit that does, NVCC= leaves this line out" >&2
    exit 1
}

if [ -e "$works" ] && [ "$works" -nt "$nvcc" ] && [ "$works" -nt "$0" ] && [ -e "$cublas" ]; then exit 0; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What went wrong, in the words of the program that says it first.
reason() { grep -m1 -iE 'error|unsupported|fatal|not found' "$work/log" || tail -n 1 "$work/log"; }

"$nvcc" --version >"$work/log" 2>&1 || without "$nvcc does not run: $(reason)"
release=$(sed -nE 's/.*release ([0-9]+\.[0-9]+).*/\1/p' "$work/log")
[ -n "$release" ] || without "$nvcc does not say its release"
[ "${release%.*}" -ge $oldest ] || without "$nvcc is of CUDA $release; CUDA $oldest is the oldest that does"
[ -n "$cublas" ] || without "the toolkit of $nvcc (CUDA $release) has no cuBLAS (CUDA_LIBRARIES=FOLDER names where it is)"
cat >"$work/try.cu" <<'CODE'
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
static __global__ void twice(__nv_bfloat16 *x)
{
    x[threadIdx.x] = __float2bfloat16(2 * __bfloat162float(x[threadIdx.x]));
}
extern "C" const char *run(__nv_bfloat16 *x, cudaStream_t stream)
{
    cublasHandle_t handle;
    twice<<<1, 32, 0, stream>>>(x);
    return cublasGetStatusString(cublasCreate(&handle));
}
CODE
"$nvcc" "$@" -c -o "$work/try.o" "$work/try.cu" >"$work/log" 2>&1 ||
    without "$nvcc (CUDA $release) does not compile here: $(reason)"
"$nvcc" -shared -cudart static -o "$work/try.so" "$work/try.o" "$cublas" >"$work/log" 2>&1 ||
    without "$nvcc (CUDA $release) does not link with $cublas: $(reason)"
mkdir -p "$(dirname "$works")"
touch "$works"
