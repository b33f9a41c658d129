#!/usr/bin/env bash
# gates.sh: train --gates: which are refused, what a run leaves of them, that they can be added later and are not made twice,
# that parts leave them to --collect, and that they have the same bytes for any number of threads.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer; 2 ends a text
perl -e 'srand(4); print pack("v*", map { 3 + int(rand(61) * rand()) } 1 .. 6000)' >"$work/text.u16"
"$build/extract" --model "$tiny" --seq-len 16 --taps 1,1.mid,final --corpus "$work/text.u16" --held-out 0.5 --out "$work/store" >/dev/null 2>&1
"$build/extract" --model "$tiny" --seq-len 16 --taps 1,final --corpus "$work/text.u16" --held-out 0.1 --out "$work/small" >/dev/null 2>&1
cat >"$work/sweep.yaml" <<'END'
steps: 2
gates: linear,short-list
trials:
  - {tap: 1, head: affine, init: ridge}
  - {tap: 1, head: norm}
  - {tap: 1.mid, head: norm}
END
sweep=(--store "$work/store" --sweep "$work/sweep.yaml")
flags=(--store "$work/store" --tap 1 --head norm --steps 1)

refused() {
    run 2 train "${flags[@]}" --out "$work/none" --gates lines && says err '--gates: "lines" is not a gate' &&
        run 2 train "${flags[@]}" --out "$work/none" --gates linear+short-list && says err "linear is a gate by itself" &&
        run 2 train "${sweep[@]}" --out "$work/none" --gates state+mlp && says err "--gates" && says err "twice" &&
        run 2 train "${sweep[@]}" --out "$work/none" --part 0/2 --gates mlp && says err "--gates belongs to --collect" &&
        run 2 train --store "$work/small" --tap 1 --head norm --out "$work/none" --gates mlp &&
        says err "need at least 1024 in 8 sequences, but the held-out split has" && [ ! -e "$work/none" ]
}

# files RUN: its gates
files() { (cd "$1/gates" && echo *.safetensors); }

begun() {
    run 0 train "${sweep[@]}" --out "$work/run" --threads 1 || return 1
    says out "tap       gate" && says out "short-list" && says out "sequences, scored on" &&
        [ "$(files "$work/run")" = "1-linear.safetensors 1-short-list.safetensors 1.mid-linear.safetensors 1.mid-short-list.safetensors" ]
}

threads() {
    run 0 train "${sweep[@]}" --out "$work/other" --threads 3 && diff -r "$work/run/gates" "$work/other/gates"
}

again() {
    cp -r "$work/run/gates" "$work/before"
    run 0 train "${sweep[@]}" --out "$work/run" && says err "nothing is left to do" && says out "short-list" &&
        diff -r "$work/before" "$work/run/gates"
}

# Without training, and without making those again that are there; what was asked for last is remembered.
added() {
    local before after
    before=$(stat -c %Y.%i "$work/run/gates/1-linear.safetensors" "$work/run/trials"/*/head.safetensors)
    run 0 train "${sweep[@]}" --out "$work/run" --gates linear,candidates+state,confidence &&
        says err "is finished; gates are added" && says out "none: candidates come from the exit below" || return 1
    after=$(stat -c %Y.%i "$work/run/gates/1-linear.safetensors" "$work/run/trials"/*/head.safetensors)
    [ "$before" = "$after" ] || { echo "    something was made twice"; return 1; }
    [ -e "$work/run/gates/1-candidates+state.safetensors" ] && [ ! -e "$work/run/gates/1.mid-candidates+state.safetensors" ] &&
        run 0 train "${sweep[@]}" --out "$work/run" --gates linear,candidates+state,confidence && says err "nothing is left to do"
}

# A gate that is gone is made again, to the same bytes; so are all when their list is cut.
mended() {
    local kept=$work/kept
    rm -rf "$kept" && cp -r "$work/other/gates" "$kept" && rm "$work/other/gates/1-short-list.safetensors" &&
        run 0 train "${sweep[@]}" --out "$work/other" && says err "gates are added" && diff -r "$kept" "$work/other/gates" &&
        head -c 100 "$kept/gates.json" >"$work/other/gates/gates.json" && run 0 train "${sweep[@]}" --out "$work/other" &&
        says err "gates are added" && diff -r "$kept" "$work/other/gates"
}

