#!/usr/bin/env bash
# drift_study.sh: how many bits a text takes that is unlike the one that a codec was fitted to.
#
#   pipelines/drift_study.sh MODEL CORPUS OUT FOREIGN...
#
# Fits klt:4 (or CODEC) to CORPUS, stores CORPUS and each FOREIGN text with it, and prints bits per value of every tap.
# TAPS, TOKENS (of CORPUS) and FOREIGN_TOKENS may be set. The same command again goes on where it stopped.
set -euo pipefail
[ $# -ge 4 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
. "$(dirname "$(readlink -f "$0")")/programs.sh"
model=$1 corpus=$2 out=$3
extract=$(program extract)
shift 3
mkdir -p "$out"
common=(--model "$model" --taps "${TAPS:-18,final}" --codec "${CODEC:-klt:4}" --held-out 0 --no-target --json)
bits() { sed -nE 's/.*"bits_per_value": ([0-9.]+).*/\1/p' "$1" | awk '{ printf " %.2f |", $1 }'; }
row() { echo "| $1 |$(bits "$2")"; }

[ -e "$out/parameters" ] && pilot=(--pilot "$out/parameters") || pilot=(--pilot-out "$out/parameters")
"$extract" "${common[@]}" --corpus "$corpus" --tokens "${TOKENS:-16384}" --out "$out/own" "${pilot[@]}" >"$out/own.json"
names=$(sed -nE 's/.*"name": "([^"]+)".*/\1/p' "$out/own.json")
echo "| text |$(awk '{ printf " tap %s |", $1 }' <<<"$names")"
echo "|---|$(awk '{ printf "---|" }' <<<"$names")"
row "$(basename "$corpus") (fitted to)" "$out/own.json"
for text in "$@"; do
    name=$(basename "$text")
    "$extract" "${common[@]}" --corpus "$text" --tokens "${FOREIGN_TOKENS:-4096}" --out "$out/$name" --pilot "$out/parameters" \
        >"$out/$name.json"
    row "$name" "$out/$name.json"
done
