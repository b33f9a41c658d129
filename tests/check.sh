#!/usr/bin/env bash
# check.sh: `make check`: formatting, the layer rule, warnings as errors with gcc and clang, a little fuzzing, and the
# tests under AddressSanitizer and UndefinedBehaviorSanitizer, on the footing of a CPU that has AVX2 only.
set -euo pipefail
cd "$(dirname "$0")/.."
pipelines/setup.sh check
jobs=$(nproc)
step() { echo "check: $*"; }

step "formatting"
git ls-files '*.c' '*.h' '*.cu' '*.cuh' | xargs clang-format --dry-run -Werror
step "layers, and names in pages and comments"
tests/layers.sh
# Clang's warnings need no code to be made. nvcc's are errors in every build.
step "warnings as errors, clang"
make -s CC=clang NVCC= EXTRA_CFLAGS=-Werror syntax
step "every fuzz target, four seconds"
tests/fuzz.sh 4
step "warnings as errors, gcc; tests with AVX2 only, under AddressSanitizer and UndefinedBehaviorSanitizer"
make -s -j"$jobs" SANITIZE=1 EXTRA_CFLAGS=-Werror tests-build
OFFRAMP_TEST_MODEL=$(pipelines/setup.sh model) || OFFRAMP_TEST_MODEL=
export OFFRAMP_TEST_MODEL
# `make test` runs them with this machine's instruction set: here every test also runs with an older one. Campaigns of
# kills are short: what they look for, lost bytes, is what the sanitizers do not see.
export ONEDNN_MAX_CPU_ISA=AVX2 OFFRAMP_KILLS=4 OFFRAMP_INTERRUPTS=4 SEEDS=1
BUILD=build-sanitize ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 tests/run.sh
