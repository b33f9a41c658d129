/* feed.h: one read of the stores for all trials: sequences in a given order (read_order.h), decoded ahead of
 * the reader.
 *
 * A batch is `sequences` neighbouring places of the order. It lives until the next call of feed_next or
 * feed_close. What is in it does not depend on the number of threads:
 *
 *     disk  -->  pages in memory  -->  FEED_BATCHES batches  -->  reader
 *         ahead.h:          decoders:              feed_next
 *         one thread        `threads` threads
 *
 * States that are stored as they are (raw) are not copied: a batch has views of them in the map of the stores'
 * files, checked against their hashes when it was filled. Others are decoded into the feed's memory.
 *
 *     feed_open(&stores, &plan, threads, &feed, error);
 *     while (feed_next(feed, &batch, error) == 0 && batch) ...   // states of all taps, labels
 *     feed_close(feed);
 */
#ifndef OFFRAMP_TRAIN_FEED_H
#define OFFRAMP_TRAIN_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "kernels/ops.h"
#include "train/stores.h"

/* Batches that a feed holds in memory: one is with its reader, one ready or nearly so, one being filled. */
#define FEED_BATCHES 3

struct feed_plan {
    enum split split;
    bool shuffled; /* else in the order of the split */
    uint64_t seed; /* of the shuffles */
    const struct tap *tap; /* [taps]; read by feed_open only */
    int taps;
    bool values, u; /* what is read of the target, which the stores must have then */
    bool best; /* likewise its best tokens */
    int sequences; /* in a batch; the last one may hold less */
    uint64_t first, end; /* places to read: [first, end) */
};

struct feed_batch {
    uint64_t first; /* place of its first sequence */
    int sequences;
    int64_t rows; /* sequences * rows of a sequence: M */
    int32_t *labels; /* [M] the next token of every row */
    struct states_view **states; /* [taps][sequences], each [rows, H], in the plan's order of taps */
    struct target_row *values; /* [M] with the target, as is: */
    struct states_view *u; /* [sequences] with the plan's u, else NULL */
    int32_t *best; /* [M, best_count] with the plan's best, else NULL: the values' best tokens */
    int best_count;
};

struct feed;

/* Starts reading with `threads` decoders. Memory: three batches of what is decoded. */
int feed_open(const struct stores *stores, const struct feed_plan *plan, int threads, struct feed **feed,
              struct error *error);
/* The next batch, valid until the next call; *batch NULL behind the last one. A record that cannot be
 * read is an error that names its tap and sequence. */
int feed_next(struct feed *feed, const struct feed_batch **batch, struct error *error);
/* Gives the batches that are left to `take`, which returns -1 to end with its error. *complete is false where the
 * program was told to stop meanwhile. */
int feed_take_all(struct feed *feed,
                  int (*take)(void *context, const struct feed_batch *batch, struct error *error),
                  void *context, bool *complete, struct error *error);
/* Puts views of so many sequences into matrix [M, H], f32. */
void feed_write(struct queue *queue, const struct states_view *states, int sequences, struct matrix matrix);
/* Seconds that feed_next has waited for batches. */
double feed_waiting(const struct feed *feed);
void feed_close(struct feed *feed); /* at any time; NULL is fine */

#endif
