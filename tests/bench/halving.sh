#!/usr/bin/env bash
# halving.sh: what successive halving finds, and what it saves: a sweep of 24 trials at two taps in full and with
# halving, one after the other, on three seeds.
#
#   tests/bench/halving.sh [STORE [SEED...]]     default: the store that pipelines/demo.sh makes, seeds 1 2 3
#
# For each seed: the trial that ranks first in the full sweep; the one that halving ranks first; how much higher its KL
# is; and halving's time over the full sweep's, by processor seconds (which other work on the machine changes least) and
# by the clock. To reach: at most 0.005 higher, in at most a third of the time.
set -euo pipefail
cd "$(dirname "$0")/../.."
train=${BUILD:-build}/train
store=${1:-.cache/demo/store}
[ $# -le 1 ] || shift
[ $# -ge 1 ] && [ "$1" != "$store" ] || set -- 1 2 3
[ -d "$store" ] || { echo "    skipped: $store is not there; pipelines/demo.sh makes it"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sweep() { # sweep SEED HALVING
    cat <<END
seed: $1
steps: 24
sequences: 4
sample: 1
halving: $2
grid:
  - {tap: [18, 24], head: affine, init: ridge, loss: [distillation, cross-entropy], rate: [1e-4, 1e-3, 1e-2]}
  - {tap: [18, 24], head: affine, init: copy, rate: [1e-4, 1e-3, 1e-2]}
  - {tap: [18, 24], head: norm, init: copy, rate: [1e-4, 1e-3, 1e-2]}
END
}

# timed NAME: its "clock processor" seconds into NAME.time
timed() {
    TIMEFORMAT='%R %U %S'
    { time "$train" --store "$store" --sweep "$work/$1.yaml" --out "$work/$1" ${OPTIONS:-} >"$work/$1.out" 2>"$work/$1.err"; } 2>"$work/$1.time" ||
        { cat "$work/$1.err"; exit 1; }
}

first() { awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "kl") kl = i } NR == 2 { print $2, $kl }' "$work/$1/leaderboard.tsv"; }
kl_of() { awk -F'\t' -v id="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "kl") kl = i } $2 == id { print $kl }' "$work/$1/leaderboard.tsv"; }

printf '%-5s %-42s %-42s %8s %10s %8s\n' seed "first in full, KL" "first by halving, KL" higher processor clock
for seed in "$@"; do
    sweep "$seed" 0 >"$work/full$seed.yaml"
    sweep "$seed" "${HALVING:-4}" >"$work/halved$seed.yaml"
    timed "full$seed"
    timed "halved$seed"
    read -r best best_kl < <(first "full$seed")
    read -r found _ < <(first "halved$seed")
    paste -d' ' "$work/full$seed.time" "$work/halved$seed.time" | awk -v seed="$seed" -v best="$best" -v kl="$best_kl" -v found="$found" \
        -v found_kl="$(kl_of "full$seed" "$found")" '{
            printf "%-5s %-42s %-42s %8.4f %9.2fx %7.2fx\n", seed, best " " kl, found " " found_kl, found_kl - kl, ($5 + $6) / ($2 + $3), $4 / $1
        }'
    [ -z "${KEEP:-}" ] || cp -r "$work/full$seed" "$work/halved$seed" "$work"/*.time "$KEEP"
done
