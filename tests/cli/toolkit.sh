#!/usr/bin/env bash
# toolkit.sh: what make does with toolkits whole and broken, and without a library, by stand-ins of nvcc and of the
# compiler; and pipelines/setup.sh --cuda, with a python3 that fetches nothing in place of Python, and an installed
# toolkit hidden by a mount that no other process sees.
. "$(dirname "$0")/lib.sh"

# ---- make, with a toolkit that is a folder and a script ----

# toolkit NAME FOLDER LIBRARY: $work/NAME with bin/nvcc and FOLDER/LIBRARY; RELEASE and REFUSES say how it behaves.
toolkit() {
    mkdir -p "$work/$1/bin" "$work/$1/$2"
    [ -z "$3" ] || : >"$work/$1/$2/$3"
    cat >"$work/$1/bin/nvcc" <<'END'
#!/usr/bin/env bash
echo "$*" >>"$CALLS"
[ "${REFUSES:-}" != run ] || { echo "nvcc: error while loading shared libraries: libstdc++.so.7: cannot open" >&2; exit 127; }
case " $* " in
*" --version "*) echo "Cuda compilation tools${RELEASE:+, release $RELEASE, V$RELEASE.99}"; exit ;;
*" -c "*) [ "${REFUSES:-}" != gcc ] || { echo "#error -- unsupported GNU version! gcc versions later than 11 are not supported!"; exit 1; } ;;
*" -shared "*) [ "${REFUSES:-}" != link ] || { echo "/usr/bin/ld: error: file in wrong format"; exit 1; } ;;
esac
case " $* " in *"/${BREAKS:-none}.cu "*) echo "$BREAKS.cu(1): error: of the source"; exit 1 ;; esac
while [ "$1" != -o ]; do shift; done
: >"$2"
END
    chmod +x "$work/$1/bin/nvcc"
}
# made RELEASE TOOLKIT [ARGUMENT...]: make with it, where the programs are there; its messages are in err
made() {
    local release=$1 nvcc=$work/$2/bin/nvcc programs=() program
    shift 2
    for program in extract train generate cache; do programs+=(-o "$work/build/$program"); done
    : >"$work/calls"
    RELEASE=$release CALLS=$work/calls make -s BUILD="$work/build" NVCC="$nvcc" "${programs[@]}" programs "$@" \
        >"$work/out" 2>"$work/err"
}
library() { [ -e "$work/build/libofframp_cuda.so" ]; }
one_line() { # one_line TEXT...: one line that says why there is no backend, with the texts
    local text
    if library || [ "$(wc -l <"$work/err")" != 1 ] || ! says err "build: no cuda backend: "; then
        echo "    not one line: $(cat "$work/err")"
        return 1
    fi
    for text in "$@"; do says err "$text" || return 1; done
}

releases_and_places() {
    local place
    for place in "12.4 lib64 libcublas.so" "12.0 lib libcublas.so.12" "13.0 lib64 libcublas.so.13" \
        "13.1 targets/$(uname -m)-linux/lib libcublas.so" "12.9 lib/$(uname -m)-linux-gnu libcublas.so.12"; do
        # shellcheck disable=SC2086 # three words
        set -- $place
        rm -rf "$work/tool" "$work/build"
        toolkit tool "$2" "$3"
        made "$1" tool && library && says calls " $work/tool/$2/$3 -Xlinker -rpath" && [ ! -s "$work/err" ] || return 1
    done
    rm -rf "$work/build" && toolkit bare lib64 '' && mkdir -p "$work/math" && : >"$work/math/libcublas.so.12" &&
        made 12.4 bare CUDA_LIBRARIES="$work/math" && library && says calls " $work/math/libcublas.so.12 "
}

the_rest_is_built_without() {
    rm -rf "$work/tool" "$work/bare" "$work/build"
    toolkit tool lib64 libcublas.so.12
    toolkit bare lib64 ''
    made 11.8 tool && one_line "is of CUDA 11.8" && made 9.2 tool && one_line "is of CUDA 9.2" &&
        made 12.4 bare && one_line "has no cuBLAS" &&
        REFUSES=run made 12.4 tool && one_line "does not run" "libstdc++.so.7" &&
        REFUSES=gcc made 12.4 tool && one_line "unsupported GNU version" &&
        REFUSES=link made 12.4 tool && one_line "does not link" "file in wrong format" &&
        made '' tool && one_line "does not say its release" && made 12.4 none && one_line "does not run"
}

