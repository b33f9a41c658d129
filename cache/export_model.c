#include "cache/export_model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/base/progress.h"

/* A tensor on its way: bytes come in pieces that end anywhere, values leave by rows. */
struct converting {
    struct export_file *file;
    enum dtype from, to;
    int64_t cols;
    size_t row_bytes, waiting; /* of a row; of one that is not whole yet */
    unsigned char *row; /* [row_bytes] */
    float *values; /* [cols] */
    struct progress *progress;
};

static bool is_written_as_is(enum dtype type, enum export_format format)
{
    return type == DTYPE_F32 || type == DTYPE_F16 || (type == DTYPE_BF16 && format == EXPORT_SAFETENSORS);
}

static int write_row(struct converting *converting, const void *row, struct error *error)
{
    dtype_to_f32(converting->from, row, converting->cols, converting->values);
    return export_file_write(converting->file, converting->values,
                             (size_t)converting->cols * sizeof *converting->values, error);
}

static int convert(struct converting *converting, const unsigned char *bytes, size_t size, struct error *error)
{
    const size_t row_bytes = converting->row_bytes;
    while (size > 0) {
        size_t taken = row_bytes;
        if (converting->waiting > 0 || size < row_bytes) {
            taken = row_bytes - converting->waiting;
            taken = taken < size ? taken : size;
            memcpy(converting->row + converting->waiting, bytes, taken);
            converting->waiting += taken;
            if (converting->waiting == row_bytes) {
                converting->waiting = 0;
                if (write_row(converting, converting->row, error) < 0)
                    return -1;
            }
        } else if (write_row(converting, bytes, error) < 0)
            return -1;
        bytes += taken;
        size -= taken;
    }
    return 0;
}

static int write_piece(void *context, const void *bytes, size_t size, struct error *error)
{
    struct converting *converting = context;
    if (cli_interrupted())
        return error_set_kind(error, ERROR_INTERRUPTED, "interrupted; nothing was written");
    const int result = converting->from == converting->to
                           ? export_file_write(converting->file, bytes, size, error)
                           : convert(converting, bytes, size, error);
    progress_update(converting->progress, converting->progress->done + size);
    return result;
}

static int write_tensor(struct store *store, const struct tensor *tensor, const char *name, enum dtype from,
                        struct export_file *file, struct progress *progress, struct error *error)
{
    struct converting converting = {.file = file,
                                    .from = from,
                                    .to = tensor->type,
                                    .cols = tensor->shape[tensor->dims - 1],
                                    .progress = progress};
    int result = -1;
    if (!dtype_row_bytes(from, converting.cols, &converting.row_bytes))
        error_set(error, "%s: rows of %" PRId64 " values are not whole blocks of %s", name, converting.cols,
                  dtype_name(from));
    else if (array_alloc(&converting.row, converting.row_bytes, error) == 0 &&
             array_alloc(&converting.values, converting.cols, error) == 0)
        result = store_visit_source(store, name, write_piece, &converting, error);
    free(converting.row);
    free(converting.values);
    return result;
}

/* In NumPy's folder, a name is a file's: "12/mlp_up" becomes "12.mlp_up". */
static int describe(struct store *store, const char *name, enum export_format format, struct tensor *tensor,
                    enum dtype *from, uint64_t *bytes, double *wanted, struct error *error)
{
    int64_t rows, cols;
    size_t row;
    if (store_find_source(store, name, from, &rows, &cols, error) < 0 ||
        !(tensor->name = string_copy(name, error)))
        return -1;
    for (char *slash = tensor->name; format == EXPORT_NPY && (slash = strchr(slash, '/'));)
        *slash = '.';
    tensor->type = is_written_as_is(*from, format) ? *from : DTYPE_F32;
    tensor->dims = rows == 1 ? 1 : 2;
    tensor->shape[0] = rows == 1 ? cols : rows;
    tensor->shape[1] = cols;
    *bytes += dtype_row_bytes(*from, cols, &row) ? (uint64_t)rows * row : 0;
    *wanted += (double)rows * (double)cols * (tensor->type == DTYPE_F32 ? 4 : 2);
    return 0;
}

static int create_file(const struct shards *shards, const char *path, enum export_format format,
                       const struct tensor *tensors, int count, struct export_file **file, struct error *error)
{
    const json_t *model = json_object_get(shards_manifest(shards), "model");
    json_t *metadata = json_pack("{s:s, s:s, s:s*}", "format", "pt", "made_by", "offramp cache export", "model",
                                 json_string_value(json_object_get(model, "fingerprint")));
    int result = metadata ? export_file_create(path, format, tensors, (size_t)count, metadata, file, error)
                          : error_set_kind(error, ERROR_NO_MEMORY, "out of memory for the file's metadata");
    json_decref(metadata);
    return result;
}

int export_model(struct shards *shards, const char *const *names, int count, const char *path,
                 enum export_format format, struct error *error)
{
    struct store *store = shards_store(shards, 0);
    struct export_file *file = NULL;
    struct tensor *tensors = NULL;
    enum dtype *from = NULL;
    struct progress progress;
    uint64_t bytes = 0;
    double wanted = 0;
    int result = -1;
    if (array_alloc(&tensors, count, error) < 0 || array_alloc(&from, count, error) < 0)
        goto done;
    for (int i = 0; i < count; i++)
        if (describe(store, names[i], format, &tensors[i], &from[i], &bytes, &wanted, error) < 0)
            goto done;
    if (export_check_out(path, format, wanted, error) < 0 ||
        create_file(shards, path, format, tensors, count, &file, error) < 0)
        goto done;
    result = 0;
    progress_start(&progress, "export", "bytes", bytes);
    for (int i = 0; i < count && result == 0; i++)
        result = write_tensor(store, &tensors[i], names[i], from[i], file, &progress, error);
    progress_finish(&progress);
    if (result == 0) {
        result = export_file_finish(file, error);
        file = NULL;
    }
    for (int i = 0; i < count && result == 0; i++)
        printf("%s: %s, %s of the model\n", path, names[i], dtype_name(from[i]));
done:
    export_file_abandon(file);
    for (int i = 0; tensors && i < count; i++)
        free(tensors[i].name);
    free(tensors);
    free(from);
    return result;
}
