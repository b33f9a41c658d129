/* head_file.c: head.safetensors, a head as it is kept on disk. Vectors have one dimension, matrices two. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/head/kind.h"
#include "common/model/safetensors.h"

/* ---- writing ---- */

static json_t *metadata_of(const struct head *head, const char *fingerprint)
{
    char tap[TAP_NAME_SIZE], number[5][32];
    const struct head_shape *shape = &head->shape;
    tap_name(head->spec.tap, shape->layers, tap);
    const int sizes[4] = {shape->layers, shape->hidden, shape->intermediate, shape->vocab};
    for (int i = 0; i < 4; i++)
        snprintf(number[i], sizeof number[i], "%d", sizes[i]);
    snprintf(number[4], sizeof number[4], "%.9g", (double)shape->norm_epsilon);
    return json_pack("{ss ss ss ss ss ss ss ss ss ss ss}", "offramp", OFFRAMP_VERSION, "kind",
                     head->spec.kind->name, "output", head_output_name(head->spec.output), "tap", tap, "layers",
                     number[0], "hidden", number[1], "intermediate", number[2], "vocab", number[3],
                     "norm_epsilon", number[4], "mlp_bias", shape->mlp_bias ? "yes" : "no", "model",
                     fingerprint);
}

static int write_parameter(const struct head_parameter *parameter, struct queue *queue,
                           struct safetensors_writer *writer, struct error *error)
{
    const struct matrix value = parameter->value;
    float *values;
    if (array_alloc(&values, value.rows * value.cols, error) < 0)
        return -1;
    op_read(queue, value, values);
    int result = queue_wait(queue, error);
    if (result == 0)
        result = safetensors_write(writer, values, (size_t)(value.rows * value.cols) * sizeof *values, error);
    free(values);
    return result;
}

int head_save(const struct head *head, struct queue *queue, const char *path, const char *fingerprint,
              struct error *error)
{
    struct tensor tensors[HEAD_PARAMETERS_MAX] = {0};
    struct safetensors_writer *writer = NULL;
    int result = -1;
    for (int i = 0; i < head->parameters; i++) {
        const struct matrix value = head->parameter[i].value;
        tensors[i].name = (char *)(uintptr_t)head->parameter[i].name;
        tensors[i].type = DTYPE_F32;
        tensors[i].dims = value.rows == 1 ? 1 : 2;
        tensors[i].shape[0] = value.rows == 1 ? value.cols : value.rows;
        tensors[i].shape[1] = value.cols;
        tensors[i].bytes = (size_t)(value.rows * value.cols) * sizeof(float);
    }
    json_t *metadata = metadata_of(head, fingerprint);
    if (!metadata) {
        error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", path);
        goto done;
    }
    if (safetensors_create(path, tensors, (size_t)head->parameters, metadata, &writer, error) < 0)
        goto done;
    for (int i = 0; i < head->parameters; i++) {
        if (write_parameter(&head->parameter[i], queue, writer, error) < 0)
            goto done;
    }
    result = safetensors_finish(writer, error);
    writer = NULL;
done:
    safetensors_abandon(writer);
    json_decref(metadata);
    return result;
}

/* ---- reading ---- */

static int read_text(const char *path, const json_t *metadata, const char *key, const char **text,
                     struct error *error)
{
    *text = json_string_value(json_object_get(metadata, key));
    if (!*text)
        return error_set(error, "%s: is not a head of offramp: its metadata lacks \"%s\"", path, key);
    return 0;
}

static int read_size(const char *path, const json_t *metadata, const char *key, int most, int *value,
                     struct error *error)
{
    const char *text;
    int64_t number;
    if (read_text(path, metadata, key, &text, error) < 0)
        return -1;
    if (parse_integer(text, 1, most, &number, error) < 0)
        return error_prefix(error, "%s: metadata \"%s\"", path, key);
    *value = (int)number;
    return 0;
}

static int read_shape(const char *path, const json_t *metadata, struct head_shape *shape, struct error *error)
{
    const char *epsilon;
    double number;
    if (read_size(path, metadata, "layers", 1 << 16, &shape->layers, error) < 0 ||
        read_size(path, metadata, "hidden", 1 << 20, &shape->hidden, error) < 0 ||
        read_size(path, metadata, "intermediate", 1 << 24, &shape->intermediate, error) < 0 ||
        read_size(path, metadata, "vocab", 1 << 28, &shape->vocab, error) < 0 ||
        read_text(path, metadata, "norm_epsilon", &epsilon, error) < 0)
        return -1;
    if (parse_number(epsilon, 0, 1, &number, error) < 0)
        return error_prefix(error, "%s: metadata \"norm_epsilon\"", path);
    shape->norm_epsilon = (float)number;
    const char *bias = json_string_value(json_object_get(metadata, "mlp_bias"));
    shape->mlp_bias = bias && strcmp(bias, "yes") == 0; /* check_tensors finds out when that is a lie */
    return 0;
}

