/* export_eagle3.c: a draft as the published checkpoints of EAGLE-3 have it (Li et al. 2025, arXiv 2503.01840), in the
 * layout of `speculators`, which vLLM serves. docs/formats.md lists the tensors. */
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/head/draft.h"
#include "train/draft_work.h"
#include "train/export_format.h"

static int check_taps(const struct head_spec *spec, struct error *error)
{
    struct tap taps[HEAD_TAPS];
    const int count = head_spec_taps(spec, taps);
    bool mid = false;
    for (int i = 0; i < count; i++)
        mid = mid || taps[i].mid;
    if (count == HEAD_TAPS && !mid)
        return 0;
    return error_set(error, "EAGLE-3 reads the states behind exactly three layers; this draft reads %s",
                     mid ? "the middle of one" : "fewer");
}

static int check(const struct export_subject *subject, struct error *error)
{
    const struct head_spec *spec = head_get_spec(subject->head);
    const struct model_config *config = head_get_config(subject->head);
    if (!head_kind_is_draft(spec->kind))
        return error_set(error, "EAGLE-3 has no head of kind %s (it has draft)", head_kind_name(spec->kind));
    if (config->rope_scaling == ROPE_SCALING_TABLE)
        return error_set(
            error, "EAGLE-3's config.json cannot say how this GGUF file scales positions; extract from the "
                   "model's safetensors instead");
    return check_taps(spec, error);
}

/* ---- tensors ---- */

static const struct {
    const char *name, *parameter;
} parts[] = {
    {"fc.weight", "fc"},
    {"layers.0.input_layernorm.weight", "input_norm"},
    {"layers.0.hidden_norm.weight", "hidden_norm"},
    {"layers.0.post_attention_layernorm.weight", "mlp_norm"},
    {"layers.0.self_attn.q_proj.weight", "q"},
    {"layers.0.self_attn.k_proj.weight", "k"},
    {"layers.0.self_attn.v_proj.weight", "v"},
    {"layers.0.self_attn.o_proj.weight", "o"},
    {"layers.0.mlp.gate_proj.weight", "gate"},
    {"layers.0.mlp.up_proj.weight", "up"},
    {"layers.0.mlp.down_proj.weight", "down"},
    {"norm.weight", "scale"},
    {"lm_head.weight", "output"},
};

/* The draft's tokens both ways: d2t[i] is how far token i's id is from i, t2d which tokens the draft has. */
static int add_tokens(struct export_tensors *list, const struct export_subject *subject, struct error *error)
{
    const int count = head_get_spec(subject->head)->draft_vocab;
    int32_t *tokens;
    void *offsets, *has;
    int result = -1;
    if (array_alloc(&tokens, count, error) < 0)
        return -1;
    if (draft_get_tokens(subject->head, subject->queue, tokens, error) == 0 &&
        export_tensors_add(list, "d2t", DTYPE_I64, count, 0, &offsets, error) == 0 &&
        export_tensors_add(list, "t2d", DTYPE_BOOL, subject->stores->config.vocab, 0, &has, error) == 0) {
        for (int i = 0; i < count; i++) {
            ((int64_t *)offsets)[i] = tokens[i] - i;
            ((uint8_t *)has)[tokens[i]] = 1;
        }
        result = 0;
    }
    free(tokens);
    return result;
}

static int add_tensors(struct export_tensors *list, const struct export_subject *subject, struct error *error)
{
    const char *embedding = subject->stores->config.tied ? "output" : "embedding";
    if (export_tensors_add_source(list, subject, "embed_tokens.weight", embedding, error) < 0)
        return -1;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (export_tensors_add_parameter(list, subject, parts[i].name, parts[i].parameter, error) < 0)
            return -1;
    }
    return add_tokens(list, subject, error);
}

/* ---- config.json ---- */

