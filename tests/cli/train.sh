#!/usr/bin/env bash
# train.sh: train end to end on small made stores: what it refuses, what it leaves, and that its heads are
# the same bytes alone and among others, on one thread and two, stopped and resumed.
. "$(dirname "$0")/lib.sh"
make_store=$build/tests/bench/make_store

# same RUN OTHER ID: both runs ended with the same head
same() {
    cmp "$1/trials/$3/head.safetensors" "$2/trials/$3/head.safetensors"
}

# same_metrics RUN OTHER ID: but for the times
same_metrics() {
    cmp <(without_times "$1/trials/$3/metrics.jsonl") <(without_times "$2/trials/$3/metrics.jsonl")
}

# no_checkpoints RUN: as a run that is done
no_checkpoints() {
    [ -z "$(find "$1/trials" -name last.ckpt)" ] || { echo "    $1 has checkpoints still"; return 1; }
}

store=$work/store
"$make_store" "$store" || exit 1
cat >"$work/eight.yaml" <<'END'
seed: 4
passes: 2
evaluate: 7
sample: 4
grid:
  tap: [1, 3]
  head: [affine]
  init: [ridge]
  loss: [distillation, cross-entropy]
trials:
  - {tap: 2, head: norm, loss: cross-entropy}
  - {tap: 2.mid, head: mlp}
  - {tap: 2, head: affine, output: untied, rate: 3e-3}
  - {tap: 2, head: affine, init: random, output: untied, loss: cross-entropy}
END
one=(--seed 4 --passes 2 --evaluate 7 --sample 4)

help_and_version() {
    run 0 train --help && says out --sweep && says out "--rate=RATE" && run 0 train --version && says out "offramp train"
}

wrong_usage() {
    run 2 train && says err "--store is missing" &&
        run 2 train --store s && says err "--out is missing" &&
        run 2 train --store s --out r && says err "--sweep is missing, or --tap" &&
        run 2 train --store s --out r --tap 2 && says err "or --head" &&
        run 2 train --nonsense &&
        run 2 train --store s --out r word && says err "\"word\" is too much" &&
        run 2 train --store s --out r --threads 0 --tap 2 --head norm && says err "--threads" &&
        run 2 train --store s --out r --math f64 --tap 2 --head norm && says err "none of: f32 tf32 bf16" &&
        run 2 train --store s --out r --device toaster --tap 2 --head norm && says err "none of: auto cpu" &&
        run 2 train --store s --out r --tap 2 --head nrom && says err "--head: \"nrom\"" &&
        run 2 train --store s --out r --tap x --head norm && says err "--tap: \"x\" is not a tap" &&
        run 2 train --store s --out r --tap 2 --head norm --rate -1 && says err "--rate" &&
        run 2 train --store s --out r --tap 2 --head norm --steps 1 --passes 1 && says err "give one" &&
        run 2 train --store s --out r --sweep "$work/eight.yaml" --tap 2 && says err "--tap belongs in" &&
        run 2 train --store s --out r --sweep "$work/eight.yaml" --seed 2 && says err "--seed belongs in" &&
        [ ! -e r ] && [ ! -s "$work/out" ]
}

wrong_sweep() {
    printf 'seed: 1\ntrials:\n  - {tap: 2, haed: norm}\n' >"$work/wrong.yaml"
    run 2 train --store "$store" --out "$work/wrong" --sweep "$work/wrong.yaml" &&
        says err "wrong.yaml: line 3: unknown key \"haed\"" &&
        run 2 train --store "$store" --out "$work/wrong" --sweep "$work/missing.yaml" && says err "No such file" &&
        printf 'trials:\n  - {tap: 9, head: norm}\n' >"$work/wrong.yaml" &&
        run 2 train --store "$store" --out "$work/wrong" --sweep "$work/wrong.yaml" && says err "line 2: tap" &&
        printf 'trials:\n  - {tap: 1.mid, head: mlp}\n' >"$work/wrong.yaml" &&
        run 2 train --store "$store" --out "$work/wrong" --sweep "$work/wrong.yaml" && says err "no tap 1.mid"
}

# Both before anything is computed or kept in memory.
too_large() {
    run 2 train --store "$store" --out "$work/large" --tap 2 --head norm --sequences 41 &&
        says err "--sequences: 41 per step are more than the 40 of the store's training split" &&
        printf 'seed: 1\nsequences: 999\ntrials:\n  - {tap: 2, head: norm}\n' >"$work/large.yaml" &&
        run 2 train --store "$store" --out "$work/large" --sweep "$work/large.yaml" && says err "large.yaml: line 2: sequences: 999" || return 1
    {
        printf 'grid:\n  tap: [1, 2, 3]\n  head: [affine]\n  output: [untied]\n  rate: [1e-4'
        printf ', %g' $(seq 2 1000)
        printf ']\n'
    } | sed -E '/rate/s/, ([0-9]+)/, \1e-4/g' >"$work/many.yaml"
    "$make_store" "$work/wide" hidden=64 vocab=3000 || return 1
    sanitized || (ulimit -v 2000000 && run 0 train --store "$work/wide" --out "$work/many" --sweep "$work/many.yaml" --threads 1 --dry-run &&
        says err "train: 3000 trials, " && says err " of them at a time, 10 steps of 4 sequences (64 tokens each); about") || return 1
    run 2 train --store "$work/wide" --out "$work/many" --sweep "$work/many.yaml" --memory 1M &&
        says err "--memory: 1.05 MB do not hold a single trial, which takes" && [ ! -e "$work/many/trials" ]
}

