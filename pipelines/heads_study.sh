#!/usr/bin/env bash
# heads_study.sh: what the start of a head is worth. Trains heads of every kind at a few taps in one sweep, and prints each one's held-out
# loss, KL from the full model and agreement with it, before any step and after the last one.
#
#   build/extract --model MODEL --corpus CORPUS --taps 6.mid,6,12.mid,12,18.mid,18,24.mid,24,28,final --out STORE
#   pipelines/heads_study.sh STORE OUT
#
# `mlp` with an output weight of its own is EE-Tuning's (arXiv 2402.00518), at its rate and at ten times that. `affine` begins with the ridge
# regression to the final states; `bridge` with that to the tap TO, behind which the model's own last layers go on. All are measured on
# the whole held-out split. These may be set:
#
#   TAPS       "6 12 18 24"     a tap that the store lacks is left out, with a line that says so
#   KINDS      "mlp affine bridge embedding norm block"
#   TO         28               where bridges lead
#   TOKENS     122880           that each head is trained on
#   SEQUENCES  4                read per step
#   OPTIONS    none             more of train's, such as "--memory 4G --max-parallel 6"
#
# The same command again goes on where it stopped, and other values begin another run in OUT.
set -euo pipefail
[ $# = 2 ] || { sed -n '2,20s/^# \{0,1\}//p' "$0"; exit 2; }
. "$(dirname "$(readlink -f "$0")")/programs.sh"
train=$(program train) cache=$(program cache)
store=$1 out=$2
taps=${TAPS:-6 12 18 24} kinds=${KINDS:-mlp affine bridge embedding norm block} to=${TO:-28}
sequences=${SEQUENCES:-4} tokens=${TOKENS:-122880}

info=$("$cache" info --json "$store")
held=" $(sed -n 's/^ *"name": "\([0-9.a-z]*\)",*$/\1/p' <<<"$info" | tr '\n' ' ')"
rows=$(sed -n 's/^ *"rows": \([0-9]*\),*$/\1/p' <<<"$info" | head -n 1)
has() { # has TAP: whether the store has it
    [[ $held == *" $1 "* ]] || { echo "heads_study.sh: the store lacks tap $1; what needs it is left out" >&2; false; }
}

# ---- the trials: a row of the table each ----

# tap | head | output | init | loss | rate | what else its trial says | its name in the table
rows_of() { # rows_of TAP
    local tap=$1
    case " $kinds " in *" mlp "*)
        if has "$tap.mid"; then
            echo "$tap.mid|mlp|untied|copy|cross-entropy|0.0001||\`mlp\`, untied, rate 1e-4"
            echo "$tap.mid|mlp|untied|copy|cross-entropy|0.001||\`mlp\`, untied, rate 1e-3"
            echo "$tap.mid|mlp|tied|copy|cross-entropy|0.001||\`mlp\`, tied, rate 1e-3"
        fi ;;
    esac
    has "$tap" || return 0
    for kind in $kinds; do
        case $kind in
        embedding) echo "$tap|embedding|tied|copy|distillation|0.001||\`embedding\`" ;;
        norm) echo "$tap|norm|tied|copy|distillation|0.001||\`norm\`" ;;
        affine) echo "$tap|affine|tied|ridge|distillation|0.001||\`affine\` from ridge" ;;
        block) echo "$tap|block|tied|copy|distillation|0.0005||\`block\`" ;;
        bridge) if has "$to"; then echo "$tap|bridge|tied|ridge|distillation|0.0005|to: $to|\`bridge\` to $to"; fi ;;
        esac
    done
}
list=$(for tap in $taps; do rows_of "$tap"; done)

# ---- one run of them all ----

steps=$((tokens / (sequences * rows)))
[ "$steps" -gt 0 ] || { echo "heads_study.sh: a step reads $((sequences * rows)) tokens, which is more than TOKENS" >&2; exit 2; }
sweep=$(
    printf 'steps: %d\nsequences: %d\nsample: 0\nevaluate: 0\ntrials:\n' "$steps" "$sequences"
    while IFS='|' read -r tap head output init loss rate more _; do
        echo "  - {tap: $tap, head: $head, output: $output, init: $init, loss: $loss, rate: $rate${more:+, $more}}"
    done <<<"$list"
)
run=$out/run-$(cksum <<<"$sweep" | cut -d ' ' -f 1)
mkdir -p "$out"
echo "$sweep" >"$run.yaml"
# shellcheck disable=SC2086
"$train" --store "$store" --sweep "$run.yaml" --out "$run" ${OPTIONS:-} >"$run.txt"

# ---- the table ----

board=$run/leaderboard.tsv
# field TAP HEAD OUTPUT RATE NAME: of that trial's row
field() {
    awk -F '\t' -v name="$5" -v tap="$1" -v head="$2" -v output="$3" -v rate="$4" '
        NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i }
        NR > 1 && $column["tap"] == tap && $column["head"] == head && $column["output"] == output && $column["rate"] == rate {
            print $column[name] }' "$board"
}
# first TRIAL KEY: of its evaluation before any step
first() { sed -n "/\"kl\"/{s/.*\"$2\": \([-+0-9.e]*\).*/\1/p;q}" "$run/trials/$1/metrics.jsonl"; }
fact() { sed -n "s/^ *\"$1\": \([-+0-9.e]*\),*$/\1/p" "$run/run.json"; }

echo "Trained on $((steps * sequences * rows)) tokens each ($steps steps of $((sequences * rows))), measured on $(($(fact held_out_sequences) * rows))" \
    "held-out tokens; the full model's loss there is $(printf '%.3f' "$(fact full_loss)")."
echo
echo "| tap | head | before any step: loss | KL | agreement | trained: loss | KL | agreement |"
echo "|---|---|---|---|---|---|---|---|"
while IFS='|' read -r tap head output _ _ rate _ name; do
    trial=$(field "$tap" "$head" "$output" "$rate" trial)
    if [ "$(field "$tap" "$head" "$output" "$rate" status)" = "done" ]; then
        after=$(printf '%.3f | %.3f | %.1f %%' "$(field "$tap" "$head" "$output" "$rate" held_out_loss)" "$(field "$tap" "$head" "$output" "$rate" kl)" \
            "$(field "$tap" "$head" "$output" "$rate" agreement | awk '{ print 100 * $1 }')")
    else
        after="failed | | "
    fi
    printf '| %s | %s | %.3f | %.3f | %.1f %% | %s |\n' "$tap" "$name" "$(first "$trial" held_out_loss)" "$(first "$trial" kl)" \
        "$(first "$trial" agreement | awk '{ print 100 * $1 }')" "$after"
done <<<"$list"
