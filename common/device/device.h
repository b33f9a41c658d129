/* device.h: opens the device that a command line names, and says which it is. */
#ifndef OFFRAMP_DEVICE_DEVICE_H
#define OFFRAMP_DEVICE_DEVICE_H

#include "common/base/error.h"
#include "kernels/ops.h"

/* backend_open; then, on stderr, "device: cpu (AVX-512, 2 threads)", and as warnings what its user
 * should know: a GPU that is not used, a math mode that is slow here. */
int device_open(const char *name, const struct backend_options *options, struct backend **backend,
                struct error *error);

#endif