collected() {
    run 0 train "${sweep[@]}" --out "$work/parts" --part 0/2 && [ ! -e "$work/parts/gates" ] &&
        run 0 train "${sweep[@]}" --out "$work/parts" --part 1/2 && run 0 train "${sweep[@]}" --out "$work/parts" --collect &&
        says out "short-list" && diff -r "$work/before" "$work/parts/gates"
}

json() {
    run 0 train "${sweep[@]}" --out "$work/other" --json && says out '"gates"' || return 1
    perl -MJSON::PP -0e '
        my $r = decode_json(<>);
        for (@{$r->{gates}}) {
            my $tokens = 0;
            $tokens += $_->{tokens} for @{$_->{reliability}};
            die "$_->{gate}: bins" unless @{$_->{reliability}} == 10 && $tokens == $_->{scored};
            die "$_->{gate}: range" unless $_->{auc} > 0 && $_->{auc} < 1 && $_->{cost} > 0;
        }
        die "version" unless $r->{version} == 1 && $r->{split}{fitted} > 0;
    ' "$work/other/gates/gates.json"
}

# A disk that takes only small files; kills; no target. What is made afterwards has the bytes of `run`.
disk_full() {
    cp -r "$work/run" "$work/full" && rm -r "$work/full/gates" || return 1
    (ulimit -f 4 && "$build/train" "${sweep[@]}" --out "$work/full" --gates linear,short-list) >"$work/out" 2>"$work/err"
    [ $? = 1 ] && says err "short-list" && ! ls "$work/full/gates" | grep -q tmp && [ ! -e "$work/full/gates/1-short-list.safetensors" ] || return 1
    run 0 train "${sweep[@]}" --out "$work/full" --gates linear,short-list && diff -r "$work/before" "$work/full/gates"
}

killed() {
    local wait
    cp -r "$work/run" "$work/killed" && rm -r "$work/killed/gates" || return 1
    for wait in 0.02 0.05 0.1 0.15 0.2 0.3; do
        "$build/train" "${sweep[@]}" --out "$work/killed" --gates linear,short-list >/dev/null 2>&1 &
        sleep $wait
        kill -9 $! 2>/dev/null
        wait $! 2>/dev/null
    done
    run 0 train "${sweep[@]}" --out "$work/killed" --gates linear,short-list && diff -r "$work/before" "$work/killed/gates"
}

interrupted() {
    cp -r "$work/run" "$work/stopped" && rm -r "$work/stopped/gates" || return 1
    "$build/train" "${sweep[@]}" --out "$work/stopped" --gates linear,short-list >/dev/null 2>"$work/err" &
    sleep 0.15
    kill -INT $! 2>/dev/null
    wait $!
    [ $? = 0 ] || says err "the same command goes on" || says err "interrupted" || return 1
    run 0 train "${sweep[@]}" --out "$work/stopped" --gates linear,short-list && diff -r "$work/before" "$work/stopped/gates"
}

# A head that was trained further has gates of its own.
trained_further() {
    sed 's/steps: 2/steps: 4/' "$work/sweep.yaml" >"$work/longer.yaml"
    cp -r "$work/run" "$work/longer" && run 0 train --store "$work/store" --sweep "$work/longer.yaml" --out "$work/longer" || return 1
    ! cmp -s "$work/run/gates/gates.json" "$work/longer/gates/gates.json" &&
        run 0 train --store "$work/store" --sweep "$work/longer.yaml" --out "$work/longer" && says err "nothing is left to do"
}

without_target() {
    "$build/extract" --model "$tiny" --seq-len 16 --taps 1,final --corpus "$work/text.u16" --held-out 0.5 --no-target --out "$work/bare" >/dev/null 2>&1
    run 0 train --store "$work/bare" --tap 1 --head affine --init ridge --steps 1 --out "$work/bare.run" --gates short-list+state,confidence &&
        says out "short-list+state"
}

check refused
check begun
check threads
check again
check added
check mended
check collected
check json
check disk_full
check killed
check interrupted
check trained_further
check without_target
finish
