/* export_ee_llm.c: an exit as EE-LLM has it in its checkpoints (Pan et al. 2023, arXiv 2312.04916), which are
 * Megatron-LM's. Names and shapes are those of a checkpoint of one rank (docs/formats.md). EE-LLM counts layers from 0 in
 * names, from 1 in its arguments.
 *
 *     language_model.encoder.layers.L-1.exit_norm.weight                             the head's norm
 *     language_model.encoder.layers.L-1.mlp.branch.dense_h_to_4h.weight              [2 I, H] gate, then up
 *     language_model.encoder.layers.L-1.exit_block.self_attention.query_key_value.weight
 *                                         of each key head: its queries' rows, its own, those of its values
 *     language_model.exit_output_layer.0.weight                                      [V, H]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "train/export_format.h"

enum { NAME_SIZE = 128 };

enum ee_kind { EE_EMBEDDING, EE_NORM, EE_MLP, EE_BLOCK, EE_KINDS };
static const char *const kind_names[EE_KINDS] = {"embedding", "norm", "mlp", "block"};

/* EE_KINDS: EE-LLM has none such. */
static enum ee_kind kind_of(const struct export_subject *subject)
{
    const char *name = head_kind_name(head_get_spec(subject->head)->kind);
    int kind = 0;
    while (kind < EE_KINDS && strcmp(kind_names[kind], name) != 0)
        kind++;
    return (enum ee_kind)kind;
}

static int check(const struct export_subject *subject, struct error *error)
{
    const struct head_spec *spec = head_get_spec(subject->head);
    const struct model_config *config = head_get_config(subject->head);
    const enum ee_kind kind = kind_of(subject);
    char tap[TAPS_NAME_SIZE];
    export_tap_name(subject, tap);
    if (kind == EE_KINDS)
        return error_set(error, "EE-LLM has no head of kind %s (it has embedding, norm, mlp and block)",
                         head_kind_name(spec->kind));
    if (spec->tap.layer < 1 || spec->tap.mid != (kind == EE_MLP))
        return error_set(error, "EE-LLM has no %s exit at tap %s: its exits are behind a layer",
                         kind_names[kind], tap);
    if (kind == EE_BLOCK && config->qk_norms)
        return error_set(error, "EE-LLM's exit block has no norms of queries and keys, which this model has");
    if (kind == EE_BLOCK && config->attention_bias != config->output_bias)
        return error_set(
            error, "EE-LLM's exit block has biases everywhere or nowhere; this model has them for %s only",
            config->attention_bias ? "queries, keys and values" : "the attention's output");
    return 0;
}

/* ---- tensors ---- */

struct ee_export {
    const struct export_subject *subject;
    struct export_tensors list;
    int layer; /* from 1 */
};

static void name_of(const struct ee_export *export, const char *part, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "language_model.encoder.layers.%d.%s", export->layer - 1, part);
}

static int add(struct ee_export *export, const char *part, const char *parameter, struct error *error)
{
    char name[NAME_SIZE];
    name_of(export, part, name);
    return export_tensors_add_parameter(&export->list, export->subject, name, parameter, error);
}

/* Where the head has the parameter. */
static int add_if_there(struct ee_export *export, const char *part, const char *parameter, struct error *error)
{
    return export_parameter(export->subject, parameter) ? add(export, part, parameter, error) : 0;
}

/* Two parameters of one shape, one behind the other: gate and up. */
static int add_pair(struct ee_export *export, const char *part, const char *first, const char *second,
                    struct error *error)
{
    const struct head_parameter *pair[2] = {export_parameter(export->subject, first),
                                            export_parameter(export->subject, second)};
    char name[NAME_SIZE];
    void *data;
    if (!pair[0] || !pair[1])
        return error_set_kind(error, ERROR_INTERNAL, "the head has no parameters %s and %s", first, second);
    const struct matrix value = pair[0]->value;
    const bool vector = value.rows == 1;
    name_of(export, part, name);
    if (export_tensors_add(&export->list, name, DTYPE_F32, 2 * (vector ? value.cols : value.rows),
                           vector ? 0 : value.cols, &data, error) < 0)
        return -1;
    float *values = data;
    return export_read(export->subject, pair[0], values, error) < 0
               ? -1
               : export_read(export->subject, pair[1], values + value.rows * value.cols, error);
}

