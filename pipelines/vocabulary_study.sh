#!/usr/bin/env bash
# vocabulary_study.sh: what training on subsets of the vocabulary saves and loses, beside the whole vocabulary in the same run.
#
#   build/extract --model MODEL --corpus CORPUS --taps 12.mid,24,final --out STORE
#   pipelines/vocabulary_study.sh STORE OUT
#
# Prints a row for each trial: held-out loss and KL of the trial with all of the vocabulary and with subsets, and how many times as long
# a step takes with all. Both trials take each step one after the other in one process, so what else the machine does meets both; the
# ratio is that of the medians, with each trial's share of reading and decoding in it. TRIALS, STEPS and SEQUENCES (per step) may be
# set. SIZES makes it for subsets of other sizes, each with a build of its own. The same command again goes on where it stopped.
set -euo pipefail
[ $# = 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
top=$(cd "$(dirname "$0")/.." && pwd)
store=$1 out=$2
trials=${TRIALS:-tap: 24, head: affine, init: ridge, loss: distillation
tap: 12.mid, head: mlp, init: copy, loss: cross-entropy}
mkdir -p "$out"

# values METRICS KEY: of all lines that have the key
values() { sed -n "s/.*\"$2\": \([-+0-9.e]*\).*/\1/p" "$1"; }
# median METRICS: seconds of a step
median() { grep '"norm"' "$1" | sed -n 's/.*"seconds": \([0-9.e-]*\).*/\1/p' | sort -g | awk '{ s[NR] = $1 } END { print s[int((NR + 1) / 2)] }'; }
# metrics_of RUN VOCABULARY: the file of the trial with that vocabulary
metrics_of() { echo "$(dirname "$(grep -l "\"vocabulary\": \"$2\"" "$1"/trials/*/config.json)")/metrics.jsonl"; }
last() { values "$1" "$2" | tail -n 1; }

echo "| trial | subset | loss: all | subset | KL: all | subset | a step with all takes |"
echo "|---|---|---|---|---|---|---|"
for size in ${SIZES:-standard}; do
    build=${BUILD:-$top/build}
    if [ "$size" != standard ]; then
        build=$(realpath "$out")/build-$size
        make -s -C "$top" NVCC= BUILD="$build" EXTRA_CFLAGS="-DSUBSET_SIZE=$size" "$build/train" >&2
    fi
    number=0
    while IFS= read -r trial; do
        run=$out/$size.$((++number))
        printf 'steps: %d\nsequences: %d\ntrials:\n  - {%s, vocabulary: subset}\n  - {%s, vocabulary: all}\n' "${STEPS:-60}" "${SEQUENCES:-4}" \
            "$trial" "$trial" >"$out/$size.$number.yaml"
        "$build/train" --store "$store" --sweep "$out/$size.$number.yaml" --out "$run" >"$run.txt"
        a=$(metrics_of "$run" all) s=$(metrics_of "$run" subset)
        awk -v trial="$trial" -v size="$size" -v a="$(median "$a")" -v s="$(median "$s")" \
            -v la="$(last "$a" held_out_loss)" -v ls="$(last "$s" held_out_loss)" \
            -v ka="$(last "$a" kl)" -v ks="$(last "$s" kl)" 'BEGIN {
                printf "| %s | %s | %.4f | %.4f (%+.4f) | %.4f | %.4f (%+.4f) | %.1f times as long |\n",
                    trial, size, la, ls, ls - la, ka, ks, ks - ka, a / s }'
    done <<<"$trials"
done
