#!/usr/bin/env bash
# losses.sh: train with every loss there is: mixes, temperatures, weighted tokens; the same bytes alone and among others, and
# what a run of before these keys comes to.
. "$(dirname "$0")/lib.sh"
make_store=$build/tests/bench/make_store
store=$work/store
"$make_store" "$store" || exit 1
settings=(--seed 4 --steps 12 --evaluate 6 --sample 4)
cat >"$work/losses.yaml" <<'END'
seed: 4
steps: 12
evaluate: 6
sample: 4
defaults: {tap: 2, head: affine, init: ridge}
trials:
  - {loss: mix}
  - {loss: mix, share: 0.25, temperature: 2, weighting: confidence}
  - {loss: distillation, temperature: 2}
  - {loss: distillation, temperature: 2, rate: 2e-3}
  - {loss: cross-entropy, weighting: confidence}
  - {loss: mix, temperature: 2, output: untied, init: copy}
END

same() {
    cmp "$1/trials/$3/head.safetensors" "$2/trials/$3/head.safetensors"
}

every_loss() {
    run 0 train --store "$store" --out "$work/all" --sweep "$work/losses.yaml" --dry-run &&
        says out 2-affine-ridge-mix-0.001-confidence-share0.25-temperature2 &&
        run 0 train --store "$store" --out "$work/all" --sweep "$work/losses.yaml" &&
        [ "$(wc -l <"$work/all/leaderboard.tsv")" -ge 7 ] || return 1
    for id in 2-affine-ridge-mix-0.001 2-affine-ridge-distillation-0.001-temperature2 \
        2-affine-ridge-cross-entropy-0.001-confidence 2-affine-untied-copy-mix-0.001-temperature2; do
        [ "$(grep -c '"loss"' "$work/all/trials/$id/metrics.jsonl")" = 12 ] || { echo "    $id"; return 1; }
    done
    grep -q '"weighting": "confidence"' "$work/all/trials/2-affine-ridge-cross-entropy-0.001-confidence/config.json"
}

same_alone() {
    local tied=(--tap 2 --head affine --init ridge)
    run 0 train --store "$store" --out "$work/mix" "${settings[@]}" "${tied[@]}" --loss mix --share 0.25 --temperature 2 --weighting confidence &&
        same "$work/all" "$work/mix" 2-affine-ridge-mix-0.001-confidence-share0.25-temperature2 &&
        run 0 train --store "$store" --out "$work/warm" "${settings[@]}" "${tied[@]}" --temperature 2 --threads 1 &&
        same "$work/all" "$work/warm" 2-affine-ridge-distillation-0.001-temperature2
}

# A config.json of before a key has its default, and none but that.
run_of_before_losses() {
    local id=2-affine-ridge-distillation-0.001 options=(--tap 2 --head affine --init ridge --seed 4)
    run 0 train --store "$store" --out "$work/old" "${options[@]}" --steps 6 && cp -r "$work/old" "$work/new" || return 1
    sed -i -E '/"(share|temperature|weighting)":/d' "$work/old/trials/$id/config.json"
    ! grep -q temperature "$work/old/trials/$id/config.json" &&
        run 0 train --store "$store" --out "$work/old" "${options[@]}" --steps 12 &&
        run 0 train --store "$store" --out "$work/new" "${options[@]}" --steps 12 && same "$work/old" "$work/new" $id || return 1
    # A key that is not at its default does not go unseen.
    mv "$work/old/trials/$id" "$work/old/trials/$id-temperature2" &&
        run 2 train --store "$store" --out "$work/old" "${options[@]}" --steps 12 --temperature 2 && says err '"temperature" differs'
}

what_cannot_be_is_refused() {
    "$make_store" "$work/target" taps=1,2,target || return 1
    run 2 train --store "$work/target" --out "$work/none" --tap 2 --head norm --temperature 2 &&
        says err "--temperature: other than 1 it takes the full model's probabilities from the final states" &&
        run 2 train --store "$store" --out "$work/none" --tap 2 --head norm --share 0.2 && says err "--share: it is the share" &&
        printf 'trials:\n- tap: 2\n  head: norm\n  exit_layer_weight: 0.3\n' >"$work/bad.yaml" &&
        run 2 train --store "$store" --out "$work/none" --sweep "$work/bad.yaml" &&
        says err 'bad.yaml: line 4: "exit_layer_weight": exits have no weights here' && [ ! -e "$work/none" ]
}

check every_loss
check same_alone
check run_of_before_losses
check what_cannot_be_is_refused
finish
