#!/usr/bin/env bash
# left_out.sh: a run goes on where the files of one trial cannot be used: that trial is left out, the others end with the bytes
# that they would have had; once it is mended, the same command goes on with it. Where no trial's files can be used, it stops.
. "$(dirname "$0")/lib.sh"
"$build/tests/bench/make_store" "$work/store" train=24 held_out=6 || exit 1
sweep() { # sweep STEPS
    printf 'steps: %d\nsequences: 4\nevaluate: 4\ntrials:\n  - {tap: 1, head: affine, init: ridge}\n  - {tap: 2, head: norm}\n  - {tap: 3, head: norm, rate: 1e-2}\n' "$1" >"$work/sweep.yaml"
}
train() { run "$1" train --store "$work/store" --out "$work/$2" --sweep "$work/sweep.yaml"; }
sweep 12
train 0 begun || exit 1
sweep 24
cp -r "$work/begun" "$work/whole" && train 0 whole || exit 1
trials=("$work"/whole/trials/*)
troubled=$(basename "${trials[1]}") # 2-norm-...

# others_are_whole RUN: all heads but the troubled one's are those of a run that nobody disturbed
others_are_whole() {
    local trial
    for trial in "${trials[@]##*/}"; do
        [ "$trial" = "$troubled" ] || cmp "$work/whole/trials/$trial/head.safetensors" "$work/$1/trials/$trial/head.safetensors" || return 1
    done
}
# mended RUN: the same command ends as if there had been no trouble
mended() {
    train 0 "$1" && cmp "$work/whole/trials/$troubled/head.safetensors" "$work/$1/trials/$troubled/head.safetensors" &&
        cmp "$work/whole/leaderboard.tsv" "$work/$1/leaderboard.tsv"
}
# left_out RUN: one trial is, with its reason
left_out() {
    train 0 "$1" && says err "$troubled is left out: " && [ "$(grep -c "is left out" "$work/err")" = 1 ] &&
        [ "$(grep -c done "$work/$1/leaderboard.tsv")" = 2 ] && others_are_whole "$1" && [ -e "$work/$1/report.html" ]
}

metrics_that_are_a_folder() {
    cp -r "$work/begun" "$work/a" && mv "$work/a/trials/$troubled/metrics.jsonl" "$work/kept" && mkdir "$work/a/trials/$troubled/metrics.jsonl" &&
        left_out a && says out "failed" && grep -q "$troubled.*failed" "$work/a/leaderboard.tsv" || return 1
    rmdir "$work/a/trials/$troubled/metrics.jsonl" && mv "$work/kept" "$work/a/trials/$troubled/metrics.jsonl" && mended a
}

settings_that_are_cut() {
    cp -r "$work/begun" "$work/b" && cp "$work/b/trials/$troubled/config.json" "$work/kept" && echo '{' >"$work/b/trials/$troubled/config.json" &&
        left_out b && says err "no configuration that can be read" || return 1
    cp "$work/kept" "$work/b/trials/$troubled/config.json" && mended b
}

a_folder_that_cannot_be_made() {
    cp -r "$work/begun" "$work/c" && mv "$work/c/trials/$troubled" "$work/kept.folder" && : >"$work/c/trials/$troubled" && left_out c || return 1
    rm "$work/c/trials/$troubled" && mv "$work/kept.folder" "$work/c/trials/$troubled" && mended c
}

# A folder that nothing may write to: of the trial that is waiting when the run opens it.
a_folder_that_is_read_only() {
    cp -r "$work/begun" "$work/d" && mount --bind "$work/d/trials/$troubled" "$work/d/trials/$troubled" &&
        mount -o remount,ro,bind "$work/d/trials/$troubled" || return 1
    left_out d && grep -q "$troubled.*unfinished" "$work/d/leaderboard.tsv"
    local result=$?
    umount "$work/d/trials/$troubled"
    [ $result = 0 ] && mended d
}

no_trial_is_served() {
    local trial
    cp -r "$work/begun" "$work/e"
    for trial in "$work"/e/trials/*; do rm "$trial/metrics.jsonl" && mkdir "$trial/metrics.jsonl"; done
    train 1 e && says err "trial " && ! grep -q "left out" "$work/err" && [ "$(find "$work/e" -name head.safetensors | grep -c trials)" = 3 ]
}

# Other settings are a mistake of the command, not trouble with a file.
other_settings_stop_it() {
    cp -r "$work/begun" "$work/f" && sed -i 's/"norm"/"affine"/' "$work/f/trials/$troubled/config.json" && train 2 f && says err "differs from what the sweep says"
}

# A disk that takes the small files of norms, and not the affine head's checkpoint, is not the fault of a trial.
a_disk_that_is_nearly_full() {
    train 0 roomy && mkdir "$work/small" && mount -t tmpfs -o size=4m none "$work/small" || return 1
    local pages id result=0
    for pages in 8 12 16 20 24 28 32; do # that are left
        rm -rf "$work/small/"*
        head -c $((4 * 1048576 - 4096 * pages)) /dev/zero >"$work/small/ballast"
        train 1 small/run && says err "No space left" && ! grep -rq failed "$work/small/run" && rm "$work/small/ballast" && train 0 small/run || result=1
        for id in "${trials[@]##*/}"; do cmp "$work/roomy/trials/$id/head.safetensors" "$work/small/run/trials/$id/head.safetensors" || result=1; done
    done
    umount "$work/small"
    return $result
}

check metrics_that_are_a_folder
check settings_that_are_cut
check a_folder_that_cannot_be_made
check_on_tmpfs a_folder_that_is_read_only
check_on_tmpfs a_disk_that_is_nearly_full
check no_trial_is_served
check other_settings_stop_it
finish
