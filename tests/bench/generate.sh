#!/usr/bin/env bash
# generate.sh: speed of decoding, full and with exits at four depths. The exits are copies of the model's
# final norm: what a token costs does not depend on how well they are trained. POLICY=DIR takes others.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
model=${OFFRAMP_TEST_MODEL:-}
if [ -z "$model" ]; then
    echo "generate: no demo model (OFFRAMP_TEST_MODEL), nothing measured"
    exit 0
fi
policy=${POLICY:-}
if [ -z "$policy" ]; then
    policy=$(mktemp -d)
    trap 'rm -rf "$policy"' EXIT
    "$build/tests/bench/make_policy" "$model" "$policy" 6:1 12:1 18:1 24:1
fi
"$build/tests/bench/generate" "$model" "$policy"