static int add_pair_if_there(struct ee_export *export, const char *part, const char *first, const char *second,
                             struct error *error)
{
    return export_parameter(export->subject, first) ? add_pair(export, part, first, second, error) : 0;
}

/* Rows of `count` attention heads from `first` on. A head's rows are in halves there, as RoPE pairs them: in GGUF's Llama
 * order the pair (i, i + D/2) is (2i, 2i + 1) here. */
static void copy_heads(const float *from, int first, int count, bool turned, const struct model_config *config,
                       int64_t cols, float *to)
{
    const int size = config->head_size;
    for (int head = 0; head < count; head++)
        for (int row = 0; row < size; row++) {
            const int there = !turned ? row : row < size / 2 ? 2 * row : 2 * (row - size / 2) + 1;
            memcpy(to + ((int64_t)head * size + row) * cols,
                   from + ((int64_t)(first + head) * size + there) * cols, (size_t)cols * sizeof *to);
        }
}

/* Q, K and V by key heads, of matrices [., cols] or of biases. */
static int add_projections(struct ee_export *export, const char *part, const char *const names[3], bool vector,
                           struct error *error)
{
    const struct model_config *config = head_get_config(export->subject->head);
    const bool turned = config->rope_pairs == ROPE_ADJACENT;
    const int together = config->attention_heads / config->kv_heads, size = config->head_size;
    const int64_t cols = vector ? 1 : config->hidden, head_values = size * cols;
    float *values[3] = {NULL};
    char name[NAME_SIZE];
    void *data;
    int result = -1;
    for (int i = 0; i < 3; i++) {
        const struct head_parameter *parameter = export_parameter(export->subject, names[i]);
        if (!parameter) {
            error_set_kind(error, ERROR_INTERNAL, "the head has no parameter %s", names[i]);
            goto done;
        }
        if (array_alloc(&values[i], parameter->value.rows * parameter->value.cols, error) < 0 ||
            export_read(export->subject, parameter, values[i], error) < 0)
            goto done;
    }
    name_of(export, part, name);
    if (export_tensors_add(&export->list, name, DTYPE_F32, (int64_t)(together + 2) * config->kv_heads * size,
                           vector ? 0 : cols, &data, error) < 0)
        goto done;
    float *to = data;
    for (int group = 0; group < config->kv_heads; group++, to += (together + 2) * head_values) {
        copy_heads(values[0], group * together, together, turned, config, cols, to);
        copy_heads(values[1], group, 1, turned, config, cols, to + together * head_values);
        copy_heads(values[2], group, 1, false, config, cols, to + (together + 1) * head_values);
    }
    result = 0;
done:
    for (int i = 0; i < 3; i++)
        free(values[i]);
    return result;
}

static int add_mlp(struct ee_export *export, struct error *error)
{
    return add_pair(export, "mlp.branch.dense_h_to_4h.weight", "gate", "up", error) < 0 ||
                   add(export, "mlp.branch.dense_4h_to_h.weight", "down", error) < 0 ||
                   add_pair_if_there(export, "mlp.branch.dense_h_to_4h.bias", "gate_bias", "up_bias", error) < 0
               ? -1
               : add_if_there(export, "mlp.branch.dense_4h_to_h.bias", "down_bias", error);
}

