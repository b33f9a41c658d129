#!/usr/bin/env bash
# soak.sh: `make soak`: the fault tests as long campaigns: 100 kills of the store's writer, of extract, of
# train, and of each of cache verify, repair, merge and recode, 300 interrupts of each of extract, train and
# generate, 1,000 flipped bits, mutations of the cuda kernels, fuzzing. Allow two hours on two cores, one of them for
# fuzzing (SECONDS_EACH=600 for each target). Write the result into docs/soak.md.
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
