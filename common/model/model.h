/* model.h: a pretrained model's weights, found, checked and named by role.
 *
 * Opening a model checks that the tensor of every role (role.h) is there with its shape and type, and that no
 * tensor is left over.
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
#include "common/model/role.h"
#include "common/model/tensor.h"

struct model;

/* path: a GGUF file, or a folder with config.json and safetensors files. The weights stay in the mapped
 * files. */
int model_open(const char *path, struct model **model, struct error *error);
void model_close(struct model *model); /* NULL is fine */

const char *model_path(const struct model *model);
const struct model_config *model_config(const struct model *model);
/* The open GGUF file (its metadata holds the tokenizer), or NULL for a folder. */
const struct gguf *model_gguf(const struct model *model);

/* layer: 0 .. layers - 1; not looked at for roles that are once a model. NULL where the model has no such
 * tensor. */
const struct tensor *model_tensor(const struct model *model, int layer, enum tensor_role role);

/* The model's identity, as 16 hexadecimal digits: XXH3-64 of the config's JSON and of the bytes of every tensor
 * with a role. It does not depend on the file's name, nor on the metadata that the config leaves out. Reads the
 * whole file. */
int model_fingerprint(const struct model *model, char fingerprint[17], struct error *error);

#endif
