/* role.h: what the tensors of a model are for, whatever a file calls them.
 *
 * A role's row in a table (role.c) says the tensor's name in GGUF and in Hugging Face files, and its shape as a
 * function of the config. Every size that follows from a tensor's shape is taken from here.
 */
#ifndef OFFRAMP_MODEL_ROLE_H
#define OFFRAMP_MODEL_ROLE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/model/config.h"

enum tensor_role {
    ROLE_NONE, /* no tensor */
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

bool role_is_per_layer(enum tensor_role role);

/* ---- shapes ---- */

/* Dimensions (1 or 2) of a role's tensor and its shape; 0 when models of this config have no such tensor
 * of their own (an output weight that is tied). */
int role_shape(const struct model_config *config, enum tensor_role role, int64_t shape[2]);
/* The first dimension of that shape (a matrix's rows, a vector's length), and how many values it has. 0 where
 * there is no such tensor. */
int64_t role_rows(const struct model_config *config, enum tensor_role role);
int64_t role_values(const struct model_config *config, enum tensor_role role);
/* The role whose tensor holds a role's values: the embedding's for an output weight that is tied, else the role
 * itself. So the shape of the output weight is that of role_holder(config, ROLE_OUTPUT), tied or not. */
enum tensor_role role_holder(const struct model_config *config, enum tensor_role role);

/* ---- names in files ---- */

enum model_format { FORMAT_GGUF, FORMAT_HF };

#define TENSOR_NAME_SIZE 96

/* How a file of that format names a role's tensor; layer from 0. */
void role_tensor_name(enum tensor_role role, enum model_format format, int layer, char name[TENSOR_NAME_SIZE]);
/* The names under which files of that format may hold it. Spelling 0 is role_tensor_name; false when there is
 * no such spelling. As in transformers, a name may lack its "model." (files saved without the output weight) or
 * have one more. */
bool role_file_name(enum tensor_role role, enum model_format format, int layer, int spelling,
                    char name[TENSOR_NAME_SIZE]);

/* Whether it is a name of the output weight. In Hugging Face's format it may have any prefix
 * ("language_model."). */
bool role_names_output(enum model_format format, const char *name);

/* Whether a tensor of that name may be in a file beside those with roles: what it holds is in the config
 * too. */
bool role_ignores(const struct model_config *config, enum model_format format, const char *name);

#endif
