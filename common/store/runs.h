/* runs.h: which sequences of a text are held out when documents are too few to choose among them.
 *
 * Runs of sequences are held out, evenly spread. The sequences beside a run are in neither split: nobody trains
 * on the words next to those that heads are measured by.
 *
 *     train  gap  held-out ... held-out  gap  train ... train  |  train  gap  held-out ...
 *
 * The first run is one sequence. Each further run is twice as long, up to 16: so a short text has a run, and
 * the gaps of a long one take little. What a sequence is depends on its number and the share only. So it stays
 * the same when the text grows at its end.
 */
#ifndef OFFRAMP_STORE_RUNS_H
#define OFFRAMP_STORE_RUNS_H

#include <stdint.h>

#include "common/store/store.h"

#define RUNS_GAP   SPLIT_COUNT /* of neither split */
#define RUNS_LEAST 3 /* sequences that have both splits */

/* The split of sequence `number` of the stream, or RUNS_GAP. share: of what is not a gap, held out, above 0 and
 * below 1. */
enum split runs_split(uint64_t number, double share);

/* How many of the first `count` sequences belong to each split. */
void runs_count(uint64_t count, double share, uint64_t sequences[SPLIT_COUNT]);

#endif
