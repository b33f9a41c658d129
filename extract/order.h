/* order.h: the sequences that a run stores, and in which order: those that some tap lacks, the training split
 * before the held-out one. All stages of a run number sequences by their index in this order.
 *
 * A run stores the records of a tap in this order. So the sequences that have their record at a tap are the
 * beginning of the order. (A tap may have more when a corpus has grown twice in the middle of a run; those are
 * computed and stored again.)
 */
#ifndef OFFRAMP_EXTRACT_ORDER_H
#define OFFRAMP_EXTRACT_ORDER_H

#include <stdint.h>

#include "common/store/store.h"

struct order {
    uint64_t first[SPLIT_COUNT], count[SPLIT_COUNT]; /* among the sequences of the split in this store */
    int shard, shards;
};

struct order order_of(const struct store *store);

uint64_t order_length(const struct order *order);
struct sequence order_at(const struct order *order, uint64_t index);

/* How many sequences, from the beginning of the order, have their record at a tap. */
uint64_t order_stored(const struct order *order, const struct store *store, int tap);

/* Marks the records of the first `stored` sequences as stored at a tap. Inside a transaction. */
int order_set_progress(const struct order *order, struct store *store, int tap, uint64_t stored,
                       struct error *error);

#endif
