#!/usr/bin/env bash
# layers.sh: fails on an include that points upward, or sideways between programs.
#
#   common/base  <-  kernels  <-  common/*  <-  extract, train, generate, cache  <-  tests
#
# Inside common/: codec uses base only (and dtypes); store uses codec; text uses model's gguf; model
# uses base and kernels; transform, which does a device's part of encoding, kernels and codec; head may use model and
# store; pilot, which fits codecs to states, all of these but head.
set -euo pipefail
cd "$(dirname "$0")/.."

allowed() { # allowed FOLDER: a pattern of the headers it may include
    case $1 in
    common/base) echo 'common/base/' ;;
    kernels | kernels/*) echo 'common/base/|kernels/' ;;
    common/codec) echo 'common/base/|kernels/dtype\.h|common/codec/' ;;
    common/store) echo 'common/base/|kernels/dtype\.h|common/codec/codec\.h|common/store/' ;;
    common/model) echo 'common/base/|kernels/(ops|dtype)\.h|common/model/' ;;
    common/text) echo 'common/base/|common/model/gguf\.h|common/text/' ;;
    common/pilot) echo 'common/base/|kernels/(ops|dtype)\.h|common/(codec|model|store|pilot)/' ;;
    common/transform) echo 'common/base/|kernels/(ops|dtype)\.h|common/(codec/codec\.h|transform/)' ;;
    common/head) echo 'common/base/|kernels/(ops|dtype)\.h|common/(model|store|codec|head)/' ;;
    extract | train | generate | cache) echo "common/|kernels/(ops|dtype)\\.h|$1/" ;;
    tests*) echo '.' ;;
    *) echo 'nothing' ;;
    esac
}

bad=0
while read -r file; do
    folder=$(dirname "$file")
    case $folder in common/*) folder=$(echo "$folder" | cut -d/ -f1-2) ;; esac
    pattern="^($(allowed "$folder"))"
    while read -r header; do
        if ! [[ $header =~ $pattern ]]; then
            echo "$file: includes \"$header\", which its layer may not see"
            bad=1
        fi
    done < <(sed -nE 's/^ *# *include "([^"]+)".*/\1/p' "$file")
done < <(git ls-files '*.c' '*.h' '*.cu' '*.cuh')
exit $bad
