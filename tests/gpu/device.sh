#!/usr/bin/env bash
# device.sh: ops, golden models, trials in groups, engines and what codecs have a device make, on the machine's CUDA device. Skipped,
# and counted so, where there is none or nvcc has built no library; with REQUIRE_CUDA=1 that is a failure.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
export BUILD=$build OFFRAMP_TEST_DEVICE=cuda
export OFFRAMP_CUDA_LIBRARY=${OFFRAMP_CUDA_LIBRARY:-$build/libofframp_cuda.so}
programs=(ops/rows ops/products ops/optimizer ops/attention ops/vocab "ops/coding match_ref" golden/model golden/extract
    "unit/trial groups" "unit/transform transformed" "unit/engine several" "unit/engine sequence_")
passed=0 failed=0 skipped=0
missing=$("$build/tests/ops/optimizer" match_ref | sed -nE 's/^ *without cuda: //p' | head -1)
if [ -n "$missing" ]; then
    if [ "${REQUIRE_CUDA:-0}" = 1 ]; then
        echo "FAILED: REQUIRE_CUDA=1, but $missing"
        echo "0 passed, ${#programs[@]} failed, 0 skipped"
        exit 1
    fi
    echo "  skipped: no CUDA device: $missing"
    echo "0 passed, 0 failed, ${#programs[@]} skipped"
    exit 0
fi
for program in "${programs[@]}"; do
    # shellcheck disable=SC2086 # a program and the name of its tests
    log=$("$build"/tests/$program 2>&1)
    read -r p f s < <(echo "$log" | tail -n 1 | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p')
    [ -n "${s:-}" ] || { p=0 f=1 s=0; }
    [ "$f" = 0 ] || echo "$log" | tail -n 30
    echo "$program: $p passed, $f failed, $s skipped"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    unset p f s
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
