#include "common/model/role.h"

#include <stdio.h>
#include <string.h>

/* Sizes a shape is made of, as functions of the config. */
enum extent { NOTHING, HIDDEN, VOCAB, QUERIES, KEYS, HEAD, INTERMEDIATE };

/* What a config must have for a role to be there. */
enum need { ALWAYS, UNTIED, ATTENTION_BIAS, OUTPUT_BIAS, QK_NORMS, MLP_BIAS };

static const struct {
    const char *name;
    bool per_layer;
    const char *gguf, *hf; /* behind "blk.N." and "model.layers.N." when per layer */
    enum extent shape[2]; /* slowest first; the second is NOTHING for a vector */
    enum need need;
} roles[ROLE_COUNT] = {
    [ROLE_EMBEDDING] =
        {"embedding", false, "token_embd.weight", "model.embed_tokens.weight", {VOCAB, HIDDEN}, ALWAYS},
    [ROLE_FINAL_NORM] = {"final_norm", false, "output_norm.weight", "model.norm.weight", {HIDDEN}, ALWAYS},
    [ROLE_OUTPUT] = {"output", false, "output.weight", "lm_head.weight", {VOCAB, HIDDEN}, UNTIED},
    [ROLE_ATTENTION_NORM] =
        {"attention_norm", true, "attn_norm.weight", "input_layernorm.weight", {HIDDEN}, ALWAYS},
    [ROLE_Q] = {"q", true, "attn_q.weight", "self_attn.q_proj.weight", {QUERIES, HIDDEN}, ALWAYS},
    [ROLE_K] = {"k", true, "attn_k.weight", "self_attn.k_proj.weight", {KEYS, HIDDEN}, ALWAYS},
    [ROLE_V] = {"v", true, "attn_v.weight", "self_attn.v_proj.weight", {KEYS, HIDDEN}, ALWAYS},
    [ROLE_O] = {"o", true, "attn_output.weight", "self_attn.o_proj.weight", {HIDDEN, QUERIES}, ALWAYS},
    [ROLE_Q_BIAS] = {"q_bias", true, "attn_q.bias", "self_attn.q_proj.bias", {QUERIES}, ATTENTION_BIAS},
    [ROLE_K_BIAS] = {"k_bias", true, "attn_k.bias", "self_attn.k_proj.bias", {KEYS}, ATTENTION_BIAS},
    [ROLE_V_BIAS] = {"v_bias", true, "attn_v.bias", "self_attn.v_proj.bias", {KEYS}, ATTENTION_BIAS},
    [ROLE_O_BIAS] = {"o_bias", true, "attn_output.bias", "self_attn.o_proj.bias", {HIDDEN}, OUTPUT_BIAS},
    [ROLE_Q_NORM] = {"q_norm", true, "attn_q_norm.weight", "self_attn.q_norm.weight", {HEAD}, QK_NORMS},
    [ROLE_K_NORM] = {"k_norm", true, "attn_k_norm.weight", "self_attn.k_norm.weight", {HEAD}, QK_NORMS},
    [ROLE_MLP_NORM] =
        {"mlp_norm", true, "ffn_norm.weight", "post_attention_layernorm.weight", {HIDDEN}, ALWAYS},
    [ROLE_MLP_GATE] =
        {"mlp_gate", true, "ffn_gate.weight", "mlp.gate_proj.weight", {INTERMEDIATE, HIDDEN}, ALWAYS},
    [ROLE_MLP_UP] = {"mlp_up", true, "ffn_up.weight", "mlp.up_proj.weight", {INTERMEDIATE, HIDDEN}, ALWAYS},
    [ROLE_MLP_DOWN] =
        {"mlp_down", true, "ffn_down.weight", "mlp.down_proj.weight", {HIDDEN, INTERMEDIATE}, ALWAYS},
    [ROLE_GATE_BIAS] = {"mlp_gate_bias", true, "ffn_gate.bias", "mlp.gate_proj.bias", {INTERMEDIATE}, MLP_BIAS},
    [ROLE_UP_BIAS] = {"mlp_up_bias", true, "ffn_up.bias", "mlp.up_proj.bias", {INTERMEDIATE}, MLP_BIAS},
    [ROLE_DOWN_BIAS] = {"mlp_down_bias", true, "ffn_down.bias", "mlp.down_proj.bias", {HIDDEN}, MLP_BIAS},
};

