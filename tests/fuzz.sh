#!/usr/bin/env bash
# fuzz.sh SECONDS: runs every libFuzzer target for that time. It starts from the seeds in the repository and from what earlier runs
# found (.cache/fuzz). Prints a line per target. The input of a finding is kept beside the corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
make -s -j"$(nproc)" BUILD=build-fuzz CC=clang EXTRA_CFLAGS='-fsanitize=fuzzer-no-link,address -fno-omit-frame-pointer' fuzz-build
cache=${OFFRAMP_CACHE:-.cache}/fuzz
failed=0 passed=0
for target in build-fuzz/fuzz/*; do
    name=$(basename "$target")
    corpus=$cache/$name
    mkdir -p "$corpus"
    case $name in
    gguf) cp -n tests/golden/*.gguf "$corpus"/ 2>/dev/null || true ;;
    safetensors) cp -n tests/golden/*/model.safetensors "$corpus"/ 2>/dev/null || true ;;
    esac
    [ ! -d "tests/fuzz/seeds/$name" ] || cp -n "tests/fuzz/seeds/$name"/* "$corpus"/
    log=$cache/$name.log
    if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$cache/$name-" "$corpus" >"$log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        grep -E 'ERROR|SUMMARY|Test unit written' "$log" | head -5
    fi
    printf 'fuzz %-12s %s executions\n' "$name" "$(sed -nE 's/^stat::number_of_executed_units: *//p' "$log")"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
