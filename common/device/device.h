/* device.h: opens the device that a command line names, and says which it is. */
#ifndef OFFRAMP_DEVICE_DEVICE_H
#define OFFRAMP_DEVICE_DEVICE_H

#include "common/base/error.h"
#include "kernels/ops.h"

struct device_options {
    const char *name; /* as backend_open takes it */
    struct backend_options backend;
};

/* backend_open; then prints "device: cpu (AVX-512, 2 threads)" on stderr, and as warnings what its user should
 * know: that a GPU is not used, or that a math mode is slow here. */
int device_open(const struct device_options *options, struct backend **backend, struct error *error);

#endif
