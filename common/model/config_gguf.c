#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/model/config.h"
#include "common/model/family.h"
#include "common/model/gguf.h"

#define KEY_SIZE 128

/* "llama" and "block_count" make "llama.block_count". */
static const char *family_key(const struct family *family, const char *name, char key[KEY_SIZE])
{
    snprintf(key, KEY_SIZE, "%s.%s", family->gguf, name);
    return key;
}

/* The first bytes of a string, printable: for errors. */
static const char *quote(struct gguf_string string, char text[41])
{
    size_t length = string.length < 40 ? string.length : 40;
    for (size_t i = 0; i < length; i++)
        text[i] = (unsigned char)string.data[i] < 0x20 || string.data[i] == 0x7f ? '?' : string.data[i];
    text[length] = 0;
    return text;
}

static int find_family(const struct gguf *gguf, const struct family **family, struct error *error)
{
    struct gguf_string name;
    char known[256], text[41];
    if (gguf_get_string(gguf, "general.architecture", &name, error) < 0)
        return -1;
    *family = family_find_format(FORMAT_GGUF, name.data, name.length);
    if (*family)
        return 0;
    family_list(FORMAT_GGUF, known, sizeof known);
    return error_set(error, "%s: architecture \"%s\" is not supported (known are %s)", gguf_path(gguf),
                     quote(name, text), known);
}

/* The integer at "family.name"; without it `otherwise`, or an error where that is negative. */
static int read_size(const struct gguf *gguf, const struct family *family, const char *name, int otherwise,
                     int *value, struct error *error)
{
    char key[KEY_SIZE];
    int64_t number = otherwise;
    family_key(family, name, key);
    if ((otherwise < 0 || gguf_has(gguf, key)) && gguf_get_integer(gguf, key, 0, INT_MAX, &number, error) < 0)
        return -1;
    *value = (int)number;
    return 0;
}

static int read_number(const struct gguf *gguf, const struct family *family, const char *name, double otherwise,
                       double *value, struct error *error)
{
    char key[KEY_SIZE];
    *value = otherwise;
    return gguf_has(gguf, family_key(family, name, key)) ? gguf_get_number(gguf, key, value, error) : 0;
}

static int read_sizes(const struct gguf *gguf, const struct family *family, struct model_config *config,
                      struct error *error)
{
    const struct tensor *embedding = gguf_find_tensor(gguf, "token_embd.weight");
    int value_size, rotated, rows = 0;
    double epsilon;
    if (read_size(gguf, family, "block_count", -1, &config->layers, error) < 0 ||
        read_size(gguf, family, "embedding_length", -1, &config->hidden, error) < 0 ||
        read_size(gguf, family, "feed_forward_length", -1, &config->intermediate, error) < 0 ||
        read_size(gguf, family, "context_length", -1, &config->context, error) < 0 ||
        read_size(gguf, family, "attention.head_count", -1, &config->attention_heads, error) < 0 ||
        read_size(gguf, family, "attention.head_count_kv", config->attention_heads, &config->kv_heads, error) <
            0 ||
        read_size(gguf, family, "attention.sliding_window", 0, &config->window, error) < 0)
        return -1;
    if (config->attention_heads < 1)
        return error_set(error, "%s: %s.attention.head_count is 0", gguf_path(gguf), family->gguf);
    int head_size = config->hidden / config->attention_heads;
    if (read_size(gguf, family, "attention.key_length", head_size, &config->head_size, error) < 0 ||
        read_size(gguf, family, "attention.value_length", head_size, &value_size, error) < 0 ||
        read_size(gguf, family, "rope.dimension_count", config->head_size, &rotated, error) < 0)
        return -1;
    if (value_size != config->head_size)
        return error_set(
            error, "%s: an attention head has keys of %d and values of %d; only equal sizes are supported",
            gguf_path(gguf), config->head_size, value_size);
    if (rotated != config->head_size)
        return error_set(error,
                         "%s: %s.rope.dimension_count is %d; only whole attention heads of %d can be rotated",
                         gguf_path(gguf), family->gguf, rotated, config->head_size);
    if (embedding && embedding->dims == 2 && embedding->shape[0] <= INT_MAX)
        rows = (int)embedding->shape[0];
    if (read_size(gguf, family, "vocab_size", rows, &config->vocab, error) < 0)
        return -1;
    if (!embedding && config->vocab == 0)
        return error_set(error, "%s: tensor \"token_embd.weight\" is missing", gguf_path(gguf));
    char key[KEY_SIZE];
    if (gguf_get_number(gguf, family_key(family, "attention.layer_norm_rms_epsilon", key), &epsilon, error) < 0)
        return -1;
    config->norm_epsilon = (float)epsilon;
    return 0;
}

