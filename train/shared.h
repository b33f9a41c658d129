/* shared.h: what all trials share on the device: the frozen ends of the model, and of one batch the
 * states of every tap and what the full model makes of it (the teacher's values), computed once, or read from
 * the stores where extract has kept it as their target (store/target.h).
 *
 *     shared_create(&stores, backend, taps, count, TEACH_U | TEACH_OUTCOME, rows, &shared, error);
 *     shared_plan(shared, TEACH_U, &plan);  ... feed_open(&stores, &plan, ...)
 *     shared_load(shared, batch, TEACH_U, error);
 *     ... shared_states(shared, tap), shared->u ...
 *     shared_destroy(shared);
 */
#ifndef OFFRAMP_TRAIN_SHARED_H
#define OFFRAMP_TRAIN_SHARED_H

#include "common/base/error.h"
#include "common/head/teacher.h"
#include "kernels/ops.h"
#include "train/feed.h"
#include "train/stores.h"

/* Which of the teacher's values a batch is loaded with. What is computed takes products with the output
 * weight, as many as are noted; with a target the first two take none, and the stores' final states are not
 * even read for them. */
enum {
    TEACH_NOTHING = 0,
    TEACH_U = 1, /* u: two */
    TEACH_OUTCOME = 2, /* values: one, none beside u */
    TEACH_STATES = 4, /* teacher: none */
    TEACH_STATES_ENTROPY = 8 /* states_entropy: one, none without a target beside the outcome */
};

struct shared {
    struct backend *backend;
    struct queue *queue;
    struct weight *output; /* [V, H], the model's output weight */
    struct matrix final_norm; /* [1, H] */
    float norm_epsilon;
    int64_t hidden; /* H */
    bool target; /* the stores have one */
    bool reads_final; /* the final tap is the last of `tap` */
    int taps;
    struct tap *tap; /* [taps], along the model */

    /* Of the batch that was loaded, M rows. */
    int64_t rows;
    struct matrix labels; /* [M, 1] i32 */
    struct matrix u; /* [M, H] of docs/design.md */
    const struct target_row *values; /* [M], host */
    struct matrix teacher; /* [M, H] normed final state, for heads with an output weight of their own */
    const float *states_entropy; /* [M], host: of the softmax of `teacher`'s logits, nats */

    int64_t capacity; /* rows */
    struct buffer **states; /* [taps], [capacity, H] each */
    struct buffer *buffer[5]; /* of the matrices above */
    struct answer *answer;
    struct target_row *computed; /* [capacity] */
    float *entropy; /* [capacity] */
};

/* taps: those the heads read, in any order and with repetition. teach: all that batches will be loaded with;
 * the final tap is added where that takes its states. rows: the most in a batch. */
int shared_create(const struct stores *stores, struct backend *backend, const struct tap *taps, int count,
                  unsigned teach, int64_t rows, struct shared **shared, struct error *error);
void shared_destroy(struct shared *shared); /* NULL is fine */

/* Fills in what a feed must read for batches that are loaded so. */
void shared_plan(const struct shared *shared, unsigned teach, struct feed_plan *plan);

/* The values are there on return, for every queue; those on the host as long as the batch. */
int shared_load(struct shared *shared, const struct feed_batch *batch, unsigned teach, struct error *error);

/* The loaded states [M, H] of a tap that shared_create was given. */
struct matrix shared_states(const struct shared *shared, struct tap tap);

#endif
