#!/usr/bin/env bash
# export.sh: `train --export`: heads for other software. What the files hold is read by tests/interop/formats.py.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, untied
run=$work/run trials=$work/run/trials
perl -e 'srand(1); print pack("v*", map { int(rand(64)) } 1 .. 1500)' >"$work/ids.u16"
cat >"$work/sweep.yaml" <<'END'
steps: 3
sequences: 3
trials:
  - {tap: 1, head: norm}
  - {tap: 1, head: affine}
  - {tap: 2.mid, head: mlp}
  - {tap: 1.mid, head: mlp, output: untied}
END
mlp=2.mid-mlp-copy-distillation-0.001 affine=1-affine-copy-distillation-0.001

# export_to STATUS FOLDER TRIAL FORMAT
export_to() { run "$1" train --store "$work/store" --export "$3" --format "$4" --out "$2"; }

# read_by_python ARGUMENT...: passes where there is no Python
read_by_python() {
    command -v python3 >/dev/null || return 0
    python3 tests/interop/formats.py export "$work/model.safetensors" "$@" >"$work/python" 2>&1 && return 0
    sed 's/^/    /' "$work/python"
    return 1
}

every_kind() {
    local trial name count=0
    for trial in "$trials"/*; do
        name=$(basename "$trial")
        export_to 0 "$work/torch-$name" "$trial" torch && says out "head.safetensors and config.json of $name" || return 1
        if [ "$name" = $affine ]; then
            read_by_python "$trial" "$work/torch-$name" || return 1
        else
            export_to 0 "$work/ee-$name" "$trial" ee-llm && read_by_python "$trial" "$work/torch-$name" "$work/ee-$name" || return 1
        fi
        count=$((count + 1))
    done
    [ $count = 4 ]
}

# The same bytes into a new folder, an empty one and the one that has them; nothing else stays behind.
again() {
    mkdir "$work/empty"
    export_to 0 "$work/new/deep" "$trials/$mlp" ee-llm && export_to 0 "$work/empty/" "$trials/$mlp" ee-llm &&
        diff -r "$work/new/deep" "$work/empty" && export_to 0 "$work/empty" "$trials/$mlp/" ee-llm && diff -r "$work/new/deep" "$work/empty" &&
        [ "$(ls "$work/new")" = deep ] && [ "$(ls "$work/new/deep" | tr '\n' ' ')" = 'config.json exit.safetensors ' ] || return 1
    mkdir "$work/empty.old"
    export_to 1 "$work/empty" "$trials/$mlp" ee-llm && says err "is in the way" && [ -d "$work/empty.old" ]
}

# A folder that the shell stands in is not replaced under it.
current_folder() {
    local train
    train=$(realpath "$build/train")
    mkdir -p "$work/here/below"
    (cd "$work/here/below" && "$train" --store "$work/store" --export "$trials/$mlp" --format torch --out .. >/dev/null 2>"$work/err") && return 1
    says err "the current folder is in it" &&
        ! (cd "$work/here" && "$train" --store "$work/store" --export "$trials/$mlp" --format torch --out . >/dev/null 2>"$work/err") &&
        says err "the current folder is in it" && [ "$(ls "$work/here")" = below ] &&
        export_to 1 "" "$trials/$mlp" torch && says err "is empty" && export_to 0 "$work/here2" "$trials/$mlp" torch
}

other_folders() {
    mkdir -p "$work/full" && touch "$work/full/config.json"
    export_to 1 "$work/full" "$trials/$mlp" torch && says err "holds other files (config.json is one)" || return 1
    [ ! -s "$work/full/config.json" ] || return 1
    touch "$work/full/letter"
    export_to 1 "$work/full" "$trials/$mlp" torch && says err "(letter is one)" || return 1
    export_to 1 "$trials/$mlp" "$trials/$mlp" torch && says err "(metrics.jsonl is one)" || return 1
    export_to 1 "$work/ids.u16" "$trials/$mlp" torch && export_to 1 "$work/store" "$trials/$mlp" torch && says err "holds other files"
}

not_held() {
    export_to 1 "$work/no" "$trials/$affine" ee-llm && says err "EE-LLM has no head of kind affine (it has embedding, norm, mlp and block)" &&
        export_to 1 "$work/no" "$trials/$mlp" eagle3 && says err "EAGLE-3 has no head of kind mlp (it has draft)" &&
        export_to 2 "$work/no" "$trials/$affine" pickle && says err '"pickle" is none of: torch ee-llm eagle3' && [ ! -e "$work/no" ]
}

# A trial that goes on, or has failed, has no head to give away; a folder that is not a trial's says so.
not_ended() {
    cp -r "$trials/$mlp" "$work/begun" && sed -i '/"whole"/d' "$work/begun/metrics.jsonl"
    export_to 1 "$work/no" "$work/begun" torch && says err "has not ended" || return 1
    echo '{"step": 4, "failed": "the loss is not a number"}' >>"$work/begun/metrics.jsonl"
    export_to 1 "$work/no" "$work/begun" torch && says err "has failed, and has no head: the loss is not a number" || return 1
    export_to 1 "$work/no" "$run" torch && says err "is not a trial's folder" && [ ! -e "$work/no" ]
}

# A head is of the model that its store is of.
other_model() {
    run 0 extract --model tests/golden/gguf-qwen2.gguf --seq-len 16 --taps 1 --corpus "$work/ids.u16" --held-out 0.2 --out "$work/other" || return 1
    run 1 train --store "$work/other" --export "$trials/$mlp" --format torch --out "$work/no" && says err "was trained for the model" &&
        [ ! -e "$work/no" ]
}

wrong_usage() {
    run 2 train --store "$work/store" --export "$trials/$mlp" --out "$work/no" && says err "--format is missing" &&
        run 2 train --export "$trials/$mlp" --format torch --out "$work/no" && says err "--store is missing" &&
        run 2 train --store "$work/store" --export "$trials/$mlp" --format torch && says err "--out is missing" &&
        run 2 train --store "$work/store" --export "$trials/$mlp" --format torch --out "$work/no" --tap 1 && says err "takes --store, --format" &&
        run 2 train --store "$work/store" --format torch --out "$work/no" --sweep "$work/sweep.yaml" && says err "belong to --export"
}

full_disk() {
    mkdir -p "$work/small" && mount -t tmpfs -o size=12k none "$work/small" || return 1
    export_to 1 "$work/small/head" "$trials/$mlp" torch
    local status=$? left
    left=$(ls -A "$work/small")
    umount "$work/small"
    [ $status = 0 ] && [ -z "$left" ]
}

run 0 extract --model "$tiny" --seq-len 16 --taps 1,1.mid,2.mid,final --corpus "$work/ids.u16" --held-out 0.2 --out "$work/store"
run 0 train --store "$work/store" --sweep "$work/sweep.yaml" --out "$run"
run 0 cache export --tensor output --out "$work/model.safetensors" "$work/store"
check every_kind
check again
check current_folder
check other_folders
check not_held
check not_ended
check other_model
check wrong_usage
check_on_tmpfs full_disk
finish
