/* extend.h: lets a store go on that may be finished, with another manifest: its corpus has grown. */
#ifndef OFFRAMP_STORE_EXTEND_H
#define OFFRAMP_STORE_EXTEND_H

#include "common/store/store.h"

/* Begins a transaction in which the store is no longer sealed, has `manifest`, whose model, rows, taps and
 * shard must be the old one's, and only the first `sequences` of each split: behind them, tokens and records
 * are put again. A store that lacks the transaction is as it was. Of those who read it meanwhile: store.h's caveats. */
int extend_begin(struct store *store, const json_t *manifest, const uint64_t sequences[SPLIT_COUNT],
                 struct error *error);

/* Gives a store another manifest, whose model, rows, taps and shard are the old one's, in a transaction of its own; a
 * finished store stays finished. */
int extend_manifest(struct store *store, const json_t *manifest, struct error *error);

#endif
