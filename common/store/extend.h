/* extend.h: gives a store another manifest, finished or not: its corpus has grown, or it was given a split. Or gives a
 * finished one tensors of the model that the program before did not keep.
 *
 * Caveat: others may read the store meanwhile; store.h says what they see.
 */
#ifndef OFFRAMP_STORE_EXTEND_H
#define OFFRAMP_STORE_EXTEND_H

#include "common/store/store.h"

/* Puts `manifest` in a transaction of its own. Its model, rows, taps and shard must be the old one's. A sealed
 * store stays sealed. After an error the store must be closed. */
int extend_manifest(struct store *store, const json_t *manifest, struct error *error);

/* The same, and begins the transaction only, after which the store is not sealed. It keeps the first
 * `sequences` of each split; tokens and records behind them are put again. The store stays as it was until
 * store_commit. */
int extend_begin(struct store *store, const json_t *manifest, const uint64_t sequences[SPLIT_COUNT],
                 struct error *error);

/* Begins a transaction in which a finished store gets tensors of the model that it lacks (store_put_source), and notes.
 * It stays sealed. After store_commit comes the end. After an error the store must be closed. */
int extend_sources_begin(struct store *store, struct error *error);
int extend_sources_end(struct store *store, struct error *error);

#endif
