/* order.h: the sequences that a run computes, and in which order: of each split those that some tap lacks,
 * training before held out. Each stage counts them by their place in this order.
 *
 * A run stores the records of a tap in this order, so that what a tap has is the order's beginning. (Where a
 * corpus has grown twice in the middle of a run, a tap may have more; that is computed and stored again.)
 */
#ifndef OFFRAMP_EXTRACT_ORDER_H
#define OFFRAMP_EXTRACT_ORDER_H

#include <stdint.h>

#include "common/store/store.h"

struct order {
    uint64_t first[SPLIT_COUNT], count[SPLIT_COUNT]; /* places in the splits of this store */
    int shard, shards;
};

struct order order_of(const struct store *store);

uint64_t order_length(const struct order *order);
struct sequence order_at(const struct order *order, uint64_t index);

/* How many from the beginning have their record at a tap. */
uint64_t order_stored(const struct order *order, const struct store *store, int tap);

/* Marks the records of a tap as stored, that many from the beginning. Inside a transaction. */
int order_set_progress(const struct order *order, struct store *store, int tap, uint64_t stored,
                       struct error *error);

#endif
