#!/usr/bin/env bash
# device.sh: what --device cuda says where something is missing.
. "$(dirname "$0")/lib.sh"

printf '\1\0%.0s' {1..64} >"$work/tokens.bin"
try() { # try STATUS DEVICE: a small extraction
    rm -rf "$work/store"
    run "$1" extract --model tests/golden/llama --corpus "$work/tokens.bin" --token-type u16 --end-of-text 0 \
        --held-out 0 --seq-len 16 --tokens 32 --taps 1 --device "$2" --out "$work/store"
}

no_library() {
    OFFRAMP_CUDA_LIBRARY=$work/none.so try 1 cuda && says err "device cuda: $work/none.so is not there" &&
        says err "pipelines/setup.sh --cuda && make"
}

not_a_library() {
    echo "not a library" >"$work/wrong.so"
    OFFRAMP_CUDA_LIBRARY=$work/wrong.so try 1 cuda && says err "wrong.so"
}

# The library needs cuBLAS, which is not there: one that needs a library of that name stands in for it.
no_cublas() {
    echo 'int nothing;' | gcc -shared -fPIC -x c - -o "$work/libcublas.so.99" -Wl,-soname,libcublas.so.99 &&
        echo 'int none;' | gcc -shared -fPIC -x c - -o "$work/cuda.so" -Wl,--no-as-needed -x none \
            "$work/libcublas.so.99" &&
        rm "$work/libcublas.so.99" &&
        OFFRAMP_CUDA_LIBRARY=$work/cuda.so try 1 cuda && says err "libcublas.so.99" &&
        says err "pip install --target $work/cuda 'nvidia-cublas==13.*'"
}

not_a_backend() {
    echo 'int none;' | gcc -shared -fPIC -x c - -o "$work/other.so" &&
        OFFRAMP_CUDA_LIBRARY=$work/other.so try 1 cuda && says err "other.so is not a cuda backend"
}

auto_takes_what_there_is() {
    OFFRAMP_CUDA_LIBRARY=$work/none.so try 0 auto
}

# Where nvcc has built the library but no device is there.
no_device() {
    try 1 cuda && says err "device cuda: there is none" && says err "nvidia-smi"
}

check no_library
check not_a_library
check no_cublas
check not_a_backend
check auto_takes_what_there_is
if [ -f "$build/libofframp_cuda.so" ] && ! nvidia-smi -L >/dev/null 2>&1; then
    check no_device
else
    skipped=$((skipped + 1))
    echo "    skipped: no_device: there is one, or nvcc has not built the library"
fi
finish
