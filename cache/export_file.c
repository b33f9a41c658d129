#include "cache/export_file.h"

#include <stdlib.h>

#include "cache/npy.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/model/safetensors.h"

struct export_file {
    struct safetensors_writer *safetensors; /* this, or */
    struct npy_writer *npy;
};

int export_file_create(const struct export_out *out, const struct tensor *tensors, size_t count,
                       const json_t *metadata, struct export_file **result, struct error *error)
{
    struct export_file *file;
    *result = NULL;
    if (array_alloc(&file, 1, error) < 0)
        return -1;
    if ((out->format == EXPORT_NPY
             ? npy_create(out->path, tensors, count, &file->npy, error)
             : safetensors_create(out->path, tensors, count, metadata, &file->safetensors, error)) < 0) {
        free(file);
        return -1;
    }
    *result = file;
    return 0;
}

int export_file_write(struct export_file *file, const void *data, size_t size, struct error *error)
{
    return file->npy ? npy_write(file->npy, data, size, error)
                     : safetensors_write(file->safetensors, data, size, error);
}

int export_file_finish(struct export_file *file, struct error *error)
{
    int result = file->npy ? npy_finish(file->npy, error) : safetensors_finish(file->safetensors, error);
    free(file);
    return result;
}

void export_file_abandon(struct export_file *file)
{
    if (!file)
        return;
    npy_abandon(file->npy);
    safetensors_abandon(file->safetensors);
    free(file);
}

int export_check_out(const struct export_out *out, double bytes, struct error *error)
{
    const char *path = out->path;
    char wanted[32], there[32];
    uint64_t available;
    if ((out->format == EXPORT_SAFETENSORS ? file_check_output : directory_check)(path, error) < 0)
        return -1;
    if (disk_free(path, &available, error) < 0)
        return -1;
    if (bytes <= (double)available)
        return 0;
    return error_set_kind(
        error, ERROR_NO_SPACE, "%s: the file needs %s, and %s are free; make room, or write it elsewhere", path,
        format_bytes(bytes, wanted, sizeof wanted), format_bytes((double)available, there, sizeof there));
}
