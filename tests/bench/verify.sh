#!/usr/bin/env bash
# verify.sh: `cache verify`, with and without --decode, against `cat` of the same file, from a cold and a warm cache. All
# in turn; medians. SEQUENCES and ROUNDS may be set.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
rounds=${ROUNDS:-5}
work=$(mktemp -d /var/tmp/offramp-verify-XXXXXX) # on a disk, where /tmp may be memory
trap 'rm -rf "$work"' EXIT

# timed NAME COLD COMMAND...: adds the seconds it took
timed() {
    local name=$1 cold=$2 started
    shift 2
    if [ "$cold" = cold ]; then dd if="$data" iflag=nocache count=0 status=none; else cat "$data" >/dev/null; fi
    started=$EPOCHREALTIME
    "$@" >/dev/null 2>&1
    awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }' >>"$work/$name.$cold"
}
median() { sort -g "$work/$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

printf '  %-10s %-5s %10s %10s %10s %8s %8s   (GB/s; ratios to cat; median of %d)\n' codec cache cat verify --decode ratio \
    decoded "$rounds"
for codec in raw lossless; do
    "$build/tests/bench/make_store" "$work/store" layers=2 hidden=576 intermediate=64 vocab=64 rows=512 \
        train="${SEQUENCES:-400}" held_out=1 taps=final codec="$codec" >/dev/null
    data=$work/store/data.mdb
    sync "$data"
    for _ in $(seq "$rounds"); do
        for cold in cold warm; do
            timed cat $cold cat "$data"
            timed verify $cold "$build/cache" verify "$work/store"
            timed decode $cold "$build/cache" verify --decode "$work/store"
        done
    done
    for cold in cold warm; do
        awk -v codec="$codec" -v cold=$cold -v bytes="$(stat -c %s "$data")" -v a="$(median cat.$cold)" \
            -v b="$(median verify.$cold)" -v c="$(median decode.$cold)" 'BEGIN {
                printf "  %-10s %-5s %10.2f %10.2f %10.2f %8.2f %8.2f\n", codec, cold, bytes / a / 1e9, bytes / b / 1e9,
                    bytes / c / 1e9, a / b, a / c }'
    done
    rm -rf "$work"/store "$work"/*.cold "$work"/*.warm
done
