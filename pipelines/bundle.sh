#!/usr/bin/env bash
# bundle.sh: one relocatable archive for machines where nothing can be installed: `make bundle`.
#
#   offramp-VERSION-x86_64/
#     bin/           the programs; libofframp_cuda.so where nvcc is; tests/ of ops, golden models, trials, benchmarks
#     lib/           every library they need but glibc's own, which must be 2.36 or later
#     tests/         golden models, the device's tests and benchmarks: tests/gpu/all.sh
#     pipelines/     tune.sh and slurm.sh, which take the programs from bin/
#
# It runs from any folder. cuBLAS is not in it: it comes with the node's CUDA toolkit, or from PyPI; --device cuda says how, where it is
# missing. ZSTD_CLEVEL may be set.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
version=$(sed -nE 's/^#define OFFRAMP_VERSION "(.*)"/\1/p' common/base/cli.h)
name=offramp-$version-$(uname -m)
stage=$build/bundle/$name

pipelines/setup.sh build
make -s -j"$(nproc)" BUILD="$build" tests-build
rm -rf "$build/bundle"
mkdir -p "$stage/bin/tests" "$stage/lib" "$stage/tests" "$stage/pipelines"
for program in extract train generate cache; do cp "$build/$program" "$stage/bin/"; done
for part in ops golden bench gpu; do cp -r "$build/tests/$part" "$stage/bin/tests/"; done
for program in $(sed -n '/^programs=(/,/)/p' tests/gpu/device.sh | grep -o 'unit/[a-z]*'); do
    install -D "$build/tests/$program" "$stage/bin/tests/$program"
done
if [ -f "$build/libofframp_cuda.so" ]; then cp "$build/libofframp_cuda.so" "$stage/bin/"; fi
cp -r tests/gpu tests/golden "$stage/tests/"
rm -f "$stage"/tests/g*/*.c "$stage"/tests/gpu/*.cu "$stage"/tests/golden/*.py
cp pipelines/{tune,slurm,programs}.sh "$stage/pipelines/"
cp LICENSE README.md "$stage/"

# glibc's parts belong to the system; everything else comes along.
system='ld-linux|linux-vdso|libc\.so|libm\.so|libdl\.so|libpthread\.so|librt\.so|libresolv\.so|libcublas|libcuda'
find "$stage/bin" -type f | while read -r file; do ldd "$file"; done | sed -nE 's/.* => (\/[^ ]+) .*/\1/p' |
    grep -vE "/($system)" | sort -u | while read -r library; do cp -L "$library" "$stage/lib/"; done
find "$stage/bin" "$stage/lib" -type f -exec strip --strip-unneeded {} +
mkdir -p build
tar -C "$build/bundle" -cf - "$name" | ZSTD_CLEVEL=${ZSTD_CLEVEL:-19} zstd -q -T0 -f -o "$build/$name.tar.zst"
rm -rf "$build/bundle"
ls -l "$build/$name.tar.zst" | awk '{ printf "%s: %.1f MB\n", $9, $5 / 1e6 }'
