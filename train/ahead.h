/* ahead.h: has the system read from disk what is decoded next. Without it decoding would wait for the disk at
 * every record. A thread looks up the records of the places to come and asks for their pages, some 32 MB ahead.
 * Nothing is copied, and no list of keys is kept.
 *
 *     ahead_open(shards, &range, columns, count, &ahead, error);
 *     ahead_move(ahead, place);            // places before this one are done with
 *     ahead_close(ahead);
 */
#ifndef OFFRAMP_TRAIN_AHEAD_H
#define OFFRAMP_TRAIN_AHEAD_H

#include "common/base/error.h"
#include "common/store/shards.h"
#include "train/read_order.h"

struct ahead;

struct ahead_range {
    struct read_order order;
    uint64_t first, end; /* places that will be read: [first, end) */
    int batch; /* places that are read together: the thread is at least two times as far ahead */
};

/* columns [count]: what is read of each sequence: taps by their number in the stores, STORE_TOKENS. Copied.
 * `shards` must outlive it. */
int ahead_open(struct shards *shards, const struct ahead_range *range, const int *columns, int count,
               struct ahead **ahead, struct error *error);
void ahead_move(struct ahead *ahead, uint64_t place);
void ahead_close(struct ahead *ahead); /* NULL is fine */

#endif
