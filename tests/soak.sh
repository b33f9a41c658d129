#!/usr/bin/env bash
# soak.sh: `make soak`: the fault tests as long campaigns. Write the result into docs/soak.md.
#
# It kills the store's writer, extract, train, and each of cache verify, repair, merge and recode 100 times; interrupts extract, train
# and generate 300 times each; flips 1,000 bits; mutates the cuda kernels; and fuzzes. It takes about two hours on two cores, one of
# them for fuzzing (SECONDS_EACH=600 for each target).
set -uo pipefail
cd "$(dirname "$0")/.."
export BUILD=${BUILD:-build} OFFRAMP_KILLS=${OFFRAMP_KILLS:-100} OFFRAMP_FLIPS=${OFFRAMP_FLIPS:-1000}
export OFFRAMP_INTERRUPTS=${OFFRAMP_INTERRUPTS:-300}
failed=0
campaign() {
    echo "== $*"
    "$@" || failed=1
}
campaign "$BUILD/tests/faults/store"
campaign "$BUILD/tests/faults/salvage"
campaign "$BUILD/tests/faults/extract"
campaign "$BUILD/tests/faults/interrupt"
campaign bash tests/faults/train.sh
campaign bash tests/faults/cache.sh
campaign bash tests/cuda/mutations.sh all
campaign tests/fuzz.sh "${SECONDS_EACH:-600}"
[ $failed = 0 ] && echo "soak: all campaigns passed" || echo "soak: a campaign failed"
exit $failed
