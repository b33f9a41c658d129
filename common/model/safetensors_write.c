#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/model/safetensors.h"
#include "common/model/safetensors_types.h"

struct safetensors_writer {
    char *path;
    struct file_writer *file;
    size_t total, done; /* bytes of tensors */
};

static json_t *entry_create(const struct tensor *tensor, size_t begin, size_t end)
{
    json_t *shape = json_array();
    for (int i = 0; i < tensor->dims; i++)
        json_array_append_new(shape, json_integer(tensor->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", safetensors_type_name(tensor->type), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static int tensor_size(const struct tensor *tensor, size_t *bytes, struct error *error)
{
    size_t rows = 1;
    if (!safetensors_type_name(tensor->type))
        return error_set(error, "tensor \"%s\": safetensors has no type for %s", tensor->name,
                         dtype_name(tensor->type));
    for (int i = 0; i + 1 < tensor->dims; i++)
        if (tensor->shape[i] < 0 || !size_multiply(rows, (size_t)tensor->shape[i], &rows))
            return error_set(error, "tensor \"%s\" is too large", tensor->name);
    if (tensor->dims < 1 || !dtype_row_bytes(tensor->type, tensor->shape[tensor->dims - 1], bytes) ||
        !size_multiply(rows, *bytes, bytes) || *bytes > INT64_MAX)
        return error_set(error, "tensor \"%s\" is too large or has no shape", tensor->name);
    return 0;
}

/* The header's JSON text; free() it. *total receives the bytes of all tensors. */
static char *header_text(const struct tensor *tensors, size_t count, const json_t *metadata, size_t *total,
                         struct error *error)
{
    json_t *header = json_object();
    char *text = NULL;
    bool failed = metadata && json_object_set(header, "__metadata__", (json_t *)(uintptr_t)metadata) < 0;
    *total = 0;
    for (size_t i = 0; i < count && !failed; i++) {
        size_t bytes, begin = *total;
        if (tensor_size(&tensors[i], &bytes, error) < 0)
            goto done;
        if (!size_add(begin, bytes, total) || *total > INT64_MAX) {
            error_set(error, "tensor \"%s\": the file would be too large", tensors[i].name);
            goto done;
        }
        if (json_object_get(header, tensors[i].name)) {
            error_set(error, "tensor \"%s\" is given twice", tensors[i].name);
            goto done;
        }
        failed = json_object_set_new(header, tensors[i].name, entry_create(&tensors[i], begin, *total)) < 0;
    }
    if (failed)
        error_set_kind(error, ERROR_NO_MEMORY,
                       "out of memory, or a tensor's name or the metadata is not UTF-8");
    else
        text = json_text("the header", header, JSON_COMPACT, error);
done:
    json_decref(header);
    return text;
}

int safetensors_create(const char *path, const struct tensor *tensors, size_t count, const json_t *metadata,
                       struct safetensors_writer **result, struct error *error)
{
    static const char spaces[] = "        ";
    struct safetensors_writer *writer = NULL;
    unsigned char prefix[8];
    char *text = NULL;
    *result = NULL;
    if (array_alloc(&writer, 1, error) < 0)
        return -1;
    writer->path = string_copy(path, error);
    if (!writer->path)
        goto failed;
    text = header_text(tensors, count, metadata, &writer->total, error);
    if (!text) {
        error_prefix(error, "%s", path);
        goto failed;
    }
    size_t length = strlen(text), padding = (8 - length % 8) % 8; /* so that the data are aligned */
    if (length + padding > SAFETENSORS_HEADER_MAX) {
        error_set(error, "%s: a header of %zu bytes is more than safetensors allows", path, length);
        goto failed;
    }
    for (int i = 0; i < 8; i++)
        prefix[i] = (unsigned char)((uint64_t)(length + padding) >> 8 * i);
    if (file_writer_open(path, &writer->file, error) < 0 ||
        file_writer_append(writer->file, prefix, sizeof prefix, error) < 0 ||
        file_writer_append(writer->file, text, length, error) < 0 ||
        file_writer_append(writer->file, spaces, padding, error) < 0)
        goto failed;
    free(text);
    *result = writer;
    return 0;
failed:
    free(text);
    safetensors_abandon(writer);
    return -1;
}

int safetensors_write(struct safetensors_writer *writer, const void *data, size_t size, struct error *error)
{
    if (size > writer->total - writer->done)
        return error_set(error, "%s: it was given more bytes than its tensors have (%zu)", writer->path,
                         writer->total);
    if (file_writer_append(writer->file, data, size, error) < 0)
        return -1;
    writer->done += size;
    return 0;
}

int safetensors_finish(struct safetensors_writer *writer, struct error *error)
{
    if (writer->done < writer->total) {
        error_set(error, "%s: only %zu of its tensors' %zu bytes were written", writer->path, writer->done,
                  writer->total);
        safetensors_abandon(writer);
        return -1;
    }
    int result = file_writer_finish(writer->file, error);
    free(writer->path);
    free(writer);
    return result;
}

void safetensors_abandon(struct safetensors_writer *writer)
{
    if (!writer)
        return;
    file_writer_abandon(writer->file);
    free(writer->path);
    free(writer);
}
