/* source.h: keeps in the store the frozen parts of the model that heads copy, in their own number
 * format: "final_norm", "output" (the embedding when tied), and for each tap of layer L >= 1 that
 * layer's "L/mlp_norm", "L/mlp_gate", "L/mlp_up", "L/mlp_down" and their biases. Training needs no model then. Of
 * several shards the first keeps them.
 */
#ifndef OFFRAMP_EXTRACT_SOURCE_H
#define OFFRAMP_EXTRACT_SOURCE_H

#include "common/base/error.h"
#include "common/model/model.h"
#include "common/store/store.h"

/* Does nothing when it was done before, or the store is not the first shard. */
int sources_store(const struct model *model, struct store *store, struct error *error);

/* The bytes that it puts into such a store. */
uint64_t sources_bytes(const struct model *model, const struct store_info *info);

#endif
