#!/usr/bin/env bash
# same.sh: whether two checkouts make the same bytes on the demo model: stores, heads, generated text. For changes that
# are to change none of them.
#
#     tests/same.sh BASE [NEW]     both built (make programs); NEW is this checkout where it is left out
#
# Both programs get the same text (BASE's headers). Of what they write, every file is compared, but for tables that hold
# times, and for the policy, whose format may be another. Of a store it is every key and value, as mdb_dump (of Debian's
# lmdb-utils) shows them: which pages they lie in depends on when they were committed. Then NEW goes on with a store and a
# run that BASE has begun, and has to end where BASE alone does. OFFRAMP_TEST_MODEL names the model. Takes three
# minutes on two idle cores.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 1 ] || { echo "usage: tests/same.sh BASE [NEW]" >&2; exit 2; }
base=$(cd "$1" && pwd) new=$(cd "${2:-$here}" && pwd)
command -v mdb_dump >/dev/null || { echo "same.sh: mdb_dump is missing: apt-get install lmdb-utils" >&2; exit 1; }
model=${OFFRAMP_TEST_MODEL:-$("$here/pipelines/setup.sh" model)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
different=0 compared=0

cat >"$work/sweep.yaml" <<'YAML'
seed: 3
steps: 3
sequences: 3
evaluate: 2
grid: {tap: [6, 24], head: [affine], init: [ridge, random], loss: [distillation]}
trials:
  - {tap: 12.mid, head: mlp, init: copy, loss: distillation}
  - {tap: 24, head: norm, loss: cross-entropy, decay: 0.1}
  - {tap: 6, head: norm, output: untied, loss: cross-entropy}
YAML
# run PROGRAM ARGUMENT...: of $side; a failure shows what it printed.
run() {
    local program=$1
    shift
    "$side/build/$program" "$@" >"$work/out" 2>"$work/err" </dev/null && return
    echo "$side/build/$program $* failed:" >&2
    cat "$work/err" >&2
    exit 1
}

# The commands below run in a folder of the side's own, with the same relative paths: a store keeps its command.

# extract TEXT: the folder's store, of two codecs with their pilot.
extract() {
    run extract --model "$model" --corpus "$1" --out store --seq-len 128 --held-out-tokens 512 \
        --taps 6,12.mid,24,final --codec lossless,24=klt:4,6=raw --threads 2
}

generate() {
    local prompt="In Python, a list is"
    run generate --model "$model" --prompt "$prompt" --tokens 24
    cp "$work/out" full.txt
    run generate --model "$model" --prompt "$prompt" --tokens 24 --policy run/policy
    cp "$work/out" exits.txt
    run generate --model "$model" --prompt "$prompt" --tokens 24 --policy run/policy --json
    cp "$work/out" exits.json
    run generate --model "$model" --prompt-file "$work/prompt" --tokens 24 --policy run/policy \
        --temperature 0.8 --top-k 50 --top-p 0.95 --seed 7 --threshold 0.3
    cp "$work/out" sampled.txt
}

# Everything by $side in the new folder.
begin() {
    mkdir "$1"
    cd "$1"
    cp -r "$work/text" text
    extract text
    run train --store store --sweep "$work/sweep.yaml" --out run --exits 24 --threshold 0.4
    generate
}

# The store in the folder takes a text that has grown, the run more steps.
go_on() {
    cd "$1"
    cp -r run longer
    run train --store store --sweep "$work/longer.yaml" --out longer
    cp "$work/more"/* text
    extract text
}

# What must be the same of a file: all, or what is left of it without times and rates.
essence() {
    case $1 in
    */data.mdb) mdb_dump -a "$(dirname "$1")" | grep -v '^mapsize' ;;
    *.jsonl) sed -E 's/, "(tokens_per_second|seconds|shared_seconds|stall_seconds)": [^,}]*//g' "$1" ;;
    */exits.json) perl -0pe 's/"[a-z_]*(seconds|per_second)":\s*[^,}]*//g' "$1" ;;
    *) cat "$1" ;;
    esac
}

files() { (cd "$1" && find . -type f ! -name '*.lock' ! -name lock.mdb | sort); }

# compare NAME A B: every file of folder A with the one of that name in B.
compare() {
    local file
    diff <(files "$2") <(files "$3") >"$work/names" || {
        different=$((different + 1))
        echo "$1: not the same files:"
        cat "$work/names"
    }
    while read -r file; do
        case $file in
        */run.json | */report.html | */leaderboard.tsv | */policy/policy.json | ./text/*) continue ;;
        esac
        [ -f "$3/$file" ] || continue
        compared=$((compared + 1))
        cmp -s <(essence "$2/$file") <(essence "$3/$file") && continue
        different=$((different + 1))
        echo "$1: $file is not the same"
    done < <(files "$2")
}

mkdir "$work/text" "$work/more"
for file in $(cd "$base" && git ls-files 'common/base/*.h'); do
    cp "$base/$file" "$work/text/$(tr / _ <<<"$file").txt"
done
for file in $(cd "$base" && git ls-files kernels/dtype.h kernels/gpu.h); do # behind the others
    cp "$base/$file" "$work/more/$(tr / _ <<<"$file").txt"
done
head -c 2000 "$base/kernels/ops.h" >"$work/prompt"
sed 's/^steps: 3/steps: 5/' "$work/sweep.yaml" >"$work/longer.yaml"

side=$base
(begin "$work/base")
cp -r "$work/base" "$work/begun"
(go_on "$work/base")
side=$new
(begin "$work/new")
(go_on "$work/new")
(go_on "$work/begun")
compare "by each alone" "$work/base" "$work/new"
compare "begun by BASE, ended by NEW" "$work/base" "$work/begun"

echo "$compared files compared, $different different"
[ "$different" = 0 ] && [ "$compared" -gt 20 ]
