/* mode.h: math modes, which not every CPU has, for tests that run in each. */
#ifndef OFFRAMP_TESTS_MODE_H
#define OFFRAMP_TESTS_MODE_H

#include "kernels/ops.h"
#include "tests/test.h"

/* Whether this run wants the device (test_wants_device), and the CPU has the mode. Where it has not, the test
 * ends up as skipped with that reason, unless what it checks in other modes fails. */
bool test_wants_mode(const char *device, enum math math);

#endif
