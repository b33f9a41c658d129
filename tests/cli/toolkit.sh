#!/usr/bin/env bash
# toolkit.sh: pipelines/setup.sh --cuda, with a python3 that fetches nothing in place of Python, and an installed
# toolkit hidden by a mount that no other process sees.
. "$(dirname "$0")/lib.sh"

mkdir "$work/bin" "$work/nvcc"
printf '#!/bin/sh\n' >"$work/nvcc/nvcc"
cat >"$work/bin/python3" <<'END'
#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
"-m venv --without-pip "*)
    mkdir -p "$4/bin" "$4/lib/python3.99/site-packages"
    cp "$0" "$4/bin/python3"
    ;;
"-m pip --python "*) [ "$WITH" != ensurepip ] || exit 1 ;;&
"-m ensurepip") ;;
*" install "*)
    [ "$WITH" != nothing ] || exit 1
    packages=$OFFRAMP_CACHE/cuda/lib/python3.99/site-packages
    mkdir -p "$packages/nvidia/cu13/bin"
    cp "$0" "$packages/nvidia/cu13/bin/nvcc"
    ;;
esac
END
chmod +x "$work/bin/python3" "$work/nvcc/nvcc"

hidden() {
    unshare -m bash -c '[ ! -d /usr/local/cuda ] || mount -t tmpfs none "$(realpath /usr/local/cuda)"
        exec "$@"' - "$@"
}

# fetch WITH [FOLDER]: WITH pip, ensurepip or nothing; FOLDER goes into PATH
fetch() {
    : >"$work/calls"
    hidden env CALLS="$work/calls" WITH="$1" OFFRAMP_CACHE="$work/cache" PATH="$work/bin:${2:+$2:}/usr/bin:/bin" \
        pipelines/setup.sh --cuda 2>"$work/err"
}
complete() { [ -x "$work/cache/cuda/nvidia/cu13/bin/nvcc" ]; }

installed_is_preferred() { fetch pip "$work/nvcc" && [ ! -s "$work/calls" ] && [ ! -e "$work/cache" ]; }

a_failure_leaves_nothing() { ! fetch nothing && says err "pip install of cuda-toolkit failed" && [ ! -e "$work/cache/cuda" ]; }

with_pip_from_outside() {
    fetch pip && complete && says calls "-m pip --python $work/cache/cuda/bin/python3 install" &&
        fetch pip && [ ! -s "$work/calls" ]
}

one_cut_short_is_fetched_anew() {
    rm "$work/cache/cuda/nvidia" && touch "$work/cache/cuda/left" && fetch pip && complete && [ ! -e "$work/cache/cuda/left" ]
}

without_pip() {
    rm -rf "$work/cache" && fetch ensurepip && complete && says calls "-m ensurepip" && says calls "-m pip install"
}

make_finds_it() {
    hidden env PATH=/usr/bin:/bin OFFRAMP_CACHE="$work/cache" make -s -n BUILD="$work/build" "$work/build/libofframp_cuda.so" \
        >"$work/out" 2>&1 && says out "$work/cache/cuda/nvidia/cu13/bin/nvcc "
}

if hidden true 2>/dev/null && ! PATH=/usr/bin:/bin command -v nvcc >/dev/null; then
    for name in installed_is_preferred a_failure_leaves_nothing with_pip_from_outside one_cut_short_is_fetched_anew \
        without_pip make_finds_it; do
        check $name
    done
else
    skipped=$((skipped + 1))
    echo "    skipped: a toolkit cannot be hidden here"
fi
finish
