#!/usr/bin/env bash
# run.sh: `make bench`: what the parts reach beside what bounds them. Each script measures its pairs in
# turn, in one run; read the ratios, not the times.
set -euo pipefail
cd "$(dirname "$0")/../.."
export BUILD=${BUILD:-build}
OFFRAMP_TEST_MODEL=${OFFRAMP_TEST_MODEL:-$(pipelines/setup.sh model)}
export OFFRAMP_TEST_MODEL
echo "machine: $(nproc) processors, $(sed -nE 's/^model name\s*: //p' /proc/cpuinfo | head -1), load $(cut -d' ' -f1 /proc/loadavg)"
for part in kernels extract coding streaming codec reading verify train evaluate generate; do
    echo
    echo "== $part"
    if [ -f "tests/bench/$part.sh" ]; then
        bash "tests/bench/$part.sh"
    else
        "$BUILD/tests/bench/$part"
    fi
done
