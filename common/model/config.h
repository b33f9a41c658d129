/* config.h: what a model is, whatever file it came from: its family, its sizes, and what else its file decides.
 *
 * Stores keep it as JSON, and a model's fingerprint is made from that text: config_to_json must give the same
 * bytes for the same model, always.
 */
#ifndef OFFRAMP_MODEL_CONFIG_H
#define OFFRAMP_MODEL_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "kernels/ops.h"

enum rope_scaling {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR, /* positions are divided by the factor */
    ROPE_SCALING_LLAMA3, /* Llama 3.1's: by wavelength */
    ROPE_SCALING_TABLE /* a divisor for each frequency: how GGUF files hold Llama 3.1's */
};

#define HEAD_SIZE_MAX 512

struct model_config {
    char family[32]; /* "llama", "mistral", "qwen2", "qwen3": a row of the family table */
    int layers;
    int hidden; /* H */
    int attention_heads, kv_heads, head_size;
    int intermediate; /* I */
    int vocab; /* V */
    int context; /* positions the model was made for */
    int window; /* sliding attention window in tokens, 0: none; config_window says which layers have it */
    int window_layer; /* the first layer, counted from 0, that has the window */
    float norm_epsilon;
    bool attention_bias; /* q, k, v have biases */
    bool output_bias; /* o has a bias */
    bool mlp_bias; /* gate, up, down have biases */
    bool qk_norms; /* q and k are normed per attention head */
    bool tied; /* the output weight is the embedding */
    enum rope_pairs rope_pairs;
    double rope_theta;
    enum rope_scaling rope_scaling;
    double rope_factor; /* LINEAR, LLAMA3 */
    double rope_low, rope_high; /* LLAMA3: low and high frequency factors */
    int rope_original; /* LLAMA3: original context */
    float rope_divisors[HEAD_SIZE_MAX / 2]; /* TABLE: [head_size / 2] */
    int eos; /* the id that ends a text, the first of several; -1: none */
};

/* The config as a JSON object and back, checked; `name` goes into errors. Every field has its name above as its
 * key, but for "heads" (attention_heads) and "head_norms" (qk_norms). json_decref the result; NULL on error. */
json_t *config_to_json(const struct model_config *config, struct error *error);
int config_from_json(const char *name, const json_t *object, struct model_config *config, struct error *error);

/* An error unless the family is known, every number is in its range, and the sizes fit each other: kv_heads
 * divides attention_heads, head_size is even, eos is in the vocabulary. */
int config_check(const char *name, const struct model_config *config, struct error *error);

/* How many tokens a token sees in a layer (from 0), itself included; 0: all before it. */
int config_window(const struct model_config *config, int layer);

/* cos and sin of every position: table [positions, head_size] f32, as op_rope takes it. Angles are computed in
 * double. Llama 3.1's scaling is that of Meta's reference code (llama_models, apply_scaling). */
void config_rope_table(const struct model_config *config, int positions, float *table);

/* ---- from a model's files ---- */

struct gguf;

/* From the metadata of a GGUF file. Biases and an untied output weight are known by their tensors. */
int config_from_gguf(const struct gguf *gguf, struct model_config *config, struct error *error);

/* From a parsed config.json of Hugging Face; `path` is the file's name. A key that is left out has the value
 * that transformers gives it. */
int config_from_hf(const char *path, const json_t *object, struct model_config *config, struct error *error);

#endif
