/* split.h: a held-out split that a store was given after it was made (`cache split`).
 *
 * Records stay where they are, under the numbers that they have. The manifest says what is held out, in numbers of the
 * stored training sequences of all shards together, so that every shard says the same:
 *
 *     "split": {"held_out": 0.05, "by": "documents", "runs": [[from, first, end, to], ...]}
 *
 * Of each run, the sequences first .. end-1 are held out. Those beside them, from .. first-1 and end .. to-1, are left
 * out of both splits, since they share a document with the run or touch it.
 *
 * shards.h reads a store by its split: training sequences are numbered anew without those of the runs; held-out ones are
 * those that are stored as such, mostly none, and behind them those of the runs. What reads a store to keep it (verify,
 * repair, merge, recode) goes by the stored numbers.
 */
#ifndef OFFRAMP_STORE_SPLIT_H
#define OFFRAMP_STORE_SPLIT_H

#include "common/store/store.h"

struct split_run {
    uint64_t from, first, end, to;
    uint64_t train, held_out; /* sequences of either split before it */
};

/* A zeroed one is of a store that was given none. */
struct split_list {
    struct split_run *run; /* [runs], ascending */
    size_t runs, capacity;
};

void split_free(struct split_list *list); /* a zeroed one is fine */

/* Appends a run; from may lie behind the run before only. */
int split_add(struct split_list *list, uint64_t from, uint64_t first, uint64_t end, uint64_t to,
              struct error *error);

/* Of a manifest, into a zeroed list. `name` goes into errors. */
int split_parse(const char *name, const json_t *manifest, struct split_list *list, struct error *error);
/* The manifest's member; NULL on error. by: "documents" or "sequences". */
json_t *split_to_json(const struct split_list *list, double held_out, const char *by, struct error *error);

/* Sequences of a split, of so many stored ones. */
uint64_t split_count(const struct split_list *list, enum split split, const uint64_t stored[SPLIT_COUNT]);
/* Of shard `shard` of `shards` alone. */
uint64_t split_count_shard(const struct split_list *list, enum split split, const uint64_t stored[SPLIT_COUNT],
                           int shard, int shards);
/* How a sequence of the split is stored. held_out: so many are stored as such. */
struct sequence split_stored(const struct split_list *list, struct sequence sequence, uint64_t held_out);

#endif
