#include "common/model/safetensors.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/model/safetensors_types.h"

#define NAME_LENGTH_MAX 1024

struct shard {
    char *path;
    struct file_map map;
    size_t data_at; /* of the byte that "data_offsets" count from */
};

struct safetensors {
    struct shard *shards;
    size_t shard_count, shard_capacity;
    json_t *metadata; /* of the first shard that has any */
    struct tensor *tensors; /* by name */
    size_t tensor_count, tensor_capacity;
};

/* ---- one file ---- */

/* Text from a file that may go into an error or a path: no control bytes, not empty, not endless. */
static bool is_plain(const char *text)
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return length >= 1 && length <= NAME_LENGTH_MAX;
}

static int read_header(struct shard *shard, json_t **header, struct error *error)
{
    uint64_t length = 0;
    if (shard->map.size < 8)
        return error_set(error, "%s: not a safetensors file: it has %zu bytes", shard->path, shard->map.size);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | shard->map.data[i];
    if (length > SAFETENSORS_HEADER_MAX)
        return error_set(error, "%s: not a safetensors file: its header would have %" PRIu64 " bytes",
                         shard->path, length);
    if (length > shard->map.size - 8)
        return error_set(error,
                         "%s: its header has %" PRIu64 " bytes, but the file ends at byte %zu: it is cut short",
                         shard->path, length, shard->map.size);
    *header = json_parse(shard->path, (const char *)shard->map.data + 8, (size_t)length, error);
    if (!*header)
        return error_prefix(error, "safetensors header");
    if (!json_is_object(*header))
        return error_set(error, "%s: the header is not a JSON object", shard->path);
    shard->data_at = 8 + (size_t)length;
    return 0;
}

static int read_type(const json_t *value, struct tensor *tensor, struct error *error)
{
    const char *text = json_string_value(value);
    if (!text || !is_plain(text))
        return error_set(error, "\"dtype\" is not the name of a type");
    int type = safetensors_type_find(text);
    if (type < 0)
        return error_set(error, "type %.40s is not supported (F32, F16 and BF16 weights are)", text);
    tensor->type = (enum dtype)type;
    return 0;
}

