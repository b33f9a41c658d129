/* tensor.h: a named array of a model file, where it lies in the mapped file. */
#ifndef OFFRAMP_MODEL_TENSOR_H
#define OFFRAMP_MODEL_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/dtype.h"

struct tensor {
    char *name; /* the file's own name */
    enum dtype type;
    int dims; /* 1 or 2 for every tensor with a role (role.h); files may hold others */
    int64_t shape[4]; /* slowest first: a weight is [rows = outputs, cols = inputs] */
    const void *data; /* inside the mapped file; at any address, odd ones too */
    size_t bytes;
    const char *file; /* path, for errors */
};

/* Pages of a mapped file count as memory of this process once they are read.
 * tensor_read reads a tensor's pages now, so that its use does not wait for the disk. */
void tensor_read(const struct tensor *tensor);
/* Drops a tensor's pages. Its next use reads them again. */
void tensor_release(const struct tensor *tensor);

#endif
