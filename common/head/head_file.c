/* head_file.c: head.safetensors, a head as it is kept on disk. Vectors have one dimension, matrices two. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/head/kind.h"
#include "common/model/safetensors.h"

/* ---- writing ---- */

static json_t *metadata_of(const struct head *head, const char *fingerprint)
{
    char tap[TAPS_NAME_SIZE], number[6][32];
    const struct model_config *config = &head->config;
    head_spec_name_taps(&head->spec, config->layers, tap);
    const int sizes[5] = {config->layers, config->hidden, config->intermediate, config->vocab,
                          head->spec.draft_vocab};
    for (int i = 0; i < 5; i++)
        snprintf(number[i], sizeof number[i], "%d", sizes[i]);
    snprintf(number[5], sizeof number[5], "%.9g", (double)config->norm_epsilon);
    json_t *metadata =
        json_pack("{ss ss ss ss ss ss ss ss ss ss ss ss*}", "offramp", OFFRAMP_VERSION, "kind",
                  head->spec.kind->name, "output", head_output_name(head->spec.output), "tap", tap, "layers",
                  number[0], "hidden", number[1], "intermediate", number[2], "vocab", number[3], "norm_epsilon",
                  number[5], "mlp_bias", config->mlp_bias ? "yes" : "no", "model", fingerprint, "draft_vocab",
                  head->spec.kind->draft ? number[4] : NULL);
    if (metadata && head->spec.rank > 0)
        json_object_set_new(metadata, "rank", json_sprintf("%d", head->spec.rank));
    if (metadata && head->spec.kind->has_layers) {
        json_object_set_new(metadata, "to", json_sprintf("%d", head->spec.to));
        json_object_set_new(metadata, "frozen", json_string(head->spec.frozen ? "yes" : "no"));
    }
    return metadata;
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
    struct tensor *tensors;
    struct safetensors_writer *writer = NULL;
    json_t *metadata = NULL;
    int result = -1;
    if (array_alloc(&tensors, head->parameters, error) < 0)
        return -1;
    for (int i = 0; i < head->parameters; i++) {
        const struct matrix value = head->parameter[i].value;
        tensors[i].name = head->parameter[i].name;
        tensors[i].type = DTYPE_F32;
        tensors[i].dims = value.rows == 1 ? 1 : 2;
        tensors[i].shape[0] = value.rows == 1 ? value.cols : value.rows;
        tensors[i].shape[1] = value.cols;
        tensors[i].bytes = (size_t)(value.rows * value.cols) * sizeof(float);
    }
    metadata = metadata_of(head, fingerprint);
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
    free(tensors);
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

static int read_number(const char *path, const json_t *metadata, const char *key, int least, int most,
                       int *value, struct error *error)
{
    int64_t number;
    if (json_get_written_integer(path, metadata, key, least, most, &number, error) < 0)
        return -1;
    *value = (int)number;
    return 0;
}

/* The sizes must be those of the model. */
static int check_sizes(const char *path, const json_t *metadata, const struct model_config *config,
                       struct error *error)
{
    int layers, hidden, intermediate, vocab;
    if (read_number(path, metadata, "layers", 1, 1 << 16, &layers, error) < 0 ||
        read_number(path, metadata, "hidden", 1, 1 << 20, &hidden, error) < 0 ||
        read_number(path, metadata, "intermediate", 1, 1 << 24, &intermediate, error) < 0 ||
        read_number(path, metadata, "vocab", 1, 1 << 28, &vocab, error) < 0)
        return -1;
    if (layers != config->layers || hidden != config->hidden || intermediate != config->intermediate ||
        vocab != config->vocab)
        return error_set(error,
                         "%s: is for %d layers, hidden %d, intermediate %d, vocabulary %d, but the model has "
                         "%d, %d, %d, %d",
                         path, layers, hidden, intermediate, vocab, config->layers, config->hidden,
                         config->intermediate, config->vocab);
    return 0;
}

/* What only some heads have of a spec. */
static int read_own(const char *path, const json_t *metadata, struct head_spec *spec, struct error *error)
{
    const char *frozen;
    if (json_object_get(metadata, "rank") &&
        read_number(path, metadata, "rank", 1, 1 << 20, &spec->rank, error) < 0)
        return -1;
    if (!spec->kind->has_layers)
        return 0;
    if (read_number(path, metadata, "to", 0, 1 << 16, &spec->to, error) < 0 ||
        read_text(path, metadata, "frozen", &frozen, error) < 0)
        return -1;
    spec->frozen = !strcmp(frozen, "yes");
    return spec->frozen || !strcmp(frozen, "no")
               ? 0
               : error_set(error, "%s: metadata \"frozen\" is neither yes nor no", path);
}

/* The spec, and in `config`, the model's, the epsilon. */
static int read_metadata(const char *path, const json_t *metadata, const char *fingerprint,
                         struct head_spec *spec, struct model_config *config, struct error *error)
{
    const char *kind, *output, *tap, *model, *epsilon;
    double number;
    if (read_text(path, metadata, "kind", &kind, error) < 0 ||
        read_text(path, metadata, "output", &output, error) < 0 ||
        read_text(path, metadata, "tap", &tap, error) < 0 ||
        read_text(path, metadata, "norm_epsilon", &epsilon, error) < 0 ||
        read_text(path, metadata, "model", &model, error) < 0)
        return -1;
    if (strcmp(model, fingerprint) != 0)
        return error_set(error, "%s: was trained for the model %.40s, but this one is %s", path, model,
                         fingerprint);
    if (check_sizes(path, metadata, config, error) < 0)
        return -1;
    if (parse_number(epsilon, 0, 1, &number, error) < 0)
        return error_prefix(error, "%s: metadata \"norm_epsilon\"", path);
    config->norm_epsilon = (float)number;
    *spec = (struct head_spec){.kind = head_kind_find(kind, error)};
    if (spec->kind && read_own(path, metadata, spec, error) < 0)
        return -1;
    if (!spec->kind || head_output_find(output, &spec->output, error) < 0 ||
        head_spec_parse_taps(tap, config->layers, spec, error) < 0 ||
        (spec->kind->draft &&
         read_number(path, metadata, "draft_vocab", 1, config->vocab, &spec->draft_vocab, error) < 0) ||
        head_spec_check(spec, config, error) < 0)
        return error_prefix(error, "%s", path);
    return 0;
}

static int check_tensor(const char *path, const struct safetensors *file, const struct parameter_rule *rule,
                        const struct head_spec *spec, struct error *error)
{
    const struct tensor *tensor = safetensors_find(file, rule->name);
    const int64_t rows = rule->rows, cols = rule->cols;
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
    return 0;
}

/* Every tensor of the head is there in its shape, all numbers are finite, and nothing else is. */
static int check_tensors(const char *path, const struct safetensors *file, const struct head_spec *spec,
                         const struct model_config *config, struct error *error)
{
    struct head_plan plan;
    head_plan_make(spec, config, &plan);
    for (int i = 0; i < plan.rules; i++) {
        if (check_tensor(path, file, &plan.rule[i], spec, error) < 0)
            return -1;
    }
    if (safetensors_count(file) != (size_t)plan.rules)
        return error_set(error, "%s: holds %zu tensors where a head of kind %s, output %s, has %d", path,
                         safetensors_count(file), spec->kind->name, head_output_name(spec->output), plan.rules);
    return 0;
}

int head_load(const char *path, const struct model_config *config, const char *fingerprint,
              struct backend *backend, struct head **result, struct error *error)
{
    struct safetensors *file = NULL;
    struct queue *queue = NULL;
    struct head *head = NULL;
    struct head_spec spec;
    struct model_config own = *config;
    int status = -1;
    *result = NULL;
    if (safetensors_open(path, &file, error) < 0 ||
        read_metadata(path, safetensors_metadata(file), fingerprint, &spec, &own, error) < 0 ||
        check_tensors(path, file, &spec, &own, error) < 0 ||
        head_create(&spec, &own, backend, &head, error) < 0 || queue_create(backend, &queue, error) < 0)
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