# It is tried until it works, and anew when nvcc is another; a backend of before does not stay behind.
a_trial_is_remembered() {
    rm -rf "$work/build" && toolkit tool lib64 libcublas.so.12
    made 12.4 tool && library && says calls "try.cu" && made 12.4 tool && [ ! -s "$work/calls" ] &&
        touch -d tomorrow "$work/tool/bin/nvcc" && REFUSES=gcc made 12.4 tool && one_line "unsupported GNU version" &&
        made 12.4 tool && library
}

# Only the toolkit is excused.
a_broken_source_is_an_error() {
    rm -rf "$work/build" && toolkit tool lib64 libcublas.so.12
    ! BREAKS=norm made 12.4 tool && says out "norm.cu(1): error"
}

# A compiler that has no headers of two libraries; make says so before it compiles.
missing_headers_are_named() {
    mkdir -p "$work/cc"
    cat >"$work/cc/cc" <<'END'
#!/bin/sh
[ "$1" = -E ] || exec gcc "$@"
sed 's/.*has_include(<\(jansson\|lmdb\)\.h>).*/#if 1/' | gcc "$@"
END
    chmod +x "$work/cc/cc"
    ! make -s BUILD="$work/build" NVCC= CC="$work/cc/cc" "$work/build/obj/common/base/json.o" 2>"$work/err" &&
        says err "headers are missing: jansson.h lmdb.h; run: pipelines/setup.sh build" && ! grep -q 'No such file' "$work/err" &&
        ! make -s BUILD="$work/build" NVCC= CC="$work/cc/none" "$work/build/obj/common/base/json.o" 2>"$work/err" &&
        says err "there is no compiler $work/cc/none; run: pipelines/setup.sh build" &&
        make -s BUILD="$work/build" NVCC= CC=gcc "$work/build/obj/common/base/json.o" 2>"$work/err"
}

for name in releases_and_places the_rest_is_built_without a_trial_is_remembered a_broken_source_is_an_error \
    missing_headers_are_named; do
    check $name
done

# ---- pipelines/setup.sh --cuda ----

mkdir "$work/bin"
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
chmod +x "$work/bin/python3"

hidden() {
    unshare -m bash -c '[ ! -d /usr/local/cuda ] || mount -t tmpfs none "$(realpath /usr/local/cuda)"
        exec "$@"' - "$@"
}

# fetch WITH [FOLDER]: WITH pip, ensurepip or nothing; FOLDER goes into PATH
fetch() {
    : >"$work/calls"
    hidden env BUILD="$work/build" CALLS="$work/calls" WITH="$1" OFFRAMP_CACHE="$work/cache" PATH="$work/bin:${2:+$2:}/usr/bin:/bin" \
        pipelines/setup.sh --cuda 2>"$work/err"
}
complete() { [ -x "$work/cache/cuda/nvidia/cu13/bin/nvcc" ]; }

installed_is_preferred() { RELEASE=12.4 fetch pip "$work/tool/bin" && ! grep -q pip "$work/calls" && [ ! -e "$work/cache" ]; }

# The line that make ends with, where the installed one does not do, gets one that does.
unless_it_does_not_do() {
    rm -rf "$work/build"
    RELEASE=11.8 fetch pip "$work/tool/bin" && complete && says err "an installed toolkit does not do: $work/tool/bin/nvcc is of CUDA 11.8" &&
        hidden env PATH="$work/tool/bin:/usr/bin:/bin" OFFRAMP_CACHE="$work/cache" \
            make -s -n BUILD="$work/build" "$work/build/libofframp_cuda.so" >"$work/out" 2>&1 &&
        says out "$work/cache/cuda/nvidia/cu13/bin/nvcc " && rm -r "$work/cache"
}

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
    for name in installed_is_preferred unless_it_does_not_do a_failure_leaves_nothing with_pip_from_outside one_cut_short_is_fetched_anew \
        without_pip make_finds_it; do
        check $name
    done
else
    skipped=$((skipped + 1))
    echo "    skipped: a toolkit cannot be hidden here"
fi
finish