static int add_block(struct ee_export *export, struct error *error)
{
    static const char *const weights[3] = {"q", "k", "v"}, *const biases[3] = {"q_bias", "k_bias", "v_bias"};
    const bool biased = export_parameter(export->subject, biases[0]) != NULL;
    if (add(export, "exit_block.input_norm.weight", "attention_norm", error) < 0 ||
        add_projections(export, "exit_block.self_attention.query_key_value.weight", weights, false, error) <
            0 ||
        (biased &&
         add_projections(export, "exit_block.self_attention.query_key_value.bias", biases, true, error) < 0) ||
        add(export, "exit_block.self_attention.dense.weight", "o", error) < 0 ||
        add_if_there(export, "exit_block.self_attention.dense.bias", "o_bias", error) < 0 ||
        add(export, "exit_block.post_attention_norm.weight", "mlp_norm", error) < 0 ||
        add_pair(export, "exit_block.mlp.dense_h_to_4h.weight", "mlp_gate", "mlp_up", error) < 0)
        return -1;
    return add_pair_if_there(export, "exit_block.mlp.dense_h_to_4h.bias", "gate_bias", "up_bias", error) < 0 ||
                   add(export, "exit_block.mlp.dense_4h_to_h.weight", "mlp_down", error) < 0
               ? -1
               : add_if_there(export, "exit_block.mlp.dense_4h_to_h.bias", "down_bias", error);
}

/* EE-LLM's exits share the embedding where the model ties it; elsewhere each has an output weight of its own. */
static bool has_output(const struct export_subject *subject)
{
    return head_get_spec(subject->head)->output == OUTPUT_UNTIED || !head_get_config(subject->head)->tied;
}

static int add_output(struct ee_export *export, struct error *error)
{
    static const char name[] = "language_model.exit_output_layer.0.weight";
    if (!has_output(export->subject))
        return 0;
    return head_get_spec(export->subject->head)->output == OUTPUT_UNTIED
               ? export_tensors_add_parameter(&export->list, export->subject, name, "output", error)
               : export_tensors_add_source(&export->list, export->subject, name, "output", error);
}

/* ---- */

/* EE-LLM's arguments by their names. */
static json_t *config_of(const struct export_subject *subject)
{
    const struct head_spec *spec = head_get_spec(subject->head);
    const struct model_config *config = head_get_config(subject->head);
    const enum ee_kind kind = kind_of(subject);
    json_t *arguments = json_pack(
        "{s[i] sb sb sb sb sb si si si si si si sf ss sb}", "exit_layer_nums", spec->tap.layer, "pre_exit",
        false, "use_exit_mlp", kind == EE_MLP, "use_exit_block", kind == EE_BLOCK, "use_exit_norm",
        kind != EE_EMBEDDING, "untie_exit_output_weights", has_output(subject), "num_layers", config->layers,
        "hidden_size", config->hidden, "ffn_hidden_size", config->intermediate, "num_attention_heads",
        config->attention_heads, "num_query_groups", config->kv_heads, "kv_channels", config->head_size,
        "norm_epsilon", (double)config->norm_epsilon, "normalization", "RMSNorm", "swiglu", true);
    return json_pack("{ss si ss ss so}", "offramp", OFFRAMP_VERSION, "version", 1, "trial", subject->id,
                     "model", subject->stores->fingerprint, "args", arguments);
}

static int write(const struct export_subject *subject, const char *folder, struct error *error)
{
    struct ee_export export = {.subject = subject, .layer = head_get_spec(subject->head)->tap.layer};
    const enum ee_kind kind = kind_of(subject);
    int result = kind == EE_MLP ? add_mlp(&export, error) : kind == EE_BLOCK ? add_block(&export, error) : 0;
    if (result == 0 && kind != EE_EMBEDDING)
        result = add(&export, "exit_norm.weight", "scale", error);
    if (result == 0)
        result = add_output(&export, error);
    if (result == 0)
        result = export_tensors_write(&export.list, subject, folder, export_ee_llm.tensors, error);
    if (result == 0)
        result = export_config_write(folder, config_of(subject), error);
    export_tensors_free(&export.list);
    return result;
}

const struct export_format export_ee_llm = {"ee-llm", "exit.safetensors", check, write};
