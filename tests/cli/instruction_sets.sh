#!/usr/bin/env bash
# instruction_sets.sh: the tests of the ops once more with loops and products held to other instruction sets than
# this machine's (the cpu backend follows oneDNN's limit), among them the one that a row has the same bytes in
# every call. AVX512_CORE differs from what newer CPUs have in its products only: of it the rows alone. Where this
# run is held to a set itself (`make check`), what it leaves out: products of bf16, with the widest set.
set -uo pipefail
cd "$(dirname "$0")/../.."
passed=0 failed=0
if [ "$(uname -m)" != x86_64 ]; then
    echo "skipped: one instruction set on $(uname -m)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
# check SET PROGRAM [TEST]
check() {
    local log status
    log=$(ONEDNN_MAX_CPU_ISA=$1 "${BUILD:-build}/tests/$2" ${3:+"$3"} 2>&1 </dev/null)
    status=$?
    if [ "$status" = 0 ]; then
        passed=$((passed + 1))
        echo "ok      $2 with $1"
    else
        failed=$((failed + 1))
        echo "$log" | grep -v '^ok ' | head -n 20
        echo "FAILED  $2 with $1 ($status)"
    fi
}
sets=(SSE41)
! grep -qw avx512bw /proc/cpuinfo || sets+=(AVX2 AVX512_CORE)
[ -z "${ONEDNN_MAX_CPU_ISA:-}" ] || sets=(ALL)
for set in "${sets[@]}"; do
    for program in unit/cpu_products ops/products ops/rows ops/attention ops/vocab ops/optimizer ops/coding; do
        case $set in
        ALL) check "$set" "$program" in_bf16 ;;
        AVX512_CORE) check "$set" "$program" rows_ ;;
        *) check "$set" "$program" ;;
        esac
    done
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
