/* source.h: keeps in the store the frozen parts of the model that heads copy, in their own number
 * format: "final_norm", "output" (the embedding when tied), and for each tap of layer L >= 1 that
 * layer's "L/mlp_norm", "L/mlp_gate", "L/mlp_up", "L/mlp_down" and their biases. Training needs no model then. Of
 * several shards the first keeps them.
 */
#ifndef OFFRAMP_HEAD_SOURCE_H
#define OFFRAMP_HEAD_SOURCE_H

#include "common/base/error.h"
#include "common/model/model.h"
#include "common/store/store.h"

/* Does nothing when it was done before, or the store is not the first shard. */
int sources_store(const struct model *model, struct store *store, struct error *error);

/* All of it once more, where some is damaged: inside a transaction, which is committed and begun again in between. */
int sources_put(const struct model *model, struct store *store, struct error *error);

/* Whether all of it can be read, in the first shard. */
bool sources_are_there(const struct model *model, struct store *store);

/* The bytes that sources_store puts into such a store. */
uint64_t sources_bytes(const struct model *model, const struct store_info *info);

#endif
