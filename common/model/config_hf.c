#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/base/json.h"
#include "common/model/config.h"
#include "common/model/family.h"

/* What transformers takes when the key is left out. */
#define MISTRAL_WINDOW    4096
#define QWEN_WINDOW_LAYER 28

/* A member that is there and not null. */
static json_t *member(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* The integer at key; without it `otherwise`, or an error where that is negative. */
static int read_size(const char *path, const json_t *object, const char *key, int otherwise, int *value,
                     struct error *error)
{
    int64_t number = otherwise;
    if ((otherwise < 0 || member(object, key)) &&
        json_get_integer(path, object, key, 0, INT_MAX, &number, error) < 0)
        return -1;
    *value = (int)number;
    return 0;
}

static int read_number(const char *path, const json_t *object, const char *key, double otherwise, double *value,
                       struct error *error)
{
    *value = otherwise;
    return member(object, key) ? json_get_number(path, object, key, value, error) : 0;
}

static int read_flag(const char *path, const json_t *object, const char *key, bool *value, struct error *error)
{
    json_t *flag = member(object, key);
    if (flag && !json_is_boolean(flag))
        return error_set(error, "%s: \"%s\" is not true or false", path, key);
    *value = json_is_true(flag);
    return 0;
}

static int find_family(const char *path, const json_t *object, const struct family **family,
                       struct error *error)
{
    const char *type;
    char known[256];
    if (json_get_string(path, object, "model_type", &type, error) < 0)
        return -1;
    *family = family_find_format(FORMAT_HF, type, strlen(type));
    if (*family)
        return 0;
    family_list(FORMAT_HF, known, sizeof known);
    return error_set(error, "%s: model_type \"%.40s\" is not supported (known are %s)", path, type, known);
}

static int read_sizes(const char *path, const json_t *object, const struct family *family,
                      struct model_config *config, struct error *error)
{
    double epsilon;
    if (read_size(path, object, "num_hidden_layers", -1, &config->layers, error) < 0 ||
        read_size(path, object, "hidden_size", -1, &config->hidden, error) < 0 ||
        read_size(path, object, "intermediate_size", -1, &config->intermediate, error) < 0 ||
        read_size(path, object, "vocab_size", -1, &config->vocab, error) < 0 ||
        read_size(path, object, "max_position_embeddings", -1, &config->context, error) < 0 ||
        read_size(path, object, "num_attention_heads", -1, &config->attention_heads, error) < 0 ||
        read_size(path, object, "num_key_value_heads", config->attention_heads, &config->kv_heads, error) < 0 ||
        read_number(path, object, "rms_norm_eps", 1e-6, &epsilon, error) < 0)
        return -1;
    if (config->attention_heads < 1)
        return error_set(error, "%s: \"num_attention_heads\" is 0", path);
    config->norm_epsilon = (float)epsilon;
    int head_size = family->hf_head_size ? family->hf_head_size : config->hidden / config->attention_heads;
    return read_size(path, object, "head_dim", head_size, &config->head_size, error);
}

/* ---- rope ---- */

/* Newer files have everything in "rope_parameters", older ones "rope_theta" beside "rope_scaling". */
static int read_rope(const char *path, const json_t *object, struct model_config *config, struct error *error)
{
    json_t *rope = member(object, "rope_parameters");
    const char *key = rope ? "rope_parameters" : "rope_scaling";
    double rotated;
    if (!rope)
        rope = member(object, "rope_scaling");
    if (rope && !json_is_object(rope))
        return error_set(error, "%s: \"%s\" is not an object", path, key);
    if (read_number(path, object, "rope_theta", 10000, &config->rope_theta, error) < 0 ||
        read_number(path, rope, "rope_theta", config->rope_theta, &config->rope_theta, error) < 0 ||
        read_number(path, object, "partial_rotary_factor", 1, &rotated, error) < 0 ||
        read_number(path, rope, "partial_rotary_factor", rotated, &rotated, error) < 0)
        return -1;
    if (rotated != 1)
        return error_set(error,
                         "%s: \"partial_rotary_factor\" is %g; only whole attention heads can be rotated", path,
                         rotated);
    json_t *type = member(rope, "rope_type") ? member(rope, "rope_type") : member(rope, "type");
    if (!rope || (type && json_is_string(type) && strcmp(json_string_value(type), "default") == 0))
        return 0;
    if (!json_is_string(type))
        return error_set(error, "%s: \"%s\" has no \"rope_type\"", path, key);
    if (strcmp(json_string_value(type), "linear") == 0) {
        config->rope_scaling = ROPE_SCALING_LINEAR;
        return json_get_number(path, rope, "factor", &config->rope_factor, error);
    }
    if (strcmp(json_string_value(type), "llama3") == 0) {
        config->rope_scaling = ROPE_SCALING_LLAMA3;
        if (json_get_number(path, rope, "factor", &config->rope_factor, error) < 0 ||
            json_get_number(path, rope, "low_freq_factor", &config->rope_low, error) < 0 ||
            json_get_number(path, rope, "high_freq_factor", &config->rope_high, error) < 0)
            return -1;
        return read_size(path, rope, "original_max_position_embeddings", -1, &config->rope_original, error);
    }
    return error_set(error, "%s: rope scaling \"%.40s\" is not supported (default, linear and llama3 are)",
                     path, json_string_value(type));
}

/* ---- sliding window ---- */

/* "layer_types" may name each layer: those with full attention first, then those with the window. */
static int read_layer_types(const char *path, const json_t *types, struct model_config *config,
                            struct error *error)
{
    int first = config->layers;
    if (json_array_size(types) != (size_t)config->layers)
        return error_set(error, "%s: \"layer_types\" is not a list of %d names", path, config->layers);
    for (int i = 0; i < config->layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        bool sliding = type && strcmp(type, "sliding_attention") == 0;
        if (!type || (!sliding && strcmp(type, "full_attention") != 0))
            return error_set(error,
                             "%s: \"layer_types\" holds \"%.40s\"; full_attention and sliding_attention are "
                             "supported",
                             path, type ? type : "?");
        if (sliding && first == config->layers)
            first = i;
        if (!sliding && first < config->layers)
            return error_set(
                error,
                "%s: layer %d has full attention behind layers with a sliding window, which is not "
                "supported",
                path, i + 1);
    }
    config->window_layer = first;
    return 0;
}

static int read_window(const char *path, const json_t *object, const struct family *family,
                       struct model_config *config, struct error *error)
{
    json_t *types = member(object, "layer_types");
    bool used = true;
    int otherwise = 0;
    if (family->hf_window == WINDOW_NEVER)
        return 0;
    if (family->hf_window == WINDOW_STATED && !json_object_get(object, "sliding_window"))
        otherwise = MISTRAL_WINDOW;
    if (read_size(path, object, "sliding_window", otherwise, &config->window, error) < 0)
        return -1;
    if (family->hf_window == WINDOW_SWITCHED) {
        if (read_flag(path, object, "use_sliding_window", &used, error) < 0 ||
            read_size(path, object, "max_window_layers", QWEN_WINDOW_LAYER, &config->window_layer, error) < 0 ||
            (types && read_layer_types(path, types, config, error) < 0))
            return -1;
    }
    if (!used || config->window == 0 || config->window_layer >= config->layers)
        config->window = config->window_layer = 0;
    return 0;
}

/* ---- the whole ---- */

/* An id that is not in the vocabulary counts as none: most uses of a model need no end of text. */
static int read_eos(const json_t *object, int vocab)
{
    json_t *value = member(object, "eos_token_id");
    if (json_is_array(value)) /* Llama 3 lists several; the first ends a text */
        value = json_array_get(value, 0);
    const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    return id >= 0 && id < vocab ? (int)id : -1;
}

static int refuse_variants(const char *path, const json_t *object, struct error *error)
{
    json_t *activation = member(object, "hidden_act");
    if (activation && (!json_is_string(activation) || strcmp(json_string_value(activation), "silu") != 0))
        return error_set(error, "%s: \"hidden_act\" is \"%.40s\"; only silu is supported", path,
                         json_is_string(activation) ? json_string_value(activation) : "?");
    if (member(object, "quantization_config"))
        return error_set(
            error,
            "%s: the model is quantised (\"quantization_config\"); use the original model, or a GGUF file",
            path);
    /* Capped logits are cap tanh(z / cap): of the output's, u (docs/design.md) would not be what a head learns from. */
    static const char *const caps[] = {"final_logit_softcapping", "attn_logit_softcapping"};
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        const json_t *cap = member(object, caps[i]);
        if (cap && json_number_value(cap) != 0)
            return error_set(error, "%s: it has \"%s\": models with soft-capped logits are not supported", path,
                             caps[i]);
    }
    return 0;
}

int config_from_hf(const char *path, const json_t *object, struct model_config *config, struct error *error)
{
    const struct family *family;
    bool bias = false, mlp_bias = false;
    *config = (struct model_config){0};
    if (!json_is_object(object))
        return error_set(error, "%s: it is not a JSON object", path);
    if (find_family(path, object, &family, error) < 0 || refuse_variants(path, object, error) < 0 ||
        read_sizes(path, object, family, config, error) < 0 || read_rope(path, object, config, error) < 0 ||
        read_window(path, object, family, config, error) < 0 ||
        (family->hf_attention_bias && read_flag(path, object, "attention_bias", &bias, error) < 0) ||
        (family->hf_mlp_bias && read_flag(path, object, "mlp_bias", &mlp_bias, error) < 0) ||
        read_flag(path, object, "tie_word_embeddings", &config->tied, error) < 0)
        return -1;
    config->eos = read_eos(object, config->vocab);
    snprintf(config->family, sizeof config->family, "%s", family->name);
    config->rope_pairs = ROPE_HALVES;
    config->qk_norms = family->qk_norms;
    config->attention_bias = family->attention_bias || bias;
    config->output_bias = bias;
    config->mlp_bias = mlp_bias;
    return config_check(path, config, error);
}
