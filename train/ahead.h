/* ahead.h: has the system read from disk what a feed decodes next, so that decoding does not wait for it
 * record by record, whatever the order. A thread looks up the records of the places to come and asks for
 * their pages, some 32 MB ahead; nothing is copied, and no list of keys is kept.
 *
 *     ahead_open(&stores, &plan, columns, count, &ahead, error);
 *     ahead_move(ahead, place);            // places before this one are done with
 *     ahead_close(ahead);
 */
#ifndef OFFRAMP_TRAIN_AHEAD_H
#define OFFRAMP_TRAIN_AHEAD_H

#include "train/feed.h"

struct ahead;

/* columns [count]: what is read of each sequence: taps by their place in the store, STORE_TOKENS. Copied. */
int ahead_open(const struct stores *stores, const struct feed_plan *plan, const int *columns, int count,
               struct ahead **ahead, struct error *error);
void ahead_move(struct ahead *ahead, uint64_t place);
void ahead_close(struct ahead *ahead); /* NULL is fine */

#endif
