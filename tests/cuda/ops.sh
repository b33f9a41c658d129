#!/usr/bin/env bash
# ops.sh: every op of the cuda backend against ref, its kernels run by the emulator (emulator.h): odd
# sizes, both math modes, and several orders of the threads between barriers.
set -uo pipefail
cd "$(dirname "$0")/../.."
export OFFRAMP_CUDA_LIBRARY=${BUILD:-build}/libofframp_cuda_emulated.so OFFRAMP_TEST_DEVICE=cuda
passed=0 failed=0
check() { # check SEED PROGRAM
    if OFFRAMP_EMULATOR_SEED=$1 "${BUILD:-build}/tests/ops/$2" match_ref; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
}
for seed in ${SEEDS:-1 2 3}; do
    for family in rows products optimizer; do check "$seed" $family; done
done
check 1 attention
check 2 vocab
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
