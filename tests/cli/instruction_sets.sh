#!/usr/bin/env bash
# instruction_sets.sh: the tests of the ops once more with loops and products held to older instruction
# sets than this machine's (the cpu backend follows oneDNN's limit).
set -uo pipefail
cd "$(dirname "$0")/../.."
passed=0 failed=0 skipped=0
if [ "$(uname -m)" != x86_64 ]; then
    echo "skipped: one instruction set on $(uname -m)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
for set in AVX2 SSE41; do
    for family in products rows attention vocab optimizer; do
        log=$(ONEDNN_MAX_CPU_ISA=$set "${BUILD:-build}/tests/ops/$family" 2>&1 </dev/null)
        status=$?
        if [ "$status" = 0 ]; then
            passed=$((passed + 1))
            echo "ok      $family with $set"
        else
            failed=$((failed + 1))
            echo "$log" | grep -v '^ok ' | head -n 20
            echo "FAILED  $family with $set ($status)"
        fi
    done
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
