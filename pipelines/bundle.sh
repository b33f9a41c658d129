#!/usr/bin/env bash
# bundle.sh: one relocatable archive for machines where nothing can be installed: `make bundle`.
#
# offramp-VERSION-x86_64.tar.zst holds bin/ (the programs, and libofframp_cuda.so where nvcc is),
# lib/ (every library they need but glibc's own, which must be 2.36 or later, and cuBLAS, which comes
# with the node's CUDA toolkit or PyPI's nvidia-cublas), tests/ (the test programs and scripts). It
# runs from wherever it is unpacked.
set -euo pipefail
cd "$(dirname "$0")/.."
pipelines/setup.sh build
build=build-bundle
version=$(sed -nE 's/^#define OFFRAMP_VERSION "(.*)"/\1/p' common/base/cli.h)
name=offramp-$version-$(uname -m)
stage=$build/$name

# Old-style run paths: they hold for the libraries' own dependencies too.
make -s -j"$(nproc)" BUILD=$build LDFLAGS="-Wl,--disable-new-dtags,-rpath,'\$\$ORIGIN/../lib',-rpath,'\$\$ORIGIN/../../lib'" tests-build
rm -rf "$stage"
mkdir -p "$stage/bin" "$stage/lib" "$stage/tests"
for program in extract train generate cache; do cp "$build/$program" "$stage/bin/"; done
cp -r "$build/tests/." "$stage/tests/"
cp -r tests/gpu "$stage/" 2>/dev/null || true
[ ! -f $build/libofframp_cuda.so ] || cp $build/libofframp_cuda.so "$stage/bin/"
cp LICENSE README.md "$stage/"

# glibc's parts belong to the system; everything else comes along.
system='ld-linux|linux-vdso|libc\.so|libm\.so|libdl\.so|libpthread\.so|librt\.so|libresolv\.so|libcublas|libcuda'
for file in "$stage"/bin/*; do ldd "$file"; done | sed -nE 's/.* => (\/[^ ]+) .*/\1/p' | grep -vE "/($system)" | sort -u |
    while read -r library; do cp -L "$library" "$stage/lib/"; done
find "$stage" -type f \( -path '*/bin/*' -o -path '*/tests/*' -o -name '*.so*' \) -exec strip --strip-debug {} + 2>/dev/null || true
tar -C $build -cf - "$name" | zstd -q -19 -T0 -f -o "build/$name.tar.zst"
ls -l "build/$name.tar.zst" | awk '{printf "%s: %.1f MB\n", $9, $5 / 1e6}'