static int read_scaling(const struct gguf *gguf, const struct family *family, struct model_config *config,
                        struct error *error)
{
    struct gguf_string type = {"linear", 6};
    double factor;
    char key[KEY_SIZE], text[41];
    if (read_number(gguf, family, "rope.freq_base", 10000, &config->rope_theta, error) < 0 ||
        read_number(gguf, family, "rope.scale_linear", 1, &factor, error) < 0 ||
        read_number(gguf, family, "rope.scaling.factor", factor, &factor, error) < 0)
        return -1;
    family_key(family, "rope.scaling.type", key);
    if (gguf_has(gguf, key) && gguf_get_string(gguf, key, &type, error) < 0)
        return -1;
    if (type.length == 4 && memcmp(type.data, "none", 4) == 0)
        return 0;
    if (type.length != 6 || memcmp(type.data, "linear", 6) != 0)
        return error_set(error, "%s: key \"%s\": rope scaling \"%s\" is not supported (none and linear are)",
                         gguf_path(gguf), key, quote(type, text));
    if (factor != 0 && factor != 1) {
        config->rope_scaling = ROPE_SCALING_LINEAR;
        config->rope_factor = factor;
    }
    return 0;
}

/* Llama 3.1 and later: the scaling as a divisor for each frequency, in a tensor. */
static int read_divisors(const struct gguf *gguf, struct model_config *config, struct error *error)
{
    const struct tensor *tensor = gguf_find_tensor(gguf, "rope_freqs.weight");
    if (!tensor)
        return 0;
    int count = config->head_size / 2;
    if (tensor->type != DTYPE_F32 || tensor->dims != 1 || tensor->shape[0] != count ||
        count > HEAD_SIZE_MAX / 2)
        return error_set(error,
                         "%s: tensor \"rope_freqs.weight\" is %s with %" PRId64 " values, f32 with %d expected",
                         gguf_path(gguf), dtype_name(tensor->type), tensor->shape[0], count);
    memcpy(config->rope_divisors, tensor->data, tensor->bytes);
    if (config->rope_scaling == ROPE_SCALING_LINEAR)
        for (int i = 0; i < count; i++)
            config->rope_divisors[i] *= (float)config->rope_factor;
    config->rope_scaling = ROPE_SCALING_TABLE;
    return 0;
}

/* An id that is not in the vocabulary counts as none. */
static int read_eos(const struct gguf *gguf, int vocab, int *eos, struct error *error)
{
    static const char key[] = "tokenizer.ggml.eos_token_id";
    int64_t id = -1;
    if (gguf_has(gguf, key) && gguf_get_integer(gguf, key, INT64_MIN, INT64_MAX, &id, error) < 0)
        return -1;
    *eos = id >= 0 && id < vocab ? (int)id : -1;
    return 0;
}

/* Capped logits are cap tanh(z / cap): of the output's, u (docs/design.md) would not be what a head learns from. */
static int refuse_capping(const struct gguf *gguf, const struct family *family, const char *name,
                          struct error *error)
{
    char key[KEY_SIZE];
    double cap;
    if (read_number(gguf, family, name, 0, &cap, error) < 0)
        return -1;
    if (cap != 0)
        return error_set(error, "%s: key \"%s\" is %g: models with soft-capped logits are not supported",
                         gguf_path(gguf), family_key(family, name, key), cap);
    return 0;
}

/* Refuses what would be run wrongly: a model in several files, a mixture of experts, or soft-capped logits. */
static int refuse_variants(const struct gguf *gguf, const struct family *family, struct error *error)
{
    int64_t parts = 1;
    int experts;
    if (gguf_has(gguf, "split.count") && gguf_get_integer(gguf, "split.count", 0, INT_MAX, &parts, error) < 0)
        return -1;
    if (parts > 1)
        return error_set(error,
                         "%s: the file is one of %" PRId64
                         " parts of a model; join them first (llama-gguf-split --merge)",
                         gguf_path(gguf), parts);
    if (read_size(gguf, family, "expert_count", 0, &experts, error) < 0)
        return -1;
    if (experts > 0)
        return error_set(error, "%s: the model is a mixture of %d experts, which is not supported",
                         gguf_path(gguf), experts);
    return refuse_capping(gguf, family, "final_logit_softcapping", error) < 0
               ? -1
               : refuse_capping(gguf, family, "attn_logit_softcapping", error);
}

int config_from_gguf(const struct gguf *gguf, struct model_config *config, struct error *error)
{
    const struct family *family;
    *config = (struct model_config){0};
    if (find_family(gguf, &family, error) < 0 || refuse_variants(gguf, family, error) < 0 ||
        read_sizes(gguf, family, config, error) < 0 || read_scaling(gguf, family, config, error) < 0 ||
        read_divisors(gguf, config, error) < 0 || read_eos(gguf, config->vocab, &config->eos, error) < 0)
        return -1;
    snprintf(config->family, sizeof config->family, "%s", family->name);
    config->rope_pairs = family->gguf_pairs;
    config->qk_norms = family->qk_norms;
    config->attention_bias = family->attention_bias || gguf_find_tensor(gguf, "blk.0.attn_q.bias");
    config->output_bias = gguf_find_tensor(gguf, "blk.0.attn_output.bias") != NULL;
    config->mlp_bias = gguf_find_tensor(gguf, "blk.0.ffn_gate.bias") != NULL;
    config->tied = !gguf_find_tensor(gguf, "output.weight");
    return config_check(gguf_path(gguf), config, error);
}
