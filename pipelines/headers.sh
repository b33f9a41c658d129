#!/usr/bin/env bash
# headers.sh: whether the libraries that the sources include are installed; else says which are not, and what installs them.
#
#   pipelines/headers.sh CC        for make, which runs it before it compiles anything
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck disable=SC2206 # a compiler may be two words
cc=(${1:-cc})
advice="run: pipelines/setup.sh build (on Debian and Ubuntu it installs what is missing, else it lists it)"

command -v "${cc[0]}" >/dev/null || { echo "build: there is no compiler ${cc[0]}; $advice" >&2; exit 1; }
# Those of one architecture are left out, as they are where the sources include them.
missing=$(grep -rhoE '^ *# *include <[^>]+>' --include='*.c' --include='*.h' kernels common extract train generate cache |
    sed -E 's/.*<(.*)>/\1/' | sort -u | grep -vE '^(immintrin|xxh_x86dispatch)\.h$' |
    sed 's/.*/#if !__has_include(<&>)\nMISSING &\n#endif/' | "${cc[@]}" -E -P -x c - | sed -n 's/^MISSING //p')
[ -z "$missing" ] || { echo "build: headers are missing: $(echo $missing); $advice" >&2; exit 1; }
