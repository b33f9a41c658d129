/* npy.h: tensors as NumPy files, "NAME.npy" each in one folder (NumPy's format, version 1.0). Called as
 * common/model/safetensors.h's writer is. All files appear with npy_finish.
 */
#ifndef OFFRAMP_CACHE_NPY_H
#define OFFRAMP_CACHE_NPY_H

#include "common/base/error.h"
#include "common/model/tensor.h"

struct npy_writer;

/* Makes the folder. Types: F32, F16, I32, F64. */
int npy_create(const char *folder, const struct tensor *tensors, size_t count, struct npy_writer **writer,
               struct error *error);
/* The next bytes, tensor after tensor as they were given; of any size. */
int npy_write(struct npy_writer *writer, const void *data, size_t size, struct error *error);
/* All bytes must have come. Frees the writer either way. */
int npy_finish(struct npy_writer *writer, struct error *error);
void npy_abandon(struct npy_writer *writer); /* NULL is fine */

#endif