/* Shape, and from it and the type the size in bytes. */
static int read_shape(const json_t *value, struct tensor *tensor, struct error *error)
{
    size_t dims = json_array_size(value), values = 1;
    if (!json_is_array(value) || dims > 4)
        return error_set(error, "\"shape\" is not a list of at most 4 numbers");
    tensor->dims = (int)dims;
    for (size_t i = 0; i < dims; i++) {
        json_t *size = json_array_get(value, i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return error_set(error, "\"shape\" has a size that is not a number from 0 on");
        tensor->shape[i] = json_integer_value(size);
        if (!size_multiply(values, (size_t)tensor->shape[i], &values) || values > INT64_MAX)
            return error_set(error, "\"shape\" is too large");
    }
    if (!dtype_row_bytes(tensor->type, (int64_t)values, &tensor->bytes) || tensor->bytes > INT64_MAX)
        return error_set(error, "\"shape\" is too large");
    return 0;
}

static int read_offsets(const struct shard *shard, const json_t *value, struct tensor *tensor,
                        struct error *error)
{
    json_t *first = json_array_get(value, 0), *last = json_array_get(value, 1);
    const size_t left = shard->map.size - shard->data_at;
    if (json_array_size(value) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
        json_integer_value(first) < 0 || json_integer_value(last) < json_integer_value(first))
        return error_set(error, "\"data_offsets\" is not two ascending numbers");
    uint64_t begin = (uint64_t)json_integer_value(first), end = (uint64_t)json_integer_value(last);
    if (end - begin != tensor->bytes)
        return error_set(error, "\"data_offsets\" spans %" PRIu64 " bytes, but its shape needs %zu",
                         end - begin, tensor->bytes);
    if (end > left)
        return error_set(error,
                         "its data end at byte %" PRIu64 ", but the file ends at byte %zu: it is cut short",
                         shard->data_at + end, shard->map.size);
    tensor->data = shard->map.data + shard->data_at + begin;
    return 0;
}

static int read_tensor(struct safetensors *file, const struct shard *shard, const char *name,
                       const json_t *entry, struct error *error)
{
    if (!is_plain(name))
        return error_set(error,
                         "%s: a tensor's name is empty, longer than %d bytes or holds control characters",
                         shard->path, NAME_LENGTH_MAX);
    if (array_grow(&file->tensors, &file->tensor_capacity, file->tensor_count + 1, error) < 0)
        return -1;
    struct tensor *tensor = &file->tensors[file->tensor_count];
    *tensor = (struct tensor){.file = shard->path};
    if (!json_is_object(entry))
        return error_set(error, "%s: tensor \"%s\" is not a JSON object", shard->path, name);
    if (read_type(json_object_get(entry, "dtype"), tensor, error) < 0 ||
        read_shape(json_object_get(entry, "shape"), tensor, error) < 0 ||
        read_offsets(shard, json_object_get(entry, "data_offsets"), tensor, error) < 0)
        return error_prefix(error, "%s: tensor \"%s\"", shard->path, name);
    tensor->name = string_copy(name, error);
    if (!tensor->name)
        return -1;
    file->tensor_count++;
    return 0;
}

/* Of two at one offset the empty one comes first. */
static int data_compare(const void *a, const void *b)
{
    const struct tensor *left = a, *right = b;
    if (left->data == right->data)
        return (left->bytes > right->bytes) - (left->bytes < right->bytes);
    return left->data > right->data ? 1 : -1;
}

static int name_compare(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

/* The format demands that every byte behind the header belongs to one tensor. */
static int check_places(const struct shard *shard, struct tensor *tensors, size_t count, struct error *error)
{
    const unsigned char *at = shard->map.data + shard->data_at, *end = shard->map.data + shard->map.size;
    if (count > 0)
        qsort(tensors, count, sizeof *tensors, data_compare);
    for (size_t i = 0; i < count; i++) {
        const unsigned char *data = tensors[i].data;
        if (data < at)
            return error_set(error, "%s: tensor \"%s\" overlaps tensor \"%s\"", shard->path, tensors[i].name,
                             tensors[i - 1].name);
        if (data > at)
            return error_set(error, "%s: the %td bytes before tensor \"%s\" belong to no tensor", shard->path,
                             data - at, tensors[i].name);
        at += tensors[i].bytes;
    }
    if (at < end)
        return error_set(error, "%s: the last %td bytes belong to no tensor", shard->path, end - at);
    return 0;
}

/* Maps file->shards[index], whose path is set, and appends its tensors. */
static int open_shard(struct safetensors *file, size_t index, struct error *error)
{
    struct shard *shard = &file->shards[index];
    size_t first = file->tensor_count;
    json_t *header = NULL, *entry;
    const char *name;
    int result = -1;
    if (file_map(shard->path, &shard->map, error) < 0 || read_header(shard, &header, error) < 0)
        goto done;
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) {
            if (!json_is_object(entry) && !json_is_null(entry)) {
                error_set(error, "%s: \"__metadata__\" is not a JSON object", shard->path);
                goto done;
            }
            if (!file->metadata && json_is_object(entry))
                file->metadata = json_incref(entry);
        } else if (read_tensor(file, shard, name, entry, error) < 0) {
            goto done;
        }
    }
    const size_t count = file->tensor_count - first;
    if (count == 0 && !file->metadata) /* what is said of nothing may be all that a file is for */
        error_set(error, "%s: it holds no tensor", shard->path);
    else
        result = check_places(shard, count > 0 ? file->tensors + first : NULL, count, error);
done:
    json_decref(header);
    return result;
}

/* Adds a shard by its path, which it takes. */
static int add_shard(struct safetensors *file, char *path, struct error *error)
{
    if (!path)
        return -1;
    if (array_grow(&file->shards, &file->shard_capacity, file->shard_count + 1, error) < 0) {
        free(path);
        return -1;
    }
    file->shards[file->shard_count++].path = path;
    return open_shard(file, file->shard_count - 1, error);
}

/* ---- a folder ---- */

/* Opens the shard of that file name when it is met for the first time. */
static int need_shard(struct safetensors *file, const char *folder, const char *name, struct error *error)
{
    char *path = path_join(folder, name, error);
    if (!path)
        return -1;
    for (size_t i = 0; i < file->shard_count; i++) {
        if (strcmp(file->shards[i].path, path) == 0) {
            free(path);
            return 0;
        }
    }
    return add_shard(file, path, error);
}

