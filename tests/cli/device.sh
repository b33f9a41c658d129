#!/usr/bin/env bash
# device.sh: which device was taken, what --device cuda says where something is missing, and what is said of a GPU that
# is not used.
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
        says err "pip install --target $work/cuda 'nvidia-cublas==99.*'"
}

# fake CODE: a library of it is what the next extraction meets
fake() {
    echo "$1" | gcc -shared -fPIC -x c - -o "$work/other.so" && export OFFRAMP_CUDA_LIBRARY=$work/other.so
}

not_a_backend() { fake 'int none;' && try 1 cuda && says err "other.so is not a cuda backend"; }

# Libraries that gave their table without a word on what it is.
an_older_one() {
    fake 'const void *offramp_cuda_table(void) { return "never called"; }' && try 1 cuda &&
        says err "other.so is of an older build" && says err "pipelines/setup.sh --cuda && make"
}

# description INTERFACE SIZE VERSION TABLE: a library that says this of itself
description() {
    fake "#include <stdint.h>
        static const char table[4096];
        const struct { uint32_t interface, size; char version[16]; const void *table; } offramp_cuda_library = {$1, $2, $3, $4};"
}
refused() {
    description "$@" && try 1 cuda && says err "other.so is of another build" && says err "pipelines/setup.sh --cuda && make"
}

# The program's own numbers are in the message; a library that differs in one of them is refused.
another_build() {
    local version interface size
    refused 1 2 '"9.9"' table && says err "it is 9.9, interface 1, table of 2 bytes" || return 1
    read -r version interface size < <(sed -nE \
        's/.*this program is ([^ ]+), interface ([0-9]+), table of ([0-9]+) bytes.*/\1 \2 \3/p' "$work/err")
    refused "$((interface ^ 1))u" "$size" "\"$version\"" table &&
        refused "${interface}u" "$((size + 8))" "\"$version\"" table &&
        refused "${interface}u" "$((size - 8))" "\"$version\"" table &&
        refused "${interface}u" "$size" "\"$version-\"" table &&
        refused "${interface}u" "$size" '"0123456789abcdef"' table &&
        refused "${interface}u" "$size" "\"$version\"" 0
}

# CUDA 12's cuBLAS is a package of another name.
no_cublas_12() {
    echo 'int nothing;' | gcc -shared -fPIC -x c - -o "$work/libcublas.so.12" -Wl,-soname,libcublas.so.12 &&
        echo 'int none;' | gcc -shared -fPIC -x c - -o "$work/other.so" -Wl,--no-as-needed -x none "$work/libcublas.so.12" &&
        rm "$work/libcublas.so.12" && OFFRAMP_CUDA_LIBRARY=$work/other.so try 1 cuda &&
        says err "pip install --target $work/cuda 'nvidia-cublas-cu12'"
}

auto_takes_what_there_is() {
    OFFRAMP_CUDA_LIBRARY=$work/none.so try 0 auto && says err "device: cpu ("
}

# Each program says once which device it took.
every_program_says_the_device() {
    try 0 cpu && once && ONEDNN_MAX_CPU_ISA=AVX2 try 0 cpu && once && ! grep -q 512 "$work/err" &&
        try 0 ref && says err "device: ref (1 thread)" && once &&
        run 0 cache repair --model tests/golden/llama "$work/store" || return 1
    "$build/tests/bench/make_store" "$work/full" >"$work/out" &&
        run 0 train --store "$work/full" --out "$work/run" --tap 1 --head norm --steps 1 --threads 1 &&
        says err "device: cpu (" && says err "1 thread)" && once
}
once() {
    [ "$(grep -c '^device: ' "$work/err")" = 1 ] || { echo "    not one line on the device: $(cat "$work/err")"; return 1; }
}

# A GPU in the files of the kernel: PCI devices that stand in for the machine's, seen by no other process.
with_gpu() { # with_gpu COMMAND...
    mkdir -p "$work/pci/0000:17:00.0"
    echo 0x10de >"$work/pci/0000:17:00.0/vendor"
    echo 0x030200 >"$work/pci/0000:17:00.0/class"
    BOUND=$work/pci unshare -m bash -c 'mount --bind "$BOUND" /sys/bus/pci/devices && exec "$@"' - "$@"
}
an_unused_gpu_is_named() {
    rm -rf "$work/store"
    OFFRAMP_CUDA_LIBRARY=$work/none.so with_gpu "$build/extract" --model tests/golden/llama --corpus "$work/tokens.bin" \
        --token-type u16 --end-of-text 0 --held-out 0 --seq-len 16 --tokens 32 --taps 1 --out "$work/store" \
        >"$work/out" 2>"$work/err" &&
        says err "extract: warning: an NVIDIA GPU is in this machine and is not used: its driver is not loaded" &&
        says err "device: cpu (" && with_gpu "$build/train" --store "$work/full" --out "$work/run.2" --tap 1 --head norm \
        --steps 0 2>"$work/err" >"$work/out" && says err "train: warning: an NVIDIA GPU" &&
        with_gpu "$build/train" --store "$work/full" --out "$work/run.3" --tap 1 --head norm --steps 0 --device cpu \
            2>"$work/err" >"$work/out" && ! grep -q NVIDIA "$work/err" &&
        ! with_gpu "$build/train" --store "$work/full" --out "$work/run.4" --tap 1 --head norm --math tf32 \
            2>"$work/err" >"$work/out" && says err "has no tf32" && says err "modprobe nvidia"
}

# Where nvcc has built the library but no device is there.
no_device() {
    try 1 cuda && says err "device cuda: there is none" && says err "nvidia-smi"
}

check no_library
check not_a_library
check no_cublas
check no_cublas_12
check not_a_backend
check an_older_one
check another_build
unset OFFRAMP_CUDA_LIBRARY
check auto_takes_what_there_is
check every_program_says_the_device
if compgen -G '/dev/nvidia[0-9]*' >"$work/out" || [ -e /proc/driver/nvidia ] || ! with_gpu true 2>/dev/null; then
    skipped=$((skipped + 1))
    echo "    skipped: an_unused_gpu_is_named: there is a GPU, or none can be shown here"
else
    check an_unused_gpu_is_named
fi
if [ -f "$build/libofframp_cuda.so" ] && ! nvidia-smi -L >/dev/null 2>&1; then
    check no_device
else
    skipped=$((skipped + 1))
    echo "    skipped: no_device: there is one, or nvcc has not built the library"
fi
finish
