/* gpu.h: whether an NVIDIA GPU is in the machine, as the kernel's files tell it: no library is needed, and none of
 * those that use it. */
#ifndef OFFRAMP_KERNELS_GPU_H
#define OFFRAMP_KERNELS_GPU_H

#include <stdbool.h>

#include "common/base/error.h"

enum gpu {
    GPU_NONE,
    GPU_WITHOUT_DRIVER, /* on the PCI bus, and NVIDIA's driver is not loaded */
    GPU_WITHHELD, /* the driver has it, and this process does not see its device file: a container, often */
    GPU_HERE
};

/* root: "/", or a folder with dev, proc and sys in it. */
enum gpu gpu_find(const char *root);

/* Makes of the reason why the cuda device could not be opened what the owner of a GPU should read. False, with the
 * reason left as it is, where there is no GPU. */
bool gpu_explain(enum gpu gpu, struct error *reason);

#endif
