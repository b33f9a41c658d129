#!/usr/bin/env bash
# formats.sh: what docs/formats.md says is enough to use what the programs write from elsewhere; what `cache export` writes
# of the model, and which sequences.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer
perl -e 'srand(1); print pack("v*", map { int(rand(64)) } 1 .. 2500)' >"$work/ids.u16"
cat >"$work/sweep.yaml" <<'END'
steps: 3
sequences: 3
trials:
  - {tap: 1, head: norm}
  - {tap: 1, head: affine, init: ridge}
  - {tap: 1.mid, head: mlp, output: untied}
  - {tap: final, head: affine, output: untied, rate: 1e-2}
END

# export_to FILE OPTION...
export_to() { run 0 cache export --out "$work/$1" "$work/store" "${@:2}"; }

# read_by_python ARGUMENT...: passes where there is no Python
read_by_python() {
    python3 tests/interop/formats.py "$@" >"$work/python" 2>&1 && return 0
    sed 's/^/    /' "$work/python"
    return 1
}

heads() {
    local tap
    for tap in 1 1.mid final target; do
        export_to $tap.safetensors --tap $tap --split held-out || return 1
    done
    export_to model.safetensors --tensor output --tensor final_norm && says out "output, f16 of the model" &&
        run 0 train --store "$work/store" --sweep "$work/sweep.yaml" --exits 1 --out "$work/run" && read_by_python run "$work/run" "$work"
}

fingerprint() {
    local family
    for family in llama qwen2; do
        run 0 extract --model tests/golden/$family --seq-len 16 --taps 1 --no-target --corpus "$work/ids.u16" --out "$work/$family" \
            --end-of-text 2 && run 0 cache info --json "$work/$family" && cp "$work/out" "$work/info" &&
            read_by_python fingerprint tests/golden/$family "$work/info" || return 1
    done
}

# The range of one split is what the whole split has there.
ranges() {
    export_to all --format npy --tap 1 --split held-out && export_to part --format npy --tap 1 --split held-out --sequences 2-4 || return 1
    says out "0 train and 3 held-out sequences"
    cmp <(tail -c +129 "$work/all/states.npy" | tail -c +$((2 * 16 * 32 * 4 + 1)) | head -c $((3 * 16 * 32 * 4))) \
        <(tail -c +129 "$work/part/states.npy") || return 1
    export_to rest --tap 1 --split train --sequences 100- && export_to one --tap 1 --split train --sequences 7 && says out "1 train and 0" || return 1
    run 2 cache export --tap 1 --split held-out --sequences 0-999 --out "$work/no" "$work/store" && says err "held-out sequences, counted from 0" &&
        [ ! -e "$work/no" ] || return 1
    run 2 cache export --tap 1 --split train --sequences 999- --out "$work/no" "$work/store" && says err "--sequences 999- goes beyond" || return 1
    local text
    for text in x 5-3 -4 3-x ''; do
        run 2 cache export --tap 1 --split train --sequences "$text" --out "$work/no" "$work/store" && says err "is not a range" || return 1
    done
    run 2 cache export --tap 1 --sequences 1-2 --out "$work/no" "$work/store" && says err "--split train or --split held-out"
}

tensors() {
    run 2 cache export --tensor outptu --out "$work/no" "$work/store" && says err "the store has no outptu of the model; it has " && says err "final_norm" || return 1
    run 2 cache export --tensor output --tap 1 --out "$work/no" "$work/store" && run 2 cache export --out "$work/no" "$work/store" &&
        says err "--tap or --tensor" || return 1
    export_to folder --format npy --tensor 1/mlp_up --tensor final_norm && [ -s "$work/folder/1.mlp_up.npy" ] && [ -s "$work/folder/final_norm.npy" ] &&
        run 1 cache export --tensor output --tensor output --out "$work/no" "$work/store" && says err "twice"
}

# A quantized output weight of many parts becomes F32, row by row.
quantized() {
    local size
    run 0 extract --model "$model" --seq-len 64 --taps 1 --no-target --corpus README.md --tokens 256 --held-out 0 --out "$work/real" &&
        run 0 cache export --tensor output --tensor final_norm --out "$work/real.safetensors" "$work/real" || return 1
    size=$(stat -c %s "$work/real.safetensors")
    [ "$size" -gt $((49152 * 576 * 4)) ] && [ "$size" -lt $((49152 * 576 * 4 + 4096)) ] &&
        run 0 cache export --format npy --tensor output --out "$work/real.npy" "$work/real" &&
        cmp <(tail -c +129 "$work/real.npy/output.npy" | head -c 4000000) <(tail -c $((49152 * 576 * 4 + 576 * 4)) "$work/real.safetensors" | head -c 4000000)
}

run 0 extract --model "$tiny" --seq-len 16 --taps 1,1.mid,final --corpus "$work/ids.u16" --held-out 0.2 --out "$work/store"
if python3 -c 'import ctypes; ctypes.CDLL("libxxhash.so.0")' 2>/dev/null; then
    check heads
    check fingerprint
else
    skipped=2
    echo "    skipped: heads, fingerprint: there is no python3 here, or it does not find libxxhash.so.0"
fi
check ranges
check tensors
check_with_model quantized
finish
