#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/string.h"
#include "common/model/safetensors.h"
#include "train/export_format.h"

/* ---- what is exported ---- */

const struct head_parameter *export_parameter(const struct export_subject *subject, const char *name)
{
    for (int i = 0; i < head_parameter_count(subject->head); i++) {
        const struct head_parameter *parameter = head_parameter(subject->head, i);
        if (!strcmp(parameter->name, name))
            return parameter;
    }
    return NULL;
}

int export_read(const struct export_subject *subject, const struct head_parameter *parameter, float *values,
                struct error *error)
{
    op_read(subject->queue, parameter->value, values);
    return queue_wait(subject->queue, error);
}

void export_tap_name(const struct export_subject *subject, char name[TAPS_NAME_SIZE])
{
    head_spec_name_taps(head_get_spec(subject->head), subject->stores->config.layers, name);
}

int export_config_write(const char *folder, json_t *config, struct error *error)
{
    char *path = path_join(folder, EXPORT_CONFIG, error);
    int result = -1;
    if (path && !config)
        error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", path);
    else if (path)
        result = json_write(path, config, error);
    json_decref(config);
    free(path);
    return result;
}

/* ---- the list ---- */

int export_tensors_add(struct export_tensors *list, const char *name, enum dtype type, int64_t rows,
                       int64_t cols, void **data, struct error *error)
{
    const size_t at = list->count;
    size_t bytes;
    if (array_grow(&list->tensor, &list->capacity[0], at + 1, error) < 0 ||
        array_grow(&list->data, &list->capacity[1], at + 1, error) < 0)
        return -1;
    if (!dtype_row_bytes(type, cols ? cols : 1, &bytes) || !size_multiply(bytes, (size_t)rows, &bytes))
        return error_set(error, "tensor \"%s\" is too large", name);
    struct tensor *tensor = &list->tensor[at];
    *tensor = (struct tensor){.type = type, .dims = cols ? 2 : 1, .shape = {rows, cols}, .bytes = bytes};
    unsigned char *values = NULL;
    tensor->name = string_copy(name, error);
    if (!tensor->name || array_alloc(&values, bytes, error) < 0) {
        free(tensor->name);
        return -1;
    }
    list->data[list->count++] = *data = values;
    return 0;
}

int export_tensors_add_parameter(struct export_tensors *list, const struct export_subject *subject,
                                 const char *name, const char *parameter_name, struct error *error)
{
    const struct head_parameter *parameter = export_parameter(subject, parameter_name);
    void *data;
    if (!parameter)
        return error_set_kind(error, ERROR_INTERNAL, "the head has no parameter %s", parameter_name);
    const struct matrix value = parameter->value;
    const bool vector = value.rows == 1;
    return export_tensors_add(list, name, DTYPE_F32, vector ? value.cols : value.rows, vector ? 0 : value.cols,
                              &data, error) < 0
               ? -1
               : export_read(subject, parameter, data, error);
}

int export_tensors_add_source(struct export_tensors *list, const struct export_subject *subject,
                              const char *name, const char *source_name, struct error *error)
{
    const struct head_source source = stores_head_source(subject->stores);
    float *values;
    int64_t rows, cols;
    void *data;
    if (source.get(source.context, source_name, &values, &rows, &cols, error) < 0)
        return -1;
    int result =
        export_tensors_add(list, name, DTYPE_F32, rows == 1 ? cols : rows, rows == 1 ? 0 : cols, &data, error);
    if (result == 0)
        memcpy(data, values, (size_t)(rows * cols) * sizeof *values);
    free(values);
    return result;
}

static int write_values(const struct export_tensors *list, struct safetensors_writer *writer,
                        struct error *error)
{
    for (size_t i = 0; i < list->count; i++) {
        if (cli_interrupted())
            return error_set_kind(error, ERROR_INTERRUPTED, "interrupted; nothing was written");
        if (safetensors_write(writer, list->data[i], list->tensor[i].bytes, error) < 0)
            return -1;
    }
    return 0;
}

int export_tensors_write(const struct export_tensors *list, const struct export_subject *subject,
                         const char *folder, const char *name, struct error *error)
{
    json_t *metadata = json_pack("{ss ss ss ss}", "format", "pt", "offramp", OFFRAMP_VERSION, "trial",
                                 subject->id, "model", subject->stores->fingerprint);
    struct safetensors_writer *writer = NULL;
    char *path = path_join(folder, name, error);
    int result = -1;
    if (path && !metadata)
        error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", path);
    else if (path && safetensors_create(path, list->tensor, list->count, metadata, &writer, error) == 0) {
        result = write_values(list, writer, error);
        if (result == 0)
            result = safetensors_finish(writer, error);
        else
            safetensors_abandon(writer);
    }
    json_decref(metadata);
    free(path);
    return result;
}

void export_tensors_free(struct export_tensors *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->tensor[i].name);
        free(list->data[i]);
    }
    free(list->tensor);
    free(list->data);
    *list = (struct export_tensors){0};
}
