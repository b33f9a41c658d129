#include "common/model/model.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/model/safetensors.h"

struct model {
    char *path;
    struct model_config config;
    enum model_format format;
    struct gguf *gguf; /* one of the two */
    struct safetensors *safetensors;
    const struct tensor **tensors; /* [layers][ROLE_COUNT]; roles that are once a model: in row 0 */
};

/* ---- the file's tensors, whatever its format ---- */

static size_t file_tensor_count(const struct model *model)
{
    return model->gguf ? gguf_tensor_count(model->gguf) : safetensors_count(model->safetensors);
}

static const struct tensor *file_tensor(const struct model *model, size_t index)
{
    return model->gguf ? gguf_tensor(model->gguf, index) : safetensors_tensor(model->safetensors, index);
}

static const struct tensor *file_find(const struct model *model, const char *name)
{
    return model->gguf ? gguf_find_tensor(model->gguf, name) : safetensors_find(model->safetensors, name);
}

/* ---- checks ---- */

/* "[960, 320]" */
static const char *shape_text(const int64_t *shape, int dims, char text[96])
{
    int length = snprintf(text, 96, "[");
    for (int i = 0; i < dims; i++)
        length += snprintf(text + length, 96 - (size_t)length, "%s%" PRId64, i ? ", " : "", shape[i]);
    snprintf(text + length, 96 - (size_t)length, "]");
    return text;
}

/* "q of layer 3", layers counted from 1 as everywhere in what people read. */
static const char *where_text(enum tensor_role role, int layer, char text[64])
{
    if (role_is_per_layer(role))
        snprintf(text, 64, "%s of layer %d", role_name(role), layer + 1);
    else
        snprintf(text, 64, "%s", role_name(role));
    return text;
}

static int check_type(const struct tensor *tensor, int dims, const char *where, struct error *error)
{
    bool plain = tensor->type == DTYPE_F32 || tensor->type == DTYPE_F16 || tensor->type == DTYPE_BF16;
    bool blocks = tensor->type == DTYPE_Q8_0 || tensor->type == DTYPE_Q4_0 || tensor->type == DTYPE_Q4_1;
    if (plain || (blocks && dims == 2))
        return 0;
    return error_set(error, "%s: tensor \"%s\" (%s) is of type %s; %s expected", tensor->file, tensor->name,
                     where, dtype_name(tensor->type),
                     dims == 2 ? "f32, f16, bf16, q8_0, q4_0 or q4_1" : "f32, f16 or bf16");
}

static const struct tensor *find_role(const struct model *model, int layer, enum tensor_role role)
{
    char name[TENSOR_NAME_SIZE];
    const struct tensor *tensor = NULL;
    for (int spelling = 0; !tensor && spelling < 3; spelling++)
        if (role_file_name(role, model->format, layer, spelling, name))
            tensor = file_find(model, name);
    return tensor;
}

static int missing_tensor(const struct model *model, const char *name, const char *where, const char *shape,
                          enum tensor_role role, struct error *error)
{
    const bool untied = role == ROLE_OUTPUT && model->format == FORMAT_HF;
    return error_set(error, "%s: tensor \"%s\" (%s, %s) is missing%s", model->path, name, where, shape,
                     untied ? ". A model whose embedding is the output weight as well says "
                              "\"tie_word_embeddings\": true in config.json"
                            : "");
}

/* Finds a role's tensor and checks it. It stays NULL where the config has none. */
static int claim_tensor(struct model *model, int layer, enum tensor_role role, struct error *error)
{
    char name[TENSOR_NAME_SIZE], where[64], wanted[96], found[96];
    int64_t shape[2];
    int dims = role_shape(&model->config, role, shape);
    if (dims == 0)
        return 0;
    role_tensor_name(role, model->format, layer, name);
    where_text(role, layer, where);
    shape_text(shape, dims, wanted);
    const struct tensor *tensor = find_role(model, layer, role);
    if (!tensor && role == ROLE_EMBEDDING && model->config.tied)
        tensor = find_role(model, 0, ROLE_OUTPUT); /* one of the two is enough, whichever */
    if (!tensor)
        return missing_tensor(model, name, where, wanted, role, error);
    if (tensor->dims != dims || memcmp(tensor->shape, shape, (size_t)dims * sizeof *shape) != 0)
        return error_set(error, "%s: tensor \"%s\" (%s) has shape %s, %s expected", tensor->file, tensor->name,
                         where, shape_text(tensor->shape, tensor->dims, found), wanted);
    if (check_type(tensor, dims, where, error) < 0)
        return -1;
    model->tensors[(size_t)layer * ROLE_COUNT + role] = tensor;
    return 0;
}

static bool same_values(const struct tensor *a, const struct tensor *b)
{
    const bool same = a->type == b->type && a->bytes == b->bytes && a->dims == b->dims &&
                      memcmp(a->shape, b->shape, sizeof a->shape) == 0 &&
                      memcmp(a->data, b->data, a->bytes) == 0;
    tensor_release(a);
    tensor_release(b);
    return same;
}

/* What the file holds counts more than what its config says, as in transformers: an output weight that differs
 * from the embedding is the model's, and one that does not differ is the embedding. */
