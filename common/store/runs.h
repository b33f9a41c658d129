/* runs.h: which sequences of a text are held out where documents are too few to choose among them.
 *
 * Of the sequences of one stream, in their order, runs are held out, evenly spread; the sequence before a run and
 * the one behind it are left out, so that nobody trains on the words beside those that heads are measured by:
 *
 *     train  gap  held-out ... held-out  gap  train ... train  |  train  gap  held-out ...
 *
 * The first run is one sequence, each one behind it twice the one before, up to 16: a short text has a run, and of
 * a long one the gaps take little. Three sequences are the least that have both splits. What a sequence is depends
 * on its number and the share only, not on how many there are: it stays the same where the text grows at its end.
 */
#ifndef OFFRAMP_STORE_RUNS_H
#define OFFRAMP_STORE_RUNS_H

#include <stdint.h>

#include "common/store/store.h"

#define RUNS_GAP   SPLIT_COUNT /* of neither split */
#define RUNS_LEAST 3 /* sequences that have both splits */

/* The split of sequence `number` of the stream, or RUNS_GAP. share: of what is not a gap, held out, above 0 and below 1. */
enum split runs_split(uint64_t number, double share);

/* How many of the first `count` sequences belong to each split. */
void runs_count(uint64_t count, double share, uint64_t sequences[SPLIT_COUNT]);

#endif
