#!/usr/bin/env bash
# train.sh: training beside the vocabulary products it cannot do without.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${BUILD:-build}/tests/bench/train" "$@"
