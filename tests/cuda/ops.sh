#!/usr/bin/env bash
# ops.sh: every op of the cuda backend against ref, its kernels run by the emulator (emulator.h): odd
# sizes, both math modes, several orders of the threads, and limits (EMULATED_ELSE) so small that work is
# cut into parts even here.
set -uo pipefail
cd "$(dirname "$0")/../.."
export OFFRAMP_CUDA_LIBRARY=${BUILD:-build}/libofframp_cuda_emulated.so OFFRAMP_TEST_DEVICE=cuda
passed=0 failed=0
check() { # check SEED PROGRAM MOST-ROWS [TEST]
    if OFFRAMP_EMULATOR_SEED=$1 OFFRAMP_TEST_BATCH=$3 "${BUILD:-build}/tests/ops/$2" "${4:-match_ref}"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
}
for seed in ${SEEDS:-1 2 3}; do
    check "$seed" rows 1500
    check "$seed" products 1100
    check "$seed" optimizer 70
    check "$seed" coding 70
    check "$seed" contract 1
done
check 1 contract 1 reads_keep
check 1 attention 3
check 2 vocab 20
# A subset of a weight takes one launch for each of the weight's parts: two twice for each of two queues, and its own
# rows one.
launches=$(mktemp)
trap 'rm -f "$launches"' EXIT
OFFRAMP_EMULATOR_LAUNCHES=$launches check 1 contract 1 ids_out_of_range_on_a_device
gathers=$(grep -c embed_rows "$launches")
if [ "$gathers" = 10 ]; then passed=$((passed + 1)); else
    echo "FAILED  a subset is gathered in $gathers launches, not 10"
    failed=$((failed + 1))
fi
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