wrong_store_and_folder() {
    run 1 train --store "$work/none" --out "$work/wrong" --tap 2 --head norm && says err "$work/none" || return 1
    mkdir -p "$work/taken" && : >"$work/taken/thesis.txt"
    run 1 train --store "$store" --out "$work/taken" --tap 2 --head norm && says err "holds other files"
}

inits_only() {
    run 0 train --store "$store" --out "$work/inits" --tap 3 --head affine --init ridge --steps 0 &&
        says out "full model" && says out "3-affine-ridge-distillation-0.001" &&
        [ "$(wc -l <"$work/inits/trials/3-affine-ridge-distillation-0.001/metrics.jsonl")" = 2 ]
}

# The head files that a run's policy names.
exits_of() { sed -nE 's/.*"file": "(.*)".*/\1/p' "$1/policy/policy.json" | sort; }

sweep_of_eight() {
    run 0 train --store "$store" --out "$work/eight" --sweep "$work/eight.yaml" --threads 2 &&
        says out "predicted speed-up" && says out "$work/eight/report.html" &&
        cmp "$work/eight.yaml" "$work/eight/sweep.yaml" &&
        [ "$(wc -l <"$work/eight/leaderboard.tsv")" = 9 ] &&
        [ "$(cut -f 1,10 "$work/eight/leaderboard.tsv" | sed -n 9p)" = "$(printf '8\tdone')" ] &&
        [ "$(cut -f 13 "$work/eight/leaderboard.tsv" | tail -n +2)" = \
            "$(cut -f 13 "$work/eight/leaderboard.tsv" | tail -n +2 | sort -g)" ] &&
        [ -n "$(exits_of "$work/eight")" ] &&
        [ "$(exits_of "$work/eight")" = "$(cd "$work/eight/policy" && ls ./*.safetensors | cut -c 3-)" ] &&
        grep -q '<svg' "$work/eight/report.html" && grep -q 'prefers-color-scheme:dark' "$work/eight/report.html" &&
        grep -q '<td class="text minor">random</td><td class="text minor">cross-entropy</td><td class="minor">0.001</td>' "$work/eight/report.html" &&
        says err "train: 8 trials, 20 steps of 4 sequences (64 tokens each); about" && ! grep -qE 'https?://' "$work/eight/report.html" &&
        ls "$work"/eight/trials/*/ | grep -c head.safetensors | grep -qx 8 && no_checkpoints "$work/eight"
}

# Evaluations of 4 of the 6 held-out sequences before the first step, every seventh, and after the last: 0, 7, 14, 20;
# at the end the kept head on all 6.
metrics_lines() {
    local file=$work/eight/trials/2-norm-copy-cross-entropy-0.001/metrics.jsonl
    [ "$(grep -c '"loss"' "$file")" = 20 ] && [ "$(grep -c '"kl".*"sequences": 4,' "$file")" = 4 ] &&
        [ "$(tail -n 1 "$file" | grep -cE '"step": 20, .*"kl".*"sequences": 6, "whole": true, "of_step": [0-9]+,')" = 1 ] &&
        [ "$(grep -c '"kl"' "$file")" = 5 ]
}

# kl_of: of the lines on stdin
kl_of() { sed -E 's/.*"kl": ([0-9.e+-]+).*/\1/'; }

# A trial counts as its kept head does on the whole split. Where the sample is the split, that is its best evaluation.
sample_of_the_split() {
    local id=2-norm-copy-cross-entropy-0.001 sample file options
    options=(--seed 4 --passes 2 --evaluate 7 --tap 2 --head norm --loss cross-entropy)
    for sample in 0 6 999; do
        run 0 train --store "$store" --out "$work/sample$sample" "${options[@]}" --sample $sample || return 1
        file=$work/sample$sample/trials/$id/metrics.jsonl
        [ "$(grep -c '"sequences": 6, "tok' "$file")" = 4 ] && same_metrics "$work/sample0" "$work/sample$sample" $id &&
            [ "$(tail -n 1 "$file" | kl_of)" = "$(grep '"sequences": 6, "tok' "$file" | kl_of | sort -g | head -n 1)" ] || return 1
    done
    # The same kept head, whose whole evaluation is the rest of the split behind the sample.
    file=$work/eight/trials/$id/metrics.jsonl
    [ "$(tail -n 1 "$file" | kl_of)" = "$(tail -n 1 "$work/sample0/trials/$id/metrics.jsonl" | kl_of)" ] &&
        [ "$(grep '"sequences": 4,' "$file" | kl_of | tail -n 1)" != "$(tail -n 1 "$file" | kl_of)" ] &&
        [ "$(grep "$id" "$work/eight/leaderboard.tsv" | cut -f 12-)" = "$(grep "$id" "$work/sample0/leaderboard.tsv" | cut -f 12-)" ] &&
        run 2 train --store "$store" --out "$work/sample0" "${options[@]}" --sample 4 && says err "sample 6, not 4" &&
        run 2 train --store "$store" --out "$work/none" "${options[@]}" --sample all && says err "--sample"
}

# A run of a program that knew no samples: its evaluations are of the whole split, and so are those that follow.
run_of_before_samples() {
    local id=2-norm-copy-cross-entropy-0.001 old=$work/old options
    options=(--seed 4 --evaluate 7 --tap 2 --head norm --loss cross-entropy)
    cp -r "$work/sample0" "$old"
    sed -i '/"sample"/d' "$old/run.json"
    sed -i -E '/"whole"/d; s/, "sequences": 6//' "$old/trials/$id/metrics.jsonl"
    run 0 train --store "$store" --out "$old" "${options[@]}" --passes 2 && says err "nothing is left to do" || return 1
    rm "$old/leaderboard.tsv"
    run 0 train --store "$store" --out "$old" "${options[@]}" --passes 2 && cmp "$work/sample0/leaderboard.tsv" "$old/leaderboard.tsv" || return 1
    run 0 train --store "$store" --out "$old" "${options[@]}" --steps 30 &&
        run 0 train --store "$store" --out "$work/sample0" "${options[@]}" --steps 30 &&
        same "$work/sample0" "$old" $id && cmp "$work/sample0/leaderboard.tsv" "$old/leaderboard.tsv" &&
        [ "$(tail -n 2 "$old/trials/$id/metrics.jsonl" | grep -c '"sequences": 6')" = 2 ]
}


same_alone() {
    run 0 train --store "$store" --out "$work/alone1" "${one[@]}" --tap 1 --head affine --init ridge --threads 2 &&
        same "$work/eight" "$work/alone1" 1-affine-ridge-distillation-0.001 &&
        run 0 train --store "$store" --out "$work/alone2" "${one[@]}" --tap 2.mid --head mlp --threads 2 &&
        same "$work/eight" "$work/alone2" 2.mid-mlp-copy-distillation-0.001 &&
        run 0 train --store "$store" --out "$work/alone3" "${one[@]}" --tap 2 --head affine --output untied --rate 3e-3 &&
        same "$work/eight" "$work/alone3" 2-affine-untied-copy-distillation-0.003 &&
        run 0 train --store "$store" --out "$work/alone4" "${one[@]}" --tap 2 --head affine --output untied --init random \
            --loss cross-entropy &&
        same "$work/eight" "$work/alone4" 2-affine-untied-random-cross-entropy-0.001
}

same_on_one_thread() {
    run 0 train --store "$store" --out "$work/thread" --sweep "$work/eight.yaml" --threads 1 || return 1
    for trial in "$work"/eight/trials/*; do
        same "$work/eight" "$work/thread" "$(basename "$trial")" || return 1
    done
}

same_from_shards() {
    for i in 0 1 2; do
        "$make_store" "$work/shard$i" shard=$i shards=3 || return 1
    done
    run 0 train --store "$work/shard1" --store "$work/shard2" --store "$work/shard0" --out "$work/shards" "${one[@]}" --tap 1 \
        --head affine --init ridge &&
        same "$work/eight" "$work/shards" 1-affine-ridge-distillation-0.001 &&
        run 2 train --store "$work/shard1" --store "$work/shard2" --out "$work/wrong" --tap 1 --head norm &&
        run 2 train --store "$work/shard1" --store "$store" --out "$work/wrong" --tap 1 --head norm
}

# raw and lossless keep the same bf16 values; the feed hands over those of raw as they are, and decoded ones of lossless.
same_from_views() {
    local trial
    "$make_store" "$work/raw" codec=raw &&
        run 0 train --store "$work/raw" --out "$work/raw.run" --sweep "$work/eight.yaml" || return 1
    for trial in "$work"/eight/trials/*; do
        same "$work/eight" "$work/raw.run" "${trial##*/}" && same_metrics "$work/eight" "$work/raw.run" "${trial##*/}" || return 1
    done
    cmp "$work/eight/leaderboard.tsv" "$work/raw.run/leaderboard.tsv"
}

# Exact states: what the store has of the full model and what is computed from them differ by rounding only.
same_without_target() {
    "$make_store" "$work/with" codec=raw:f32 && "$make_store" "$work/without" codec=raw:f32 taps=1,2,2.mid,3,final &&
        run 0 train --store "$work/with" --out "$work/with.run" --sweep "$work/eight.yaml" &&
        run 0 train --store "$work/without" --out "$work/without.run" --sweep "$work/eight.yaml" || return 1
    join -t "$(printf '\t')" <(tail -n +2 "$work/with.run/leaderboard.tsv" | cut -f 2,11- | sort) \
        <(tail -n +2 "$work/without.run/leaderboard.tsv" | cut -f 2,11- | sort) | awk -F '\t' '
        { fields = (NF - 1) / 2
          for (i = 2; i <= fields + 1; i++) {
              difference = $i - $(i + fields)
              if (difference > 1e-4 || difference < -1e-4) bad = 1 } }
        END { exit bad || NR != 8 }' && return 0
    echo "    the leaderboards differ"
    diff "$work/with.run/leaderboard.tsv" "$work/without.run/leaderboard.tsv"
    return 1
}

# With a target, final states are read for what cannot do without them only.
target_alone() {
    "$make_store" "$work/bare" taps=1,2,target &&
        run 0 train --store "$work/bare" --out "$work/bare.run" "${one[@]}" --tap 1 --head affine && says out "full model" &&
        run 2 train --store "$work/bare" --out "$work/bare2" --tap 1 --head affine --output untied && says err "no tap final" &&
        run 2 train --store "$work/bare" --out "$work/bare3" --tap 1 --head affine --init ridge && says err "no tap final" &&
        run 2 train --store "$work/bare" --out "$work/bare4" --tap target --head norm && says err "\"target\" is not a tap"
}

# Copied from a model whose MLPs have biases, an mlp head at 1.mid is what a norm head is at 1.
mlp_with_biases() {
    perl -e 'srand(3); print pack("v*", map { int(rand(64)) } 1 .. 2000)' | tee "$work/held.u16" >"$work/ids.u16"
    "$build/extract" --model tests/golden/bias --corpus "$work/ids.u16" --held-out-corpus "$work/held.u16" \
        --end-of-text 5 --seq-len 32 --taps 1.mid,1,final --codec raw:f32 --out "$work/bias" >/dev/null 2>&1 || return 1
    printf 'steps: 0\ntrials:\n  - {tap: 1.mid, head: mlp}\n  - {tap: 1, head: norm}\n' >"$work/bias.yaml"
    run 0 train --store "$work/bias" --out "$work/bias.run" --sweep "$work/bias.yaml" || return 1
    [ "$(cut -f 12-16 "$work/bias.run/leaderboard.tsv" | tail -n +2 | sed -E 's/([0-9]\.[0-9]{4})[0-9]*/\1/g' | sort -u | wc -l)" = 1 ]
}

finished_run_again() {
    local before after
    before=$(find "$work/eight" -printf '%p %T@\n' | sort)
    run 0 train --store "$store" --out "$work/eight" --sweep "$work/eight.yaml" && says err "is finished" &&
        says out "2.mid-mlp-copy-distillation-0.001" || return 1
    after=$(find "$work/eight" -printf '%p %T@\n' | sort)
    [ "$before" = "$after" ] || { echo "    something was written"; return 1; }
    cp "$work/out" "$work/before"
    rm "$work/eight/report.html"
    run 0 train --store "$store" --out "$work/eight" --sweep "$work/eight.yaml" && [ -s "$work/eight/report.html" ]
}

json() {
    run 0 train --store "$store" --out "$work/eight" --sweep "$work/eight.yaml" --json && says out '"rank": 8' &&
        says out '"full_loss"' && [ "$(grep -c '"shared_seconds"' "$work/out")" = 8 ] && [ "$(grep -c '"kl"' "$work/out")" = 8 ]
}

changed_options_are_refused() {
    run 2 train --store "$store" --out "$work/alone1" --seed 5 --passes 2 --evaluate 7 --tap 1 --head affine --init ridge &&
        says err "seed 4, not 5" &&
        run 2 train --store "$store" --out "$work/alone1" --seed 4 --passes 1 --tap 1 --head affine --init ridge &&
        says err "steps 20, not 10" &&
        run 2 train --store "$store" --out "$work/alone1" "${one[@]}" --sequences 8 --tap 1 --head affine --init ridge &&
        "$make_store" "$work/other" train=36 &&
        run 2 train --store "$work/other" --out "$work/alone1" --seed 4 --steps 20 --tap 1 --head affine --init ridge &&
        says err "was begun with"
}

# Two more trials: the one that is there waits, and the new ones end as if they had been there.
trials_can_be_added() {
    cat >"$work/more.yaml" <<'END'
seed: 4
passes: 2
evaluate: 7
sample: 4
trials:
  - {tap: 2, head: norm, loss: cross-entropy}
  - {tap: 1, head: affine, init: ridge}
  - {tap: 2.mid, head: mlp}
END
    cp -r "$work/alone1" "$work/more"
    run 0 train --store "$store" --out "$work/more" --sweep "$work/more.yaml" &&
        same "$work/eight" "$work/more" 2-norm-copy-cross-entropy-0.001 &&
        same "$work/eight" "$work/more" 2.mid-mlp-copy-distillation-0.001 &&
        same "$work/eight" "$work/more" 1-affine-ridge-distillation-0.001
}

long=(--seed 4 --steps 4000 --checkpoint 100 --tap 2 --head affine --init ridge)
long_id=2-affine-ridge-distillation-0.001

lines() {
    wc -l 2>/dev/null <"$1/trials/$long_id/metrics.jsonl" || echo 0
}

# stop_with SIGNAL RUN: begins the long run or goes on with it, and stops it after some steps. A run that was
# over before the signal came begins anew.
stop_with() {
    local before status
    for attempt in 1 2 3 4 5; do
        before=$(lines "$2")
        # A script's background job ignores SIGINT otherwise.
        env --default-signal=INT "$build/train" --store "$store" --out "$2" "${long[@]}" >"$work/out" 2>"$work/err" </dev/null &
        pid=$!
        while kill -0 $pid 2>/dev/null && [ "$(lines "$2")" -lt $((before + 20)) ]; do sleep 0.01; done
        # Meanwhile nobody else may.
        kill -STOP $pid 2>/dev/null
        "$build/train" --store "$store" --out "$2" "${long[@]}" >/dev/null 2>"$work/second" </dev/null
        kill -$1 $pid 2>/dev/null
        kill -CONT $pid 2>/dev/null
        wait $pid
        status=$?
        [ $status = 0 ] || break
        rm -r "$2"
    done
    [ $status = 1 ] && says err "the same command goes on from there" && says second "another train is at work"
}

stopped_and_resumed() {
    run 0 train --store "$store" --out "$work/whole" "${long[@]}" || return 1
    stop_with TERM "$work/stopped" && stop_with INT "$work/stopped" || return 1
    cp -r "$work/stopped" "$work/damaged"
    [ -e "$work/stopped/trials/$long_id/last.ckpt" ] &&
        run 0 train --store "$store" --out "$work/stopped" "${long[@]}" && same "$work/whole" "$work/stopped" $long_id &&
        [ "$(grep -c '"loss"' "$work/stopped/trials/$long_id/metrics.jsonl")" = 4000 ] &&
        same_metrics "$work/whole" "$work/stopped" $long_id && no_checkpoints "$work/stopped"
}

# A trial is added to a run that was stopped: the first one waits until it has caught up.
trial_ahead_waits() {
    printf 'seed: 4\nsteps: 4000\ncheckpoint: 100\ntrials:\n' >"$work/ahead.yaml"
    printf '  - {tap: 1, head: norm}\n  - {tap: 2, head: affine, init: ridge}\n' >>"$work/ahead.yaml"
    stop_with TERM "$work/ahead" && [ ! -e "$work/ahead/policy" ] &&
        run 0 train --store "$store" --out "$work/ahead" --sweep "$work/ahead.yaml" &&
        same "$work/whole" "$work/ahead" $long_id &&
        [ "$(grep -c '"loss"' "$work/ahead/trials/$long_id/metrics.jsonl")" = 4000 ]
}

# A NaN at one tap: that trial is marked, the others end as they would have.
failed_trial() {
    "$make_store" "$work/broken" broken=2.mid || return 1
    run 0 train --store "$work/broken" --out "$work/nan" --sweep "$work/eight.yaml" &&
        says err "2.mid-mlp-copy-distillation-0.001: failed: the loss of step" &&
        says out "failed after step" && grep -q '"failed"' "$work/nan/trials/2.mid-mlp-copy-distillation-0.001/metrics.jsonl" &&
        [ ! -e "$work/nan/trials/2.mid-mlp-copy-distillation-0.001/head.safetensors" ] &&
        [ -n "$(exits_of "$work/nan")" ] && [ ! -e "$work/nan/policy/2.mid.safetensors" ] &&
        same "$work/eight" "$work/nan" 2-norm-copy-cross-entropy-0.001 &&
        same "$work/eight" "$work/nan" 3-affine-ridge-distillation-0.001 || return 1
    run 1 train --store "$work/broken" --out "$work/nan2" "${one[@]}" --tap 2.mid --head mlp && says err "every trial has failed" &&
        run 1 train --store "$work/broken" --out "$work/nan2" "${one[@]}" --tap 2.mid --head mlp || return 1
    "$make_store" "$work/broken1" broken=1 || return 1
    run 1 train --store "$work/broken1" --out "$work/nan4" "${one[@]}" --tap 1 --head affine --init ridge &&
        says err "not a number"
}

# A checkpoint of a stopped run that is not what was written, and a head of a finished one that is not.
damage() {
    local trial=$work/damaged/trials/$long_id
    printf x | dd of="$trial/last.ckpt" bs=1 seek=$(($(stat -c %s "$trial/last.ckpt") - 50)) conv=notrunc status=none
    run 1 train --store "$store" --out "$work/damaged" "${long[@]}" && says err "last.ckpt: is damaged" || return 1
    # As it advises. A head of before must not be taken for the new one's.
    rm "$trial/last.ckpt"
    echo old >"$trial/head.safetensors"
    run 0 train --store "$store" --out "$work/damaged" "${long[@]}" &&
        says err "has no last.ckpt any more: it is trained from the start" && same "$work/whole" "$work/damaged" $long_id || return 1
    echo old >"$trial/head.safetensors"
    run 0 train --store "$store" --out "$work/damaged" "${long[@]}" &&
        says err "has no readable head.safetensors any more: it is trained from the start" &&
        same "$work/whole" "$work/damaged" $long_id
}

# files RUN: what a run's trials are, with the times of their last changes
files() { find "$1/trials" -type f -printf '%p %T@ %s\n' | sort; }

# A trial whose folder, or head, is deleted from a finished run is trained again, and nobody touches the others.
deleted_from_a_finished_run() {
    local id=2-norm-copy-cross-entropy-0.001 what
    cp -rp "$work/more" "$work/deleted"
    files "$work/deleted" | grep -v "$id" >"$work/before"
    for what in "" /head.safetensors /metrics.jsonl /config.json; do
        rm -r "$work/deleted/trials/$id$what"
        run 0 train --store "$store" --out "$work/deleted" --sweep "$work/more.yaml" && same "$work/more" "$work/deleted" $id &&
            same_metrics "$work/more" "$work/deleted" $id && no_checkpoints "$work/deleted" &&
            cmp "$work/more/leaderboard.tsv" "$work/deleted/leaderboard.tsv" &&
            cmp "$work/before" <(files "$work/deleted" | grep -v "$id") || return 1
    done
    # A checkpoint that a killed process did not get to remove.
    : >"$work/deleted/trials/$id/last.ckpt"
    run 0 train --store "$store" --out "$work/deleted" --sweep "$work/more.yaml" && says err "nothing is left to do" &&
        no_checkpoints "$work/deleted" || return 1
    rm -r "$work/deleted/policy"
    run 0 train --store "$store" --out "$work/deleted" --sweep "$work/more.yaml" && says err "its policy is made again" &&
        diff -r "$work/more/policy" "$work/deleted/policy"
}

# What a finished run has lost of its policy and results is made again from its heads, whatever lies in their place.
lost_results() {
    local lost=$work/lost policy=$work/lost/policy what
    local again=(--store "$store" --out "$lost" --sweep "$work/more.yaml")
    cp -rp "$work/more" "$lost"
    files "$lost" >"$work/before"
    for what in "rm $policy/policy.json" "truncate -s 0 $policy/policy.json" "rm -r $policy/*" "rm $policy/*.safetensors" \
        "truncate -s -4 $policy/*.safetensors" "rm $lost/report.html" "truncate -s 0 $lost/report.html" \
        "rm $lost/leaderboard.tsv" "truncate -s 0 $lost/leaderboard.tsv"; do
        eval "$what"
        run 0 train "${again[@]}" && says err "its policy is made again" && diff -r "$work/more/policy" "$policy" &&
            cmp "$work/more/leaderboard.tsv" "$lost/leaderboard.tsv" && grep -q "</html>" "$lost/report.html" &&
            cmp "$work/before" <(files "$lost") || { echo "    after $what"; return 1; }
        run 0 train "${again[@]}" && says err "nothing is left to do" || return 1
    done
}

# A trial of a finished run whose head or metrics are of no use is trained again; its configuration nobody can know.
damaged_trial_of_a_finished_run() {
    local id=2-norm-copy-cross-entropy-0.001 spoilt=$work/spoilt what line
    local trial=$spoilt/trials/$id again=(--store "$store" --out "$work/spoilt" --sweep "$work/more.yaml")
    cp -rp "$work/more" "$spoilt"
    while IFS='|' read -r what line; do
        eval "$what"
        run 0 train "${again[@]}" && says err "$id has no $line any more: it is trained from the start" &&
            same "$work/more" "$spoilt" $id && same_metrics "$work/more" "$spoilt" $id && no_checkpoints "$spoilt" &&
            cmp "$work/more/leaderboard.tsv" "$spoilt/leaderboard.tsv" &&
            diff -r "$work/more/policy" "$spoilt/policy" || { echo "    after $what"; return 1; }
    done <<END
: >$trial/head.safetensors|readable head.safetensors
truncate -s -4 $trial/head.safetensors|readable head.safetensors
cp $spoilt/trials/1-*/head.safetensors $trial; rm $spoilt/report.html $trial/config.json|readable head.safetensors
: >$trial/metrics.jsonl|whole metrics.jsonl
sed -i '\$d' $trial/metrics.jsonl|last.ckpt
END
    : >"$trial/config.json"
    run 0 train "${again[@]}" && says err "$id is left out: " && says err "remove its folder to train it again: $trial/config.json" || return 1
    : >"$spoilt/run.json"
    run 1 train "${again[@]}" && says err "name another folder, or remove this one: $spoilt/run.json"
}

# More steps for a finished run, whose trials go on from their heads, the best ones, or begin anew where they have none.
more_steps() {
    local id=2-affine-copy-distillation-0.001 single=(--seed 4 --tap 2 --head affine --evaluate 5)
    run 0 train --store "$store" --out "$work/longer" "${single[@]}" --steps 10 &&
        cp -r "$work/longer" "$work/longer2" &&
        run 0 train --store "$store" --out "$work/longer" "${single[@]}" --steps 25 &&
        says err "begun with 10 steps and goes on to 25" && says err "from their kept heads, with a new optimizer state" &&
        says err "$id goes on from its kept head, which is of step 10" && no_checkpoints "$work/longer" &&
        [ "$(grep -c '"loss"' "$work/longer/trials/$id/metrics.jsonl")" = 25 ] &&
        [ "$(cut -f 11 "$work/longer/leaderboard.tsv" | tail -n 1)" = 25 ] &&
        run 0 train --store "$store" --out "$work/longer" "${single[@]}" --steps 25 && says err "nothing is left to do" &&
        run 2 train --store "$store" --out "$work/longer" "${single[@]}" --steps 10 && says err "steps 25, not 10" || return 1
    rm "$work/longer2/trials/$id/head.safetensors"
    run 0 train --store "$store" --out "$work/longer2" "${single[@]}" --steps 25 && says err "it is trained from the start" &&
        run 0 train --store "$store" --out "$work/longer3" "${single[@]}" --steps 25 && same "$work/longer2" "$work/longer3" $id || return 1
    # A head before its first step, and an optimizer that begins there, are a run that was never shorter.
    run 0 train --store "$store" --out "$work/longer4" "${single[@]}" --steps 0 &&
        run 0 train --store "$store" --out "$work/longer4" "${single[@]}" --steps 25 && says err "which is of step 0" &&
        same "$work/longer3" "$work/longer4" $id && same_metrics "$work/longer3" "$work/longer4" $id
}

# A rate that is far too high: the head of the step before it went wrong is kept, and the board says which.
best_head_is_kept() {
    local id start=2-affine-copy-distillation-0.001
    run 0 train --store "$store" --out "$work/wild" --seed 4 --steps 12 --evaluate 3 --sample 4 --tap 2 --head affine --rate 1 --warmup 0 &&
        id=$(cut -f 2 "$work/wild/leaderboard.tsv" | tail -n 1) || return 1
    local step best
    best=$(grep '"kl"' "$work/wild/trials/$id/metrics.jsonl" | grep -v whole | sed -E 's/.*"step": ([0-9]+).*"kl": ([0-9.e+-]+).*/\2 \1/' | sort -g | head -n 1)
    step=${best#* }
    [ "$step" != 12 ] && [ "$(cut -f 15 "$work/wild/leaderboard.tsv" | tail -n 1)" = "$step" ] || return 1
    # Its line at the end is of that head, not of the last one: as where every evaluation is of the whole split.
    run 0 train --store "$store" --out "$work/wild3" --seed 4 --steps 12 --evaluate 3 --sample 0 --tap 2 --head affine --rate 1 --warmup 0 &&
        [ "$(tail -n 1 "$work/wild/trials/$id/metrics.jsonl" | grep -c "\"of_step\": $step,")" = 1 ] &&
        [ "$(tail -n 1 "$work/wild/trials/$id/metrics.jsonl" | kl_of)" = \
            "$(grep "\"step\": $step, .*\"kl\"" "$work/wild3/trials/$id/metrics.jsonl" | kl_of)" ] || return 1
    cp -r "$work/wild" "$work/wild2"
    run 0 train --store "$store" --out "$work/wild2" --seed 4 --steps 15 --evaluate 3 --sample 4 --tap 2 --head affine --rate 1 --warmup 0 &&
        says err "which is of step $step" && [ "$(grep -c '"loss"' "$work/wild2/trials/$id/metrics.jsonl")" = 15 ] &&
        cmp <(grep -B 99 "\"step\": $step, .*\"kl\"" "$work/wild/trials/$id/metrics.jsonl") \
            <(grep -B 99 "\"step\": $step, .*\"kl\"" "$work/wild2/trials/$id/metrics.jsonl") || return 1
    # Step 0 is the copy, which no rate has changed.
    run 0 train --store "$store" --out "$work/start" --seed 4 --steps 0 --tap 2 --head affine || return 1
    [ "$step" != 0 ] || cmp "$work/wild/trials/$id/head.safetensors" "$work/start/trials/$start/head.safetensors"
}

threshold_of() { sed -nE 's/.*"threshold": (.*)/\1/p' "$1/policy/policy.json" | head -n 1; }

# fact RUN NAME: a number of run.json
fact() { sed -nE "s/^ *\"$2\": ([0-9.e+-]+),?\$/\1/p" "$1/run.json"; }

# cost RUN TRIAL COLUMN
cost() { awk -F'\t' -v trial="$2" -v column="$3" '$1 == trial { print $column }' "$1/cost.tsv"; }

# calc EXPRESSION: awk's, true or false
calc() { awk "BEGIN { exit !($1) }"; }

# The trials share out the time of training, over all processes of a run.
cost_adds_up() {
    local run all sum parts
    for run in whole stopped; do
        all=$(cost "$work/$run" "(all trials)" 2)
        # What a process does between lines of metrics is nobody's; on a busy machine that is more of so short a run.
        calc "$all > 0.6 * $(fact "$work/$run" training_seconds) && $all < 1.02 * $(fact "$work/$run" training_seconds)" ||
            { echo "    $run: $all of $(fact "$work/$run" training_seconds) s"; return 1; }
        calc "$(cost "$work/$run" "(all trials)" 6) < 1.02 * $(fact "$work/$run" stall_seconds) + 0.001" || return 1
        [ "$(cost "$work/$run" $long_id 2)" = "$all" ] && [ "$(cost "$work/$run" $long_id 5)" = 1.0000 ] || return 1
    done
    read -r sum parts < <(awk -F'\t' 'NR > 1 && NR < 10 { sum += $2; parts += $5 } END { print sum, parts }' "$work/eight/cost.tsv")
    all=$(cost "$work/eight" "(all trials)" 2)
    # Nine figures of three digits, eight of four: nothing else may be between the sums.
    calc "$sum - $all < 0.00451 && $all - $sum < 0.00451 && $parts > 0.9995 && $parts < 1.0005" &&
        calc "$all <= 1.02 * $(fact "$work/eight" training_seconds)" &&
        grep -q "What each trial took" "$work/eight/report.html"
}

# Another policy for a finished run, without training; one that agrees as often as nothing does; what is asked by name.
another_policy() {
    cp -r "$work/eight" "$work/asked"
    local before=$work/eight/trials asked=(--store "$store" --out "$work/asked" --sweep "$work/eight.yaml")
    run 0 train "${asked[@]}" --agreement 0.5 && says err "its policy is made again" &&
        diff -r "$before" "$work/asked/trials" &&
        [ "$(threshold_of "$work/asked")" != "$(threshold_of "$work/eight")" ] &&
        run 0 train "${asked[@]}" --agreement 0.5 && says err "nothing is left to do" &&
        run 0 train "${asked[@]}" && says err "nothing is left to do" &&
        run 0 train "${asked[@]}" --exits 3,1 --threshold 0.77 &&
        [ "$(exits_of "$work/asked")" = "$(printf '1.safetensors\n3.safetensors')" ] &&
        grep -q '"threshold": 0.77' "$work/asked/policy/policy.json" && says out "threshold is 0.77" &&
        run 0 train "${asked[@]}" --exits 2.mid && [ "$(exits_of "$work/asked")" = 2.mid.safetensors ] &&
        run 0 train "${asked[@]}" --agreement 0.95 && diff -r "$work/eight/policy" "$work/asked/policy" &&
        run 2 train "${asked[@]}" --exits 4 && says err "no trial of the sweep is an exit at tap final (there are: 1, 3" &&
        run 2 train "${asked[@]}" --exits 9 && says err "--exits" &&
        run 2 train "${asked[@]}" --exits 1,,2 && says err "empty item" &&
        run 2 train "${asked[@]}" --agreement 0.9 --threshold 0.9 && says err "give one of them" &&
        run 2 train "${asked[@]}" --agreement 1.1 && says err "not in 0 .. 1"
}

# Heads that are never right, or that cost more than the model: a policy without exits, which says why.
policy_without_exits() {
    "$make_store" "$work/slow" layers=1 vocab=4000 taps=1.mid,final,target &&
        run 0 train --store "$work/slow" --out "$work/slow.run" --steps 2 --tap 1.mid --head norm &&
        says out "The policy has no exits: none" && says out "at 1.mid" && says out "try" &&
        grep -q '"exits": \[\]' "$work/slow.run/policy/policy.json" && grep -q '"tried"' "$work/slow.run/policy/policy.json" &&
        grep -q "The policy has no exits" "$work/slow.run/report.html" &&
        run 0 train --store "$store" --out "$work/top" --steps 0 --tap final --head norm &&
        says out "no head was trained at a tap before the last layer" || return 1
    run 0 train --store "$work/slow" --out "$work/slow.run" --steps 2 --tap 1.mid --head norm --exits 1.mid && says out "slower than the full model"
}

no_room_for_output() {
    "$build/train" --store "$store" --out "$work/eight" --sweep "$work/eight.yaml" >/dev/full 2>"$work/err" </dev/null
    [ $? = 1 ] && says err "No space left"
}

check help_and_version
check wrong_usage
check wrong_sweep
check too_large
check wrong_store_and_folder
check inits_only
check sweep_of_eight
check metrics_lines
check sample_of_the_split
check run_of_before_samples
check same_alone
check same_on_one_thread
check same_from_shards
check same_from_views
check same_without_target
check target_alone
check mlp_with_biases
check finished_run_again
check json
check changed_options_are_refused
check trials_can_be_added
check stopped_and_resumed
check cost_adds_up
check trial_ahead_waits
check failed_trial
check damage
check deleted_from_a_finished_run
check lost_results
check damaged_trial_of_a_finished_run
check more_steps
check best_head_is_kept
check another_policy
check policy_without_exits
check no_room_for_output
finish
