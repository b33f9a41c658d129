/* stores.h: the shards of one extraction, read as one store, and the model that they were made from.
 *
 *     struct stores stores;
 *     if (stores_open(paths, count, &stores, error) < 0) ...
 *     stores_close(&stores);
 */
#ifndef OFFRAMP_TRAIN_STORES_H
#define OFFRAMP_TRAIN_STORES_H

#include <stdint.h>

#include "common/base/error.h"
#include "common/head/head.h"
#include "common/model/config.h"
#include "common/store/shards.h"

struct stores {
    struct shards *shards;
    uint64_t sequences[SPLIT_COUNT];
    int rows; /* tokens per sequence */
    struct model_config config; /* of the model */
    char fingerprint[17]; /* of the model */
};

/* Opens finished stores. Each split must hold at least one sequence. */
int stores_open(const char *const *paths, int count, struct stores *stores, struct error *error);
void stores_close(struct stores *stores); /* a zeroed one is fine */

/* The model's frozen tensors as f32, for head_initialise; `stores` must outlive it. */
struct head_source stores_head_source(const struct stores *stores);

#endif
