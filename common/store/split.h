/* split.h: a held-out split that `cache split` gave to a store after it was made.
 *
 * Records stay where they are, under their numbers. The manifest says what is held out, in numbers of the
 * stored training sequences of all shards together. So every shard says the same:
 *
 *     "split": {"held_out": 0.05, "by": "documents", "runs": [[from, first, end, to], ...]}
 *
 *     ... train   from ......... first ............. end ......... to   train ...
 *                 in no split     held out           in no split
 *
 * The sequences from .. first-1 and end .. to-1 are left out of both splits, since they share a document with
 * the run or touch it.
 *
 * shards.h numbers the sequences by this split: the training sequences without those of the runs; the held-out
 * ones as stored, mostly none, and behind them those of the runs. Programs that keep a store as it is (verify,
 * repair, merge, recode) use the stored numbers.
 */
#ifndef OFFRAMP_STORE_SPLIT_H
#define OFFRAMP_STORE_SPLIT_H

#include "common/store/store.h"

struct split_run {
    uint64_t from, first, end, to;
    uint64_t train, held_out; /* sequences of either split before it */
};

/* A zeroed list: the store was given no split. */
struct split_list {
    struct split_run *run; /* [runs], ascending */
    size_t runs, capacity;
};

void split_free(struct split_list *list); /* a zeroed one is fine */

/* Appends a run, which must lie behind the one before. */
int split_add(struct split_list *list, uint64_t from, uint64_t first, uint64_t end, uint64_t to,
              struct error *error);

/* From a manifest, into a zeroed list. Errors begin with `name`. */
int split_parse(const char *name, const json_t *manifest, struct split_list *list, struct error *error);
/* The manifest's member, a new reference, or NULL on error. by: "documents" or "sequences". */
json_t *split_to_json(const struct split_list *list, double held_out, const char *by, struct error *error);

/* How many sequences a split has when so many are stored. */
uint64_t split_count(const struct split_list *list, enum split split, const uint64_t stored[SPLIT_COUNT]);
/* The same of one shard alone, from its own stored ones. */
uint64_t split_count_shard(const struct split_list *list, enum split split, const uint64_t stored[SPLIT_COUNT],
                           int shard, int shards);
/* The stored number of a sequence. held_out: how many are stored as held-out. */
struct sequence split_stored(const struct split_list *list, struct sequence sequence, uint64_t held_out);

#endif
