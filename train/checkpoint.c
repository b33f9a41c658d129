#include "train/checkpoint.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/model/safetensors.h"

#define NAME_SIZE  64
#define PART_BYTES ((size_t)16 << 20) /* that are written at a time */

/* The matrices of a trial in the order of the file. */
struct contents {
    int count;
    struct content {
        struct matrix matrix;
        char name[NAME_SIZE];
        size_t bytes;
    } * list;
    size_t largest; /* bytes of one */
};

static void add_matrix(struct contents *contents, const char *role, const char *parameter, struct matrix matrix)
{
    struct content *content = &contents->list[contents->count];
    if (matrix_is_none(matrix))
        return;
    snprintf(content->name, NAME_SIZE, "%s.%s", role, parameter);
    content->matrix = matrix;
    content->bytes = (size_t)(matrix.rows * matrix.cols) * sizeof(float);
    if (content->bytes > contents->largest)
        contents->largest = content->bytes;
    contents->count++;
}

/* free() the list. */
static int list_contents(const struct trial *trial, struct contents *contents, struct error *error)
{
    const int parameters = head_parameter_count(trial->head);
    *contents = (struct contents){0};
    if (array_alloc(&contents->list, 3 * parameters, error) < 0)
        return -1;
    for (int i = 0; i < parameters; i++) {
        const struct head_parameter *parameter = head_parameter(trial->head, i);
        add_matrix(contents, "value", parameter->name, parameter->value);
        add_matrix(contents, "first", parameter->name, trial_first_moment(trial, i));
        add_matrix(contents, "second", parameter->name, trial_second_moment(trial, i));
    }
    return 0;
}

/* ---- writing ---- */

static int fetch(const struct trial *trial, const struct content *content, void *block, struct error *error)
{
    op_read(trial->queue, content->matrix, block);
    return queue_wait(trial->queue, error);
}

/* False when the program was told to stop so long ago that the checkpoint of before has to do. */
static bool has_time(const struct trial *trial, struct error *error)
{
    if (cli_interrupted_for() < STOP_SECONDS)
        return true;
    error_set_kind(error, ERROR_INTERRUPTED,
                   "the checkpoint of %s takes too long; the same command goes on from the one before",
                   trial->config.id);
    return false;
}

static json_t *make_metadata(const struct trial *trial, const struct contents *contents,
                             const char *fingerprint, void *block, struct error *error)
{
    char step[32], start[32], text[17];
    uint64_t hash = 0;
    for (int i = 0; i < contents->count; i++) {
        if (!has_time(trial, error) || fetch(trial, &contents->list[i], block, error) < 0 ||
            !has_time(trial, error))
            return NULL;
        hash = hash_bytes(block, contents->list[i].bytes, hash);
    }
    hash_print(hash, text);
    snprintf(step, sizeof step, "%" PRId64, trial->step);
    snprintf(start, sizeof start, "%" PRId64, trial->optimizer_start);
    json_t *metadata = json_pack("{ss ss ss ss ss ss}", "offramp", OFFRAMP_VERSION, "trial", trial->config.id,
                                 "model", fingerprint, "step", step, "optimizer_start", start, "hash", text);
    if (!metadata)
        error_set_kind(error, ERROR_NO_MEMORY, "trial %s: out of memory", trial->config.id);
    return metadata;
}

static int write_block(const struct trial *trial, struct safetensors_writer *writer, const char *block,
                       size_t bytes, struct error *error)
{
    for (size_t at = 0; at < bytes; at += PART_BYTES) {
        const size_t part = bytes - at < PART_BYTES ? bytes - at : PART_BYTES;
        if (!has_time(trial, error) || safetensors_write(writer, block + at, part, error) < 0)
            return -1;
    }
    return 0;
}

static int write_contents(const struct trial *trial, const struct contents *contents, const char *path,
                          const json_t *metadata, void *block, struct error *error)
{
    struct tensor *tensors;
    struct safetensors_writer *writer;
    if (array_alloc(&tensors, contents->count, error) < 0)
        return -1;
    for (int i = 0; i < contents->count; i++) {
        struct content *content = &contents->list[i];
        tensors[i] = (struct tensor){
            .name = content->name,
            .type = DTYPE_F32,
            .dims = 2,
            .shape = {content->matrix.rows, content->matrix.cols},
            .bytes = content->bytes,
        };
    }
    int result = safetensors_create(path, tensors, (size_t)contents->count, metadata, &writer, error);
    free(tensors);
    if (result < 0)
        return -1;
    for (int i = 0; i < contents->count; i++) {
        if (fetch(trial, &contents->list[i], block, error) < 0 ||
            write_block(trial, writer, block, contents->list[i].bytes, error) < 0) {
            safetensors_abandon(writer);
            return -1;
        }
    }
    return safetensors_finish(writer, error);
}

