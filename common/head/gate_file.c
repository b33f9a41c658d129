/* gate_file.c: a gate as it is kept on disk. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/head/gate.h"
#include "common/model/safetensors.h"

/* The tensors of a gate, in the file's order. `data` is where a gate has its values. */
enum { TENSORS_MOST = 8 };

struct entry {
    const char *name;
    enum dtype type;
    int dims;
    int64_t rows, cols; /* cols: of two dimensions */
    void *data;
};

static size_t entry_values(const struct entry *entry)
{
    return (size_t)(entry->rows * (entry->dims == 2 ? entry->cols : 1));
}

static size_t entry_bytes(const struct entry *entry)
{
    return entry_values(entry) * (entry->type == DTYPE_F64 ? sizeof(double) : sizeof(float));
}

/* calibration [2]: where slope and shift are. */
static int list_entries(struct gate *gate, double *calibration, struct entry entries[TENSORS_MOST])
{
    const int64_t width = gate->width, units = gate->units;
    int count = 0;
    entries[count++] = (struct entry){"mean", DTYPE_F32, 1, width, 0, gate->mean};
    entries[count++] = (struct entry){"scale", DTYPE_F32, 1, width, 0, gate->scale};
    if (units > 0) {
        entries[count++] = (struct entry){"in", DTYPE_F32, 2, 2 * units, width, gate->in};
        entries[count++] = (struct entry){"in_bias", DTYPE_F32, 1, 2 * units, 0, gate->in_bias};
    }
    entries[count++] = (struct entry){"out", DTYPE_F32, 1, units > 0 ? units : width, 0, gate->out};
    entries[count++] = (struct entry){"out_bias", DTYPE_F32, 1, 1, 0, &gate->out_bias};
    entries[count++] = (struct entry){"calibration", DTYPE_F64, 1, 2, 0, calibration};
    if (gate->tokens > 0)
        entries[count++] = (struct entry){"tokens", DTYPE_I32, 1, gate->tokens, 0, gate->token};
    return count;
}

/* ---- writing ---- */

static json_t *metadata_of(const struct gate *gate)
{
    char tap[TAP_NAME_SIZE], name[GATE_NAME_SIZE], number[3][16];
    const int sizes[3] = {gate->layers, gate->hidden, gate->vocab};
    tap_name(gate->tap, gate->layers, tap);
    gate_spec_name(&gate->spec, name);
    for (int i = 0; i < 3; i++)
        snprintf(number[i], sizeof number[i], "%d", sizes[i]);
    return json_pack("{ss ss ss ss ss ss ss ss}", "offramp", OFFRAMP_VERSION, "gate", name, "tap", tap,
                     "layers", number[0], "hidden", number[1], "vocab", number[2], "model", gate->fingerprint,
                     "head", gate->head);
}

int gate_save(const struct gate *gate, const char *path, struct error *error)
{
    struct gate own = *gate;
    double calibration[2] = {gate->slope, gate->shift};
    struct entry entries[TENSORS_MOST];
    struct tensor tensors[TENSORS_MOST] = {0};
    struct safetensors_writer *writer = NULL;
    const int count = list_entries(&own, calibration, entries);
    for (int i = 0; i < count; i++) {
        tensors[i].name = (char *)(uintptr_t)entries[i].name;
        tensors[i].type = entries[i].type;
        tensors[i].dims = entries[i].dims;
        tensors[i].shape[0] = entries[i].rows;
        tensors[i].shape[1] = entries[i].cols;
        tensors[i].bytes = entry_bytes(&entries[i]);
    }
    json_t *metadata = metadata_of(gate);
    if (!metadata)
        return error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", path);
    int result = safetensors_create(path, tensors, (size_t)count, metadata, &writer, error);
    for (int i = 0; i < count && result == 0; i++)
        result = safetensors_write(writer, entries[i].data, entry_bytes(&entries[i]), error);
    if (result == 0)
        result = safetensors_finish(writer, error);
    else
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
        return error_set(error, "%s: is not a gate of offramp: its metadata lacks \"%s\"", path, key);
    return 0;
}

static int check_size(const char *path, const json_t *metadata, const char *key, int expected,
                      struct error *error)
{
    int64_t number;
    if (json_get_written_integer(path, metadata, key, 1, 1 << 28, &number, error) < 0)
        return -1;
    if (number != expected)
        return error_set(error, "%s: is for a model with %s %d, but this one has %d", path, key, (int)number,
                         expected);
    return 0;
}

static bool is_hash(const char *text)
{
    return strlen(text) == 16 && strspn(text, "0123456789abcdef") == 16;
}

static int read_metadata(const char *path, const json_t *metadata, const struct model_config *config,
                         const char *fingerprint, struct gate *gate, struct error *error)
{
    const char *name, *tap, *model, *head;
    if (read_text(path, metadata, "gate", &name, error) < 0 ||
        read_text(path, metadata, "tap", &tap, error) < 0 ||
        read_text(path, metadata, "model", &model, error) < 0 ||
        read_text(path, metadata, "head", &head, error) < 0)
        return -1;
    if (strcmp(model, fingerprint) != 0)
        return error_set(error, "%s: was trained for the model %.40s, but this one is %s", path, model,
                         fingerprint);
    if (!is_hash(head) || !is_hash(fingerprint))
        return error_set(error, "%s: metadata: \"%.40s\" is not a hash of 16 digits", path,
                         is_hash(head) ? fingerprint : head);
    if (check_size(path, metadata, "layers", config->layers, error) < 0 ||
        check_size(path, metadata, "hidden", config->hidden, error) < 0 ||
        check_size(path, metadata, "vocab", config->vocab, error) < 0)
        return -1;
    if (gate_spec_parse(name, &gate->spec, error) < 0 || tap_parse(tap, config->layers, &gate->tap, error) < 0)
        return error_prefix(error, "%s", path);
    gate->layers = config->layers;
    gate->hidden = config->hidden;
    gate->vocab = config->vocab;
    gate->width = gate_width(gate->spec.features, config->hidden);
    strcpy(gate->fingerprint, fingerprint);
    strcpy(gate->head, head);
    return 0;
}

