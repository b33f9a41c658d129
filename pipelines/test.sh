#!/usr/bin/env bash
# test.sh: installs what is missing, builds, runs every test and counts.
set -euo pipefail
cd "$(dirname "$0")/.."
pipelines/setup.sh build
# The .cu files are compiled by nvcc in every test run; where the toolkit cannot be had, that is skipped.
pipelines/setup.sh --cuda || echo "test: no CUDA toolkit: kernels/cuda is tested in emulation only" >&2
make -s -j"$(nproc)" tests-build
# pipelines/slurm.sh is tested on a Slurm of the test's own.
OFFRAMP_TEST_SLURM=$(pipelines/setup.sh slurm) || OFFRAMP_TEST_SLURM=
export OFFRAMP_TEST_SLURM
# Tests on the real model are skipped, and counted as skipped, where it cannot be had.
OFFRAMP_TEST_MODEL=$(pipelines/setup.sh model) || OFFRAMP_TEST_MODEL=
export OFFRAMP_TEST_MODEL
exec tests/run.sh
