#!/usr/bin/env bash
# run.sh: runs every test program and test script and adds up what they count.
#
#   tests/run.sh [PART]      only those whose path contains PART
#
# Each must print "N passed, N failed, N skipped" as its last line; without that line it has failed. BUILD names the folder of the
# programs, OFFRAMP_TEST_MODEL the demo model.
set -uo pipefail
cd "$(dirname "$0")/.."
export BUILD=${BUILD:-build}
part=${1:-}
passed=0 failed=0 skipped=0 log=$(mktemp)
trap 'rm -f "$log"' EXIT

for source in tests/unit/*.c tests/ops/*.c tests/golden/*.c tests/malformed/*.c tests/faults/*.c tests/cli/*.sh tests/faults/*.sh tests/cuda/*.sh tests/gpu/device.sh; do
    case $source in
    *"$part"*) ;;
    *) continue ;;
    esac
    case $source in
    */lib.sh) continue ;;
    *.c) command=("$BUILD/${source%.c}") ;;
    *) command=(bash "$source") ;;
    esac
    started=$SECONDS
    "${command[@]}" >"$log" 2>&1 </dev/null
    status=$?
    read -r p f s < <(tail -n 1 "$log" | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p')
    if [ -z "${s:-}" ]; then
        p=0 f=1 s=0
        echo "${command[*]}: ended with status $status and no count" >>"$log"
    elif [ "$status" != 0 ] && [ "$f" = 0 ]; then
        f=1
        echo "${command[*]}: ended with status $status" >>"$log"
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-34s %4d passed %3d failed %3d skipped %4d s\n' "$source" "$p" "$f" "$s" $((SECONDS - started))
    [ "$f" = 0 ] || sed 's/^/    /' "$log" | grep -v '^    ok ' | tail -n 60
    [ "$s" = 0 ] || grep 'skipped: ' "$log" | sort -u | sed 's/^/    /'
    unset p f s
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