static json_t *rope_to_json(const struct model_config *config)
{
    switch (config->rope_scaling) {
    case ROPE_SCALING_LINEAR:
        return json_pack("{ss sf sf}", "rope_type", "linear", "rope_theta", config->rope_theta, "factor",
                         config->rope_factor);
    case ROPE_SCALING_LLAMA3:
        return json_pack("{ss sf sf sf sf si}", "rope_type", "llama3", "rope_theta", config->rope_theta,
                         "factor", config->rope_factor, "low_freq_factor", config->rope_low, "high_freq_factor",
                         config->rope_high, "original_max_position_embeddings", config->rope_original);
    default: return json_pack("{ss sf}", "rope_type", "default", "rope_theta", config->rope_theta);
    }
}

/* The draft's layer as a Llama of one layer, whatever the model's family: it has no biases and no norms of queries and
 * keys. */
static json_t *layer_to_json(const struct model_config *config)
{
    return json_pack("{ss s[s] si si si si si si si ss si sf sb sb sb so ss}", "model_type", "llama",
                     "architectures", "LlamaForCausalLM", "vocab_size", config->vocab, "hidden_size",
                     config->hidden, "intermediate_size", config->intermediate, "num_hidden_layers", 1,
                     "num_attention_heads", config->attention_heads, "num_key_value_heads", config->kv_heads,
                     "head_dim", config->head_size, "hidden_act", "silu", "max_position_embeddings",
                     config->context, "rms_norm_eps", (double)config->norm_epsilon, "attention_bias", false,
                     "mlp_bias", false, "tie_word_embeddings", false, "rope_parameters", rope_to_json(config),
                     "dtype", "float32");
}

static json_t *taps_to_json(const struct head_spec *spec)
{
    struct tap taps[HEAD_TAPS];
    json_t *ids = json_array();
    const int count = head_spec_taps(spec, taps);
    for (int i = 0; i < count; i++)
        json_array_append_new(ids, json_integer(taps[i].layer));
    return ids;
}

static const char *architecture_of(const char *family)
{
    static const char *const names[][2] = {
        {"mistral", "MistralForCausalLM"}, {"qwen2", "Qwen2ForCausalLM"}, {"qwen3", "Qwen3ForCausalLM"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(family, names[i][0]))
            return names[i][1];
    return "LlamaForCausalLM";
}

/* What the draft is served beside, and how. */
static json_t *service_to_json(const struct export_subject *subject)
{
    const json_t *model = json_object_get(shards_manifest(subject->stores->shards), "model");
    const char *name = json_string_value(json_object_get(model, "name"));
    json_t *proposals = json_pack("[{ss si}]", "proposal_type", "greedy", "speculative_tokens", DRAFT_MEASURED);
    json_t *verifier = json_pack("{ss s[s]}", "name_or_path",
                                 subject->model ? subject->model
                                 : name         ? name
                                                : "",
                                 "architectures", architecture_of(subject->stores->config.family));
    return json_pack("{ss ss so so}", "algorithm", "eagle3", "default_proposal_method", "greedy",
                     "proposal_methods", proposals, "verifier", verifier);
}

static json_t *config_of(const struct export_subject *subject)
{
    const struct head_spec *spec = head_get_spec(subject->head);
    return json_pack("{s[s] ss si sb sb sb sb so sb so so ss}", "architectures", "Eagle3Speculator",
                     "speculators_model_type", "eagle3", "draft_vocab_size", spec->draft_vocab,
                     "norm_before_residual", false, "norm_before_fc", false, "fc_norm", false, "norm_output",
                     false, "eagle_aux_hidden_state_layer_ids", taps_to_json(spec), "tie_word_embeddings",
                     false, "speculators_config", service_to_json(subject), "transformer_layer_config",
                     layer_to_json(&subject->stores->config), "dtype", "float32");
}

static int write(const struct export_subject *subject, const char *folder, struct error *error)
{
    struct export_tensors list = {0};
    int result = add_tensors(&list, subject, error);
    if (result == 0)
        result = export_tensors_write(&list, subject, folder, export_eagle3.tensors, error);
    if (result == 0)
        result = export_config_write(folder, config_of(subject), error);
    export_tensors_free(&list);
    return result;
}

const struct export_format export_eagle3 = {"eagle3", "model.safetensors", check, write};
