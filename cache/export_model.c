#include "cache/export_model.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/base/progress.h"

/* ---- one tensor ---- */

/* Bytes come in parts that end anywhere. Values leave by rows. */
struct converting {
    struct export_file *file;
    enum dtype from, to;
    int64_t cols;
    size_t row_bytes, waiting; /* waiting: bytes in `row`, which is not whole yet */
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

static int write_part(void *context, const void *bytes, size_t size, struct error *error)
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

/* ---- all of them ---- */

struct model_export {
    struct store *store;
    const struct export_out *out;
    const char *const *name; /* [count] */
    int count;
    struct source_shape *from; /* [count] as the store has them */
    struct tensor *tensor; /* [count] as the file has them */
    struct export_file *file;
    struct progress progress;
};

static int write_tensor(struct model_export *export, int i, struct error *error)
{
    const struct source_shape *from = &export->from[i];
    struct converting converting = {.file = export->file,
                                    .from = from->type,
                                    .to = export->tensor[i].type,
                                    .cols = from->cols,
                                    .progress = &export->progress};
    int result = -1;
    if (!dtype_row_bytes(from->type, from->cols, &converting.row_bytes))
        error_set(error, "%s: rows of %" PRId64 " values are not whole blocks of %s", export->name[i],
                  from->cols, dtype_name(from->type));
    else if (array_alloc(&converting.row, converting.row_bytes, error) == 0 &&
             array_alloc(&converting.values, converting.cols, error) == 0)
        result = store_visit_source(export->store, export->name[i], write_part, &converting, error);
    free(converting.row);
    free(converting.values);
    return result;
}

/* NumPy's names are those of files: "12/mlp_up" becomes "12.mlp_up". */
static int describe(struct model_export *export, int i, struct error *error)
{
    const enum export_format format = export->out->format;
    struct source_shape *from = &export->from[i];
    struct tensor *tensor = &export->tensor[i];
    if (store_find_source(export->store, export->name[i], from, error) < 0 ||
        !(tensor->name = string_copy(export->name[i], error)))
        return -1;
    for (char *slash = tensor->name; format == EXPORT_NPY && (slash = strchr(slash, '/'));)
        *slash = '.';
    tensor->type = is_written_as_is(from->type, format) ? from->type : DTYPE_F32;
    tensor->dims = from->rows == 1 ? 1 : 2;
    tensor->shape[0] = from->rows == 1 ? from->cols : from->rows;
    tensor->shape[1] = from->cols;
    return 0;
}

/* Bytes that are read, and bytes that are written. */
static void count_bytes(const struct model_export *export, uint64_t *read, double *written)
{
    *read = 0;
    *written = 0;
    for (int i = 0; i < export->count; i++) {
        const struct source_shape *from = &export->from[i];
        size_t row;
        *read += dtype_row_bytes(from->type, from->cols, &row) ? (uint64_t)from->rows * row : 0;
        *written += (double)from->rows * (double)from->cols * (export->tensor[i].type == DTYPE_F32 ? 4 : 2);
    }
}

static int create_file(struct model_export *export, struct error *error)
{
    const json_t *model = json_object_get(store_manifest(export->store), "model");
    json_t *metadata = json_pack("{s:s, s:s, s:s*}", "format", "pt", "made_by", "offramp cache export", "model",
                                 json_string_value(json_object_get(model, "fingerprint")));
    int result = metadata ? export_file_create(export->out, export->tensor, (size_t) export->count, metadata,
                                               &export->file, error)
                          : error_set_kind(error, ERROR_NO_MEMORY, "out of memory for the file's metadata");
    json_decref(metadata);
    return result;
}

static int write_all(struct model_export *export, uint64_t bytes, struct error *error)
{
    int result = 0;
    progress_start(&export->progress, "export", "bytes", bytes);
    for (int i = 0; i < export->count && result == 0; i++)
        result = write_tensor(export, i, error);
    progress_finish(&export->progress);
    if (result == 0) {
        result = export_file_finish(export->file, error);
        export->file = NULL;
    }
    return result;
}

int export_model(struct shards *shards, const char *const *names, int count, const struct export_out *out,
                 struct error *error)
{
    struct model_export export = {.store = shards_store(shards, 0), .out = out, .name = names, .count = count};
    uint64_t bytes;
    double wanted;
    int result = -1;
    if (array_alloc(&export.tensor, count, error) < 0 || array_alloc(&export.from, count, error) < 0)
        goto done;
    for (int i = 0; i < count; i++)
        if (describe(&export, i, error) < 0)
            goto done;
    count_bytes(&export, &bytes, &wanted);
    if (export_check_out(out, wanted, error) < 0 || create_file(&export, error) < 0)
        goto done;
    result = write_all(&export, bytes, error);
    for (int i = 0; i < count && result == 0; i++)
        printf("%s: %s, %s of the model\n", out->path, names[i], dtype_name(export.from[i].type));
done:
    export_file_abandon(export.file);
    for (int i = 0; export.tensor && i < count; i++)
        free(export.tensor[i].name);
    free(export.tensor);
    free(export.from);
    return result;
}