static int read_metadata(const char *path, const json_t *metadata, struct head_spec *spec,
                         struct head_shape *shape, char fingerprint[17], struct error *error)
{
    const char *kind, *output, *tap, *model;
    if (read_text(path, metadata, "kind", &kind, error) < 0 ||
        read_text(path, metadata, "output", &output, error) < 0 ||
        read_text(path, metadata, "tap", &tap, error) < 0 ||
        read_text(path, metadata, "model", &model, error) < 0 || read_shape(path, metadata, shape, error) < 0)
        return -1;
    if (strlen(model) != 16 || strspn(model, "0123456789abcdef") != 16)
        return error_set(error, "%s: metadata \"model\": \"%.40s\" is not a fingerprint of 16 digits", path,
                         model);
    memcpy(fingerprint, model, 17);
    spec->kind = head_kind_find(kind, error);
    if (!spec->kind || head_output_find(output, &spec->output, error) < 0 ||
        tap_parse(tap, shape->layers, &spec->tap, error) < 0 || head_spec_check(spec, shape, error) < 0)
        return error_prefix(error, "%s", path);
    return 0;
}

/* Every tensor of the head is there in its shape, all numbers are finite, and nothing else is. */
static int check_tensors(const char *path, const struct safetensors *file, const struct head_spec *spec,
                         const struct head_shape *shape, struct error *error)
{
    const int count = head_rule_count(spec, shape);
    for (int i = 0; i < count; i++) {
        const struct parameter_rule *rule = head_rule(spec, shape, i);
        const int64_t rows = extent_size(rule->rows, shape), cols = extent_size(rule->cols, shape);
        const struct tensor *tensor = safetensors_find(file, rule->name);
        if (!tensor)
            return error_set(error, "%s: the tensor \"%s\" of a head of kind %s is missing", path, rule->name,
                             spec->kind->name);
        const bool fits = rows == 1 ? tensor->dims == 1 && tensor->shape[0] == cols
                                    : tensor->dims == 2 && tensor->shape[0] == rows && tensor->shape[1] == cols;
        if (tensor->type != DTYPE_F32 || !fits)
            return error_set(error, "%s: the tensor \"%s\" is not f32 of shape [%lld, %lld]", path, rule->name,
                             (long long)rows, (long long)cols);
        for (int64_t v = 0; v < rows * cols; v++) {
            float value;
            memcpy(&value, (const char *)tensor->data + (size_t)v * sizeof value, sizeof value);
            if (!isfinite(value))
                return error_set(error, "%s: value %lld of the tensor \"%s\" is not a finite number", path,
                                 (long long)v, rule->name);
        }
    }
    if (safetensors_count(file) != (size_t)count)
        return error_set(error, "%s: holds %zu tensors where a head of kind %s, output %s, has %d", path,
                         safetensors_count(file), spec->kind->name, head_output_name(spec->output), count);
    return 0;
}

int head_load(const char *path, struct backend *backend, struct head **result, char fingerprint[17],
              struct error *error)
{
    struct safetensors *file = NULL;
    struct queue *queue = NULL;
    struct head *head = NULL;
    struct head_spec spec;
    struct head_shape shape;
    int status = -1;
    *result = NULL;
    if (safetensors_open(path, &file, error) < 0 ||
        read_metadata(path, safetensors_metadata(file), &spec, &shape, fingerprint, error) < 0 ||
        check_tensors(path, file, &spec, &shape, error) < 0 ||
        head_create(&spec, &shape, backend, &head, error) < 0 || queue_create(backend, &queue, error) < 0)
        goto done;
    for (int i = 0; i < head->parameters; i++)
        op_write(queue, head->parameter[i].value, safetensors_find(file, head->parameter[i].name)->data);
    if (queue_wait(queue, error) < 0)
        goto done;
    *result = head;
    head = NULL;
    status = 0;
done:
    queue_destroy(queue);
    head_destroy(head);
    safetensors_close(file);
    return status;
}
