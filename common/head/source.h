/* source.h: the frozen tensors of the model that heads copy. They are kept in the store, in their own number
 * format, so that training needs no model. Of several shards, the first one keeps them.
 *
 *     final_norm, output                       once; "output" is the embedding where the model is tied
 *     embedding                                once, where the model is not tied
 *     L/mlp_norm, L/mlp_gate, L/mlp_up, ...    for each tap of layer L >= 1: all tensors of the layer's MLP half
 *     L/attention_norm, L/q, L/k, ...          of the model's last SOURCE_LAYERS layers: all tensors
 */
#ifndef OFFRAMP_HEAD_SOURCE_H
#define OFFRAMP_HEAD_SOURCE_H

#include "common/base/error.h"
#include "common/model/model.h"
#include "common/store/store.h"

#define SOURCE_NAME_SIZE 64
#define SOURCE_LAYERS    2 /* of which all tensors are kept: the model's last ones */

/* How the store names a role's tensor, for instance "12/mlp_gate". layer: L; of no account for what a model has
 * once. */
void source_name(enum tensor_role role, int layer, char name[SOURCE_NAME_SIZE]);

/* Puts those into the store that it lacks, unless it is not the first shard. A store that an earlier program has finished
 * gets what that program did not keep. */
int sources_store(const struct model *model, struct store *store, struct error *error);

/* Puts all of them there once more, because some are damaged. To be called inside a transaction, which is
 * committed and begun again in between. */
int sources_put(const struct model *model, struct store *store, struct error *error);

/* Whether all of them can be read, in the first shard. */
bool sources_are_there(const struct model *model, struct store *store);

/* The bytes that sources_store puts into such a store. */
uint64_t sources_bytes(const struct model *model, const struct store_info *info);

#endif