/* Every tensor of the index must be in its shard, and every tensor of a shard in the index. */
static int check_index(const struct safetensors *file, const char *index, const char *folder, json_t *weights,
                       struct error *error)
{
    json_t *value;
    const char *name;
    json_object_foreach(weights, name, value)
    {
        const struct tensor *tensor = safetensors_find(file, name);
        if (!tensor || strcmp(tensor->file + strlen(tensor->file) - json_string_length(value),
                              json_string_value(value)) != 0)
            return error_set(error, "%s: tensor \"%.200s\" is not in %s/%s, where \"weight_map\" has it", index,
                             is_plain(name) ? name : "?", folder, json_string_value(value));
    }
    for (size_t i = 0; i < file->tensor_count; i++)
        if (!json_object_get(weights, file->tensors[i].name))
            return error_set(error, "%s: tensor \"%s\" of %s is not in \"weight_map\"", index,
                             file->tensors[i].name, file->tensors[i].file);
    return 0;
}

static int sort_tensors(struct safetensors *file, struct error *error)
{
    if (file->tensor_count > 0)
        qsort(file->tensors, file->tensor_count, sizeof *file->tensors, name_compare);
    for (size_t i = 1; i < file->tensor_count; i++)
        if (name_compare(&file->tensors[i - 1], &file->tensors[i]) == 0)
            return error_set(error, "tensor \"%s\" is in both %s and %s", file->tensors[i].name,
                             file->tensors[i - 1].file, file->tensors[i].file);
    return 0;
}

static int open_index(struct safetensors *file, const char *index, const char *folder, struct error *error)
{
    json_t *root = json_read_fetched(index, error), *weights = json_object_get(root, "weight_map"), *value;
    const char *name;
    int result = -1;
    if (!root)
        return -1;
    if (!json_is_object(weights) || json_object_size(weights) == 0) {
        error_set(error, "%s: \"weight_map\" is missing or empty", index);
        goto done;
    }
    json_object_foreach(weights, name, value)
    {
        const char *shard = json_string_value(value);
        if (!shard || !is_plain(shard) || strchr(shard, '/') || shard[0] == '.') {
            error_set(error, "%s: \"weight_map\" names a shard that is not a file of this folder", index);
            goto done;
        }
        if (need_shard(file, folder, shard, error) < 0)
            goto done;
    }
    if (sort_tensors(file, error) == 0)
        result = check_index(file, index, folder, weights, error);
done:
    json_decref(root);
    return result;
}

static int open_folder(struct safetensors *file, const char *folder, struct error *error)
{
    char *single = path_join(folder, "model.safetensors", error), *index = NULL;
    int result = -1;
    if (!single || !(index = path_join(folder, "model.safetensors.index.json", error)))
        goto done;
    if (file_exists(single)) {
        result = add_shard(file, single, error) < 0 ? -1 : sort_tensors(file, error);
        single = NULL;
    } else if (file_exists(index)) {
        result = open_index(file, index, folder, error);
    } else {
        error_set(error, "%s: neither model.safetensors nor model.safetensors.index.json is there", folder);
    }
done:
    free(single);
    free(index);
    return result;
}

/* ---- the public side ---- */

int safetensors_open(const char *path, struct safetensors **result, struct error *error)
{
    struct safetensors *file;
    int status;
    *result = NULL;
    if (array_alloc(&file, 1, error) < 0)
        return -1;
    if (path_is_directory(path))
        status = open_folder(file, path, error);
    else
        status = add_shard(file, string_copy(path, error), error) < 0 ? -1 : sort_tensors(file, error);
    if (status < 0) {
        safetensors_close(file);
        return -1;
    }
    *result = file;
    return 0;
}

void safetensors_close(struct safetensors *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->tensor_count; i++)
        free(file->tensors[i].name);
    free(file->tensors);
    for (size_t i = 0; i < file->shard_count; i++) {
        file_unmap(&file->shards[i].map);
        free(file->shards[i].path);
    }
    free(file->shards);
    json_decref(file->metadata);
    free(file);
}

size_t safetensors_count(const struct safetensors *file)
{
    return file->tensor_count;
}

const struct tensor *safetensors_tensor(const struct safetensors *file, size_t index)
{
    return &file->tensors[index];
}

const struct tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    struct tensor wanted = {.name = (char *)(uintptr_t)name};
    if (file->tensor_count == 0)
        return NULL;
    return bsearch(&wanted, file->tensors, file->tensor_count, sizeof wanted, name_compare);
}

const json_t *safetensors_metadata(const struct safetensors *file)
{
    return file->metadata;
}
