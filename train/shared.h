/* shared.h: what all trials share on the device: the frozen ends of the model, and of one batch the
 * states of every tap and what the full model makes of it (the teacher's values), computed once.
 *
 *     shared_create(&stores, backend, taps, count, rows, &shared, error);
 *     shared_load(shared, batch, TEACH_U, error);
 *     ... shared_states(shared, tap), shared->u ...
 *     shared_destroy(shared);
 */
#ifndef OFFRAMP_TRAIN_SHARED_H
#define OFFRAMP_TRAIN_SHARED_H

#include "common/base/error.h"
#include "kernels/ops.h"
#include "train/feed.h"
#include "train/stores.h"

/* Which of the teacher's values a batch is loaded with; the normed final state always is. */
enum {
    TEACH_NOTHING = 0,
    TEACH_U = 1, /* u: two vocabulary products */
    TEACH_OUTCOME = 2 /* lse, label, top, entropy: one product, none beside u */
};

struct shared {
    struct backend *backend;
    struct queue *queue;
    struct weight *output; /* [V, H], the model's output weight */
    struct matrix final_norm; /* [1, H] */
    float norm_epsilon;
    int64_t hidden; /* H */
    int taps; /* the final tap is the last one */
    struct tap *tap; /* [taps] */

    /* Of the batch that was loaded, M rows. */
    int64_t rows;
    struct matrix labels; /* [M, 1] i32 */
    struct matrix teacher; /* [M, H] normed final state */
    struct matrix u; /* [M, H] design, section 1; with TEACH_U */
    struct matrix lse, label; /* [M, 1] of the full model's logits; with TEACH_OUTCOME, as are: */
    struct matrix top; /* [M, 1] i32 */
    struct matrix entropy; /* [M, 1] nats */

    int64_t capacity; /* rows */
    struct buffer **states; /* [taps], [capacity, H] each */
    struct buffer *buffer[8]; /* of the matrices above */
};

/* taps: those the heads read, in any order and with repetition; the final tap is added. rows: the most
 * in a batch. */
int shared_create(const struct stores *stores, struct backend *backend, const struct tap *taps, int count,
                  int64_t rows, struct shared **shared, struct error *error);
void shared_destroy(struct shared *shared); /* NULL is fine */

/* A feed's plan must have shared's taps in shared's order. The values are there on return, for every
 * queue. */
int shared_load(struct shared *shared, const struct feed_batch *batch, unsigned teach, struct error *error);

/* The loaded states [M, H] of a tap that shared_create was given. */
struct matrix shared_states(const struct shared *shared, struct tap tap);

#endif
