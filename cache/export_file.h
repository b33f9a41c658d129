/* export_file.h: the file that `cache export` writes: safetensors, or a folder of NumPy files. It appears under
 * its name with export_file_finish.
 */
#ifndef OFFRAMP_CACHE_EXPORT_FILE_H
#define OFFRAMP_CACHE_EXPORT_FILE_H

#include <jansson.h>

#include "common/base/error.h"
#include "common/model/tensor.h"

enum export_format { EXPORT_SAFETENSORS, EXPORT_NPY };

struct export_out {
    const char *path; /* of the file; with EXPORT_NPY of the folder */
    enum export_format format;
};

struct export_file;

/* As safetensors_create and npy_create. Only safetensors has metadata. */
int export_file_create(const struct export_out *out, const struct tensor *tensors, size_t count,
                       const json_t *metadata, struct export_file **file, struct error *error);
/* The next bytes, tensor after tensor as they were given; of any size. */
int export_file_write(struct export_file *file, const void *data, size_t size, struct error *error);
/* All bytes must have come. Frees the file either way. */
int export_file_finish(struct export_file *file, struct error *error);
void export_file_abandon(struct export_file *file); /* NULL is fine */

/* An error when nothing can be put there, or when the disk has less than so many bytes free. */
int export_check_out(const struct export_out *out, double bytes, struct error *error);

#endif
