/* tensor.h: a named array in a mapped model file, as it lies there. */
#ifndef OFFRAMP_MODEL_TENSOR_H
#define OFFRAMP_MODEL_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/dtype.h"

struct tensor {
    char *name; /* the file's own name */
    enum dtype type;
    int dims; /* 1 or 2 (others are read, never asked for) */
    int64_t shape[4]; /* slowest first: a weight is [rows = outputs, cols = inputs] */
    const void
        *data; /* in the mapped file, `bytes` long; checked to lie inside it; at any address, odd ones too */
    size_t bytes;
    const char *file; /* path, for errors */
};

/* Pages of the mapped file count as memory of this process once they are read. Reads a tensor's, so that
 * its use does not wait for the disk; and drops them, when they are not needed for now (use brings them
 * back). */
void tensor_read(const struct tensor *tensor);
void tensor_release(const struct tensor *tensor);

#endif
