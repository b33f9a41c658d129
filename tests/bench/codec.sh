#!/usr/bin/env bash
# codec.sh: every codec on exact states of the demo model, and klt's transform beside its product. TOKENS may be set.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
model=${OFFRAMP_TEST_MODEL:-}
if [ -z "$model" ]; then
    echo "codec: no demo model (OFFRAMP_TEST_MODEL), nothing measured"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$build/extract" --model "$model" --corpus common kernels extract train generate --held-out 0 --seq-len 512 \
    --tokens "${TOKENS:-4096}" --taps 6,12,18,24,final --codec raw:f32 --json --out "$work/store" >"$work/summary.json"
"$build/cache" bench "$work/store" --records 4
"$build/tests/bench/codec"