int checkpoint_write(const struct trial *trial, const char *path, const char *fingerprint, struct error *error)
{
    struct contents contents;
    int result = -1;
    if (list_contents(trial, &contents, error) < 0)
        return -1;
    void *block = has_time(trial, error) ? memory_alloc(contents.largest, 1, error) : NULL;
    json_t *metadata = block ? make_metadata(trial, &contents, fingerprint, block, error) : NULL;
    if (metadata)
        result = write_contents(trial, &contents, path, metadata, block, error);
    json_decref(metadata);
    free(block);
    free(contents.list);
    return result;
}

/* ---- reading ---- */

static int check_metadata(const struct trial *trial, const char *path, const json_t *metadata,
                          const char *fingerprint, int64_t *step, int64_t *start, const char **hash,
                          struct error *error)
{
    const char *id, *model, *text, *start_text = "0";
    if (!metadata)
        return error_set(error, "%s: is not a checkpoint: it has no metadata", path);
    if (json_get_string(path, metadata, "trial", &id, error) < 0 ||
        json_get_string(path, metadata, "model", &model, error) < 0 ||
        json_get_string(path, metadata, "step", &text, error) < 0 ||
        (json_object_get(metadata, "optimizer_start") &&
         json_get_string(path, metadata, "optimizer_start", &start_text, error) < 0) ||
        json_get_string(path, metadata, "hash", hash, error) < 0)
        return -1;
    if (strcmp(id, trial->config.id) != 0)
        return error_set(error, "%s: is a checkpoint of trial %s, not of %s", path, id, trial->config.id);
    if (strcmp(model, fingerprint) != 0)
        return error_set(error, "%s: is a checkpoint for model %s, but the store is of model %s", path, model,
                         fingerprint);
    if (parse_integer(text, 0, INT64_MAX, step, error) < 0)
        return error_prefix(error, "%s: step", path);
    if (parse_integer(start_text, 0, *step, start, error) < 0)
        return error_prefix(error, "%s: optimizer_start", path);
    return 0;
}

static int check_tensors(const struct contents *contents, const char *path, const struct safetensors *file,
                         const char *expected, struct error *error)
{
    char text[17];
    uint64_t hash = 0;
    for (int i = 0; i < contents->count; i++) {
        const struct content *content = &contents->list[i];
        const struct matrix matrix = content->matrix;
        const struct tensor *tensor = safetensors_find(file, content->name);
        if (cli_interrupted())
            return error_set_kind(error, ERROR_INTERRUPTED,
                                  "stopped while %s was read; the same command goes on from it", path);
        if (!tensor)
            return error_set_kind(error, ERROR_DAMAGED, "%s: tensor %s is missing", path, content->name);
        if (tensor->type != DTYPE_F32 || tensor->dims != 2 || tensor->shape[0] != matrix.rows ||
            tensor->shape[1] != matrix.cols)
            return error_set_kind(error, ERROR_DAMAGED, "%s: tensor %s is not f32 [%" PRId64 ", %" PRId64 "]",
                                  path, content->name, matrix.rows, matrix.cols);
        hash = hash_bytes(tensor->data, tensor->bytes, hash);
    }
    hash_print(hash, text);
    if (strcmp(text, expected) != 0)
        return error_set_kind(error, ERROR_DAMAGED,
                              "%s: is damaged (hash %s, not %s); remove it to train this trial from the start",
                              path, text, expected);
    return 0;
}

int checkpoint_read(struct trial *trial, const char *path, const char *fingerprint, struct error *error)
{
    struct contents contents;
    struct safetensors *file = NULL;
    const char *hash;
    int64_t step, start;
    int result = -1;
    if (list_contents(trial, &contents, error) < 0)
        return -1;
    if (safetensors_open(path, &file, error) < 0 ||
        check_metadata(trial, path, safetensors_metadata(file), fingerprint, &step, &start, &hash, error) < 0 ||
        check_tensors(&contents, path, file, hash, error) < 0)
        goto done;
    for (int i = 0; i < contents.count; i++)
        op_write(trial->queue, contents.list[i].matrix, safetensors_find(file, contents.list[i].name)->data);
    result = queue_wait(trial->queue, error);
    if (result == 0) {
        trial->step = step;
        trial->optimizer_start = start;
    }
done:
    safetensors_close(file);
    free(contents.list);
    return result;
}

int checkpoint_step(const char *path, int64_t *step, struct error *error)
{
    struct safetensors *file;
    const char *text;
    if (safetensors_open(path, &file, error) < 0)
        return -1;
    const json_t *metadata = safetensors_metadata(file);
    int result = -1;
    if (!metadata)
        error_set(error, "%s: is not a checkpoint: it has no metadata", path);
    else if (json_get_string(path, metadata, "step", &text, error) == 0 &&
             (result = parse_integer(text, 0, INT64_MAX, step, error)) < 0)
        error_prefix(error, "%s: step", path);
    safetensors_close(file);
    return result;
}