/* Whether a gate's features know of the short list: also how frequent a token is comes from it. */
static bool has_list(const struct gate_spec *spec)
{
    return spec->features & (GATE_SHORT_LIST | GATE_CONFIDENCE | GATE_CANDIDATES);
}

/* How many units and tokens there are, by the shapes of two tensors; what is wrong with them is found later. */
static void read_sizes(const struct safetensors *file, struct gate *gate)
{
    const struct tensor *out = safetensors_find(file, "out"), *tokens = safetensors_find(file, "tokens");
    if (!gate->spec.linear && out && out->dims == 1 && out->shape[0] >= 1 && out->shape[0] <= 1 << 16)
        gate->units = out->shape[0];
    if (has_list(&gate->spec) && tokens && tokens->dims == 1 && tokens->shape[0] >= 1 &&
        tokens->shape[0] <= gate->vocab)
        gate->tokens = (int)tokens->shape[0];
}

static int allocate(struct gate *gate, struct error *error)
{
    const int64_t width = gate->width, units = gate->units;
    if (array_alloc(&gate->mean, width, error) < 0 || array_alloc(&gate->scale, width, error) < 0 ||
        array_alloc(&gate->in, 2 * units * width, error) < 0 ||
        array_alloc(&gate->in_bias, 2 * units, error) < 0 ||
        array_alloc(&gate->out, units > 0 ? units : width, error) < 0)
        return -1;
    return array_alloc(&gate->token, gate->tokens, error);
}

/* Takes the values of an entry from the file. */
static int take_tensor(const char *path, const struct safetensors *file, const struct entry *entry,
                       struct error *error)
{
    const struct tensor *tensor = safetensors_find(file, entry->name);
    if (!tensor)
        return error_set(error, "%s: the tensor \"%s\" of the gate is missing", path, entry->name);
    if (tensor->type != entry->type || tensor->dims != entry->dims || tensor->shape[0] != entry->rows ||
        (entry->dims == 2 && tensor->shape[1] != entry->cols))
        return error_set(error, "%s: the tensor \"%s\" does not have the type and shape of the gate's", path,
                         entry->name);
    memcpy(entry->data, tensor->data, entry_bytes(entry));
    for (size_t v = 0; v < entry_values(entry) && entry->type != DTYPE_I32; v++) {
        const double value =
            entry->type == DTYPE_F64 ? ((const double *)entry->data)[v] : ((const float *)entry->data)[v];
        if (!isfinite(value))
            return error_set(error, "%s: value %zu of the tensor \"%s\" is not a finite number", path, v,
                             entry->name);
    }
    return 0;
}

/* Each a token of the model, and none twice. */
static int check_tokens(const char *path, const struct gate *gate, struct error *error)
{
    bool *seen;
    int result = array_alloc(&seen, gate->vocab, error);
    for (int t = 0; t < gate->tokens && result == 0; t++) {
        const int32_t token = gate->token[t];
        if (token < 0 || token >= gate->vocab || seen[token])
            result = error_set(error, "%s: token %d of its short list, %d, is %s", path, t, (int)token,
                               token < 0 || token >= gate->vocab ? "not in the vocabulary" : "there twice");
        else
            seen[token] = true;
    }
    free(seen);
    return result;
}

static int take_tensors(const char *path, const struct safetensors *file, struct gate *gate,
                        struct error *error)
{
    double calibration[2];
    struct entry entries[TENSORS_MOST];
    const int count = list_entries(gate, calibration, entries);
    if (!gate->spec.linear && gate->units == 0)
        return error_set(error, "%s: the tensor \"out\" does not say how many units the probe has", path);
    if (has_list(&gate->spec) && gate->tokens == 0)
        return error_set(error, "%s: the tensor \"tokens\" of the short list is missing or empty", path);
    for (int i = 0; i < count; i++) {
        if (take_tensor(path, file, &entries[i], error) < 0)
            return -1;
    }
    if (safetensors_count(file) != (size_t)count)
        return error_set(error, "%s: holds %zu tensors where such a gate has %d", path, safetensors_count(file),
                         count);
    gate->slope = calibration[0];
    gate->shift = calibration[1];
    return check_tokens(path, gate, error);
}

int gate_load(const char *path, const struct model_config *config, const char *fingerprint, struct gate *gate,
              struct error *error)
{
    struct safetensors *file = NULL;
    *gate = (struct gate){0};
    int result = safetensors_open(path, &file, error);
    if (result == 0)
        result = read_metadata(path, safetensors_metadata(file), config, fingerprint, gate, error);
    if (result == 0) {
        read_sizes(file, gate);
        result = allocate(gate, error);
    }
    if (result == 0)
        result = take_tensors(path, file, gate, error);
    if (result < 0)
        gate_free(gate);
    safetensors_close(file);
    return result;
}
