#!/usr/bin/env bash
# demo.sh: offramp from nothing to early exits on a real model, on two cores in ten minutes.
#
#   pipelines/demo.sh            a second run repeats no finished work
#
#   MODEL=/path  another model (default: SmolLM2-135M-Instruct, fetched)
#   TEXT=/path   your own text (default: manuals of Python and Perl, fetched)
#   OUT=/path    where results go (default: .cache/demo)
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-.cache/demo}
began=$SECONDS
stage() { # stage NAME COMMAND...: its result on stdout, its time remembered
    local name=$1 started=$SECONDS
    shift
    echo "== $name" >&2
    "$@"
    printf '%-10s %4d s\n' "$name" $((SECONDS - started)) >>"$budget"
}
budget=$(mktemp)
trap 'rm -f "$budget"' EXIT

stage packages pipelines/setup.sh build
stage build make -s -j"$(nproc)" programs
[ -n "${MODEL:-}" ] || MODEL=$(stage model pipelines/setup.sh model)
[ -n "${TEXT:-}" ] || TEXT=$(stage corpus pipelines/setup.sh corpus)
stage tune pipelines/tune.sh --taps 6,12,12.mid,18,24,28,final --seq-len 512 --tokens 32768 --held-out-tokens 4096 \
    --codec lossless --sweep pipelines/demo.yaml "$MODEL" "$TEXT" "$out"
stage generate build/generate --model "$MODEL" --policy "$out/run/policy" --tokens 60 --show \
    --prompt "In Python, a list is"
if grep -q '"exits": \[\]' "$out/run/policy/policy.json"; then
    echo
    echo "Exits at work, whatever they cost:"
    echo "    build/train --store $out/store --sweep pipelines/demo.yaml --out $out/run --exits 24"
    echo "    build/generate --model $MODEL --policy $out/run/policy --show"
fi
echo
echo "Open $out/run/report.html in a browser. Time:"
cat "$budget"
echo "in all     $(printf '%4d' $((SECONDS - began))) s"
