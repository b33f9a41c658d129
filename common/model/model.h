/* model.h: a pretrained model's weights, found, checked and named by role.
 *
 * One row of the family table (family.c) says, for each role, the tensor's name in GGUF and in
 * Hugging Face files and its shape as a function of the config. Opening a model checks that every
 * tensor is there with its shape and type, and that none is left over.
 *
 *     struct model *model;
 *     if (model_open("SmolLM2.gguf", &model, error) < 0) ...
 *     const struct tensor *gate = model_tensor(model, 11, ROLE_MLP_GATE);      // layer 12
 */
#ifndef OFFRAMP_MODEL_MODEL_H
#define OFFRAMP_MODEL_MODEL_H

#include <stdint.h>

#include "common/base/error.h"
#include "common/model/config.h"
#include "common/model/gguf.h"
#include "common/model/tensor.h"

enum tensor_role {
    /* once a model */
    ROLE_EMBEDDING, /* [V, H] */
    ROLE_FINAL_NORM, /* [H] */
    ROLE_OUTPUT, /* [V, H]; the embedding when tied */
    /* once a layer */
    ROLE_ATTENTION_NORM, /* [H] */
    ROLE_Q,
    ROLE_K,
    ROLE_V,
    ROLE_O,
    ROLE_Q_BIAS,
    ROLE_K_BIAS,
    ROLE_V_BIAS,
    ROLE_O_BIAS,
    ROLE_Q_NORM,
    ROLE_K_NORM, /* [head_size] */
    ROLE_MLP_NORM, /* [H] */
    ROLE_MLP_GATE,
    ROLE_MLP_UP, /* [I, H] */
    ROLE_MLP_DOWN, /* [H, I] */
    ROLE_GATE_BIAS,
    ROLE_UP_BIAS,
    ROLE_DOWN_BIAS,
    ROLE_COUNT
};

/* "embedding", "attention_norm", "mlp_gate", ...: how stores, heads and errors name a role. */
const char *role_name(enum tensor_role role);

struct model;

/* path: a GGUF file, or a folder with config.json and safetensors. */
int model_open(const char *path, struct model **model, struct error *error);
void model_close(struct model *model); /* NULL is fine */

const char *model_path(const struct model *model);
const struct model_config *model_config(const struct model *model);
/* The open GGUF file (its metadata holds the tokenizer), or NULL for a folder. */
const struct gguf *model_gguf(const struct model *model);

/* layer 0 .. layers-1; ignored for roles that are once a model. NULL where the family has none. */
const struct tensor *model_tensor(const struct model *model, int layer, enum tensor_role role);

/* Identity: XXH3-64 of the config and of the bytes of every tensor with a role, as 16 hexadecimal digits. Reads
 * the whole file. */
int model_fingerprint(const struct model *model, char fingerprint[17], struct error *error);

#endif