const char *role_name(enum tensor_role role)
{
    return roles[role].name;
}

bool role_is_per_layer(enum tensor_role role)
{
    return roles[role].per_layer;
}

void role_tensor_name(enum tensor_role role, enum model_format format, int layer, char name[TENSOR_NAME_SIZE])
{
    const char *own = format == FORMAT_GGUF ? roles[role].gguf : roles[role].hf;
    const char *folder = format == FORMAT_GGUF ? "blk" : "model.layers";
    if (roles[role].per_layer)
        snprintf(name, TENSOR_NAME_SIZE, "%s.%d.%s", folder, layer, own);
    else
        snprintf(name, TENSOR_NAME_SIZE, "%s", own);
}

static bool config_has(const struct model_config *config, enum need need)
{
    switch (need) {
    case ALWAYS: return true;
    case UNTIED: return !config->tied;
    case ATTENTION_BIAS: return config->attention_bias;
    case OUTPUT_BIAS: return config->output_bias;
    case QK_NORMS: return config->qk_norms;
    case MLP_BIAS: return config->mlp_bias;
    }
    return false;
}

static int64_t config_extent(const struct model_config *config, enum extent extent)
{
    switch (extent) {
    case NOTHING: return 0;
    case HIDDEN: return config->hidden;
    case VOCAB: return config->vocab;
    case QUERIES: return (int64_t)config->attention_heads * config->head_size;
    case KEYS: return (int64_t)config->kv_heads * config->head_size;
    case HEAD: return config->head_size;
    case INTERMEDIATE: return config->intermediate;
    }
    return 0;
}

int role_shape(const struct model_config *config, enum tensor_role role, int64_t shape[2])
{
    if (role == ROLE_NONE || !config_has(config, roles[role].need))
        return 0;
    for (int i = 0; i < 2; i++)
        shape[i] = config_extent(config, roles[role].shape[i]);
    return roles[role].shape[1] == NOTHING ? 1 : 2;
}

int64_t role_rows(const struct model_config *config, enum tensor_role role)
{
    int64_t shape[2];
    return role_shape(config, role, shape) > 0 ? shape[0] : 0;
}

int64_t role_values(const struct model_config *config, enum tensor_role role)
{
    int64_t shape[2];
    const int dims = role_shape(config, role, shape);
    return dims == 0 ? 0 : dims == 1 ? shape[0] : shape[0] * shape[1];
}

enum tensor_role role_holder(const struct model_config *config, enum tensor_role role)
{
    return role == ROLE_OUTPUT && config->tied ? ROLE_EMBEDDING : role;
}

/* ---- names in files ---- */

bool role_file_name(enum tensor_role role, enum model_format format, int layer, int spelling,
                    char name[TENSOR_NAME_SIZE])
{
    static const char prefix[] = "model.";
    const size_t length = sizeof prefix - 1;
    role_tensor_name(role, format, layer, name); /* much shorter than there is room for */
    if (spelling == 0)
        return true;
    if (format != FORMAT_HF || spelling > 2)
        return false;
    if (spelling == 1) {
        memmove(name + length, name, strlen(name) + 1);
        memcpy(name, prefix, length);
        return true;
    }
    if (strncmp(name, prefix, length) != 0)
        return false;
    memmove(name, name + length, strlen(name + length) + 1);
    return true;
}

static bool ends_with(const char *name, const char *end)
{
    const size_t length = strlen(name), rest = strlen(end);
    return length >= rest && strcmp(name + length - rest, end) == 0;
}

bool role_names_output(enum model_format format, const char *name)
{
    const char *own = roles[ROLE_OUTPUT].hf;
    if (format == FORMAT_GGUF)
        return strcmp(name, roles[ROLE_OUTPUT].gguf) == 0;
    const size_t length = strlen(name), rest = strlen(own);
    return strcmp(name, own) == 0 || (ends_with(name, own) && name[length - rest - 1] == '.');
}

bool role_ignores(const struct model_config *config, enum model_format format, const char *name)
{
    if (format == FORMAT_GGUF) /* the config has it as divisors of the frequencies */
        return config->rope_scaling == ROPE_SCALING_TABLE && strcmp(name, "rope_freqs.weight") == 0;
    /* Older exports hold the rotary frequencies, once or for each layer. They follow from the config. */
    return ends_with(name, "rotary_emb.inv_freq");
}