static void settle_output(struct model *model)
{
    const struct tensor *embedding = find_role(model, 0, ROLE_EMBEDDING),
                        *output = find_role(model, 0, ROLE_OUTPUT);
    if (embedding && output)
        model->config.tied = same_values(embedding, output);
}

static int claim_tensors(struct model *model, struct error *error)
{
    settle_output(model);
    for (int role = 0; role < ROLE_COUNT; role++) {
        int layers = role_is_per_layer((enum tensor_role)role) ? model->config.layers : 1;
        for (int layer = 0; layer < layers; layer++)
            if (claim_tensor(model, layer, (enum tensor_role)role, error) < 0)
                return -1;
    }
    return 0;
}

/* A copy of the embedding under the output weight's name, which may have the prefix of a larger model. */
static bool is_tied_copy(const struct model *model, const struct tensor *tensor)
{
    return model->config.tied && role_names_output(model->format, tensor->name) &&
           same_values(tensor, model_tensor(model, 0, ROLE_EMBEDDING));
}

/* Every tensor of the file must have been claimed, or be one that a model may do without. A model that has more
 * than that would be run wrongly. */
static int refuse_extras(const struct model *model, struct error *error)
{
    size_t slots = (size_t)model->config.layers * ROLE_COUNT, count = file_tensor_count(model);
    const struct tensor *first = count ? file_tensor(model, 0) : NULL;
    bool *claimed;
    char shape[96];
    int result = 0;
    if (array_alloc(&claimed, count, error) < 0)
        return -1;
    for (size_t i = 0; i < slots; i++)
        if (model->tensors[i])
            claimed[model->tensors[i] - first] = true;
    for (size_t i = 0; i < count && result == 0; i++) {
        const struct tensor *tensor = file_tensor(model, i);
        if (!claimed[i] && !is_tied_copy(model, tensor) &&
            !role_ignores(&model->config, model->format, tensor->name))
            result = error_set(error, "%s: tensor \"%s\" %s does not belong in a %s model of this config",
                               tensor->file, tensor->name, shape_text(tensor->shape, tensor->dims, shape),
                               model->config.family);
    }
    free(claimed);
    return result;
}

/* ---- opening ---- */

static int open_folder(struct model *model, struct error *error)
{
    char *path = path_join(model->path, "config.json", error);
    json_t *object = path ? json_read_fetched(path, error) : NULL;
    int result = -1;
    if (object && config_from_hf(path, object, &model->config, error) == 0)
        result = safetensors_open(model->path, &model->safetensors, error);
    json_decref(object);
    free(path);
    return result;
}

static int open_parts(struct model *model, struct error *error)
{
    if (path_is_directory(model->path)) {
        model->format = FORMAT_HF;
        if (open_folder(model, error) < 0)
            return -1;
    } else {
        model->format = FORMAT_GGUF;
        if (gguf_open(model->path, &model->gguf, error) < 0 ||
            config_from_gguf(model->gguf, &model->config, error) < 0)
            return -1;
    }
    if (array_alloc(&model->tensors, (size_t)model->config.layers * ROLE_COUNT, error) < 0)
        return -1;
    return claim_tensors(model, error) < 0 ? -1 : refuse_extras(model, error);
}

int model_open(const char *path, struct model **result, struct error *error)
{
    struct model *model;
    *result = NULL;
    if (array_alloc(&model, 1, error) < 0)
        return -1;
    model->path = string_copy(path, error);
    if (!model->path || open_parts(model, error) < 0) {
        model_close(model);
        return -1;
    }
    *result = model;
    return 0;
}

void model_close(struct model *model)
{
    if (!model)
        return;
    free(model->tensors);
    gguf_close(model->gguf);
    safetensors_close(model->safetensors);
    free(model->path);
    free(model);
}

/* ---- questions ---- */

const char *model_path(const struct model *model)
{
    return model->path;
}

const struct model_config *model_config(const struct model *model)
{
    return &model->config;
}

const struct gguf *model_gguf(const struct model *model)
{
    return model->gguf;
}

const struct tensor *model_tensor(const struct model *model, int layer, enum tensor_role role)
{
    role = role_holder(&model->config, role);
    return model->tensors[(size_t)(role_is_per_layer(role) ? layer : 0) * ROLE_COUNT + role];
}

int model_fingerprint(const struct model *model, char fingerprint[17], struct error *error)
{
    json_t *object = config_to_json(&model->config, error);
    char *text = object ? json_text(model->path, object, JSON_COMPACT, error) : NULL;
    json_decref(object);
    if (!text)
        return -1;
    uint64_t hash = hash_bytes(text, strlen(text), 0);
    free(text);
    for (size_t i = 0; i < (size_t)model->config.layers * ROLE_COUNT; i++) {
        if (!model->tensors[i])
            continue;
        if (cli_interrupted())
            return error_set_kind(error, ERROR_INTERRUPTED, "interrupted while the weights were read");
        hash = hash_bytes(model->tensors[i]->data, model->tensors[i]->bytes, hash);
        tensor_release(model->tensors[i]); /* else the whole file would be in memory at once */
    }
    hash_print(hash, fingerprint);
    return 0;
}
