/* gpu.h: whether an NVIDIA GPU is in the machine. It reads the operating system's files and needs no
 * library. */
#ifndef OFFRAMP_KERNELS_GPU_H
#define OFFRAMP_KERNELS_GPU_H

#include <stdbool.h>

#include "common/base/error.h"

enum gpu {
    GPU_NONE,
    GPU_WITHOUT_DRIVER, /* on the PCI bus, and NVIDIA's driver is not loaded */
    GPU_WITHHELD, /* the driver has it, but this process does not see its device file, as in many containers */
    GPU_HERE
};

/* root: "/", or a folder with dev, proc and sys in it. */
enum gpu gpu_find(const char *root);

/* `reason` says why the cuda device could not be opened. Rewrites it for somebody who has a GPU. False, with
 * the reason as it was, when there is no GPU. */
bool gpu_explain(enum gpu gpu, struct error *reason);

#endif
