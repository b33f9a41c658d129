/* batch.h: a batch on the device, loaded once for all trials that learn from it or are measured on it: the
 * states of every tap, the labels, and the teacher's values (what the full model makes of each row). Where
 * extract has kept those (store/target.h) they are read; elsewhere they are computed from the final states, for
 * which a batch keeps the frozen ends of the model. The same batch is loaded again and again:
 *
 *     batch_create(&stores, backend, taps, count, TEACH_U | TEACH_OUTCOME, rows, &batch, error);
 *     batch_plan(batch, TEACH_U, &plan);  ... feed_open(&stores, &plan, ...), feed_next(feed, &next, ...)
 *     batch_load(batch, next, TEACH_U, error);
 *     ... batch_states(batch, tap), batch->u ...
 *     batch_destroy(batch);
 */
#ifndef OFFRAMP_TRAIN_BATCH_H
#define OFFRAMP_TRAIN_BATCH_H

#include "common/base/error.h"
#include "common/head/teacher.h"
#include "kernels/ops.h"
#include "train/feed.h"
#include "train/stores.h"
#include "train/subsets.h"

/* Which of the teacher's values a batch is loaded with. Where they are computed, each takes as many products
 * with the output weight as is noted. Stores with a target hold the first two, which then take no product, nor
 * the final states. */
enum {
    TEACH_NOTHING = 0,
    TEACH_U = 1, /* u: two */
    TEACH_OUTCOME = 2, /* values: one, none beside u */
    TEACH_STATES = 4, /* teacher: none */
    TEACH_STATES_ENTROPY = 8, /* states_entropy: one, none without a target beside the outcome */
    TEACH_SUBSET = 16, /* a subset of the vocabulary: none. The stores' target must have best tokens */
    TEACH_DRAFT = 32 /* followers, and the embedding: none. With TEACH_STATES */
};

struct batch {
    struct backend *backend;
    struct queue *queue;
    struct weight *output; /* [V, H], the model's output weight */
    struct weight
        *embedding; /* [V, H] its embedding, for drafts: `output` where the model is tied; else NULL */
    uint64_t seed; /* of subsets; set by whoever loads batches with TEACH_SUBSET */
    struct matrix final_norm; /* [1, H] */
    float norm_epsilon;
    int64_t hidden; /* H */
    bool target; /* the stores have one */
    bool reads_final; /* the final tap is the last of `tap` */
    int taps;
    struct tap *tap; /* [taps], along the model */
    int reads;
    struct tap *read; /* [reads] those of them that are read */
    int *place; /* [reads] of each, its index among all */

    /* Of what was loaded last, M rows. */
    int64_t rows;
    struct matrix labels; /* [M, 1] i32 */
    struct matrix followers; /* [M, 1] i32: the labels, and 0 where there is none */
    struct matrix u; /* [M, H] of docs/design.md */
    const struct target_row *values; /* [M], host */
    struct matrix teacher; /* [M, H] normed final state, for heads with an output weight of their own */
    const float *states_entropy; /* [M], host: of the softmax of `teacher`'s logits, nats */
    const struct subsets
        *subsets; /* NULL: loaded without TEACH_SUBSET, or they would be the whole vocabulary */

    int64_t capacity; /* rows */
    struct buffer **states; /* [taps], [capacity, H] each */
    struct buffer *buffer[6]; /* of the matrices above */
    struct subsets *drawn; /* NULL: no batch is loaded with TEACH_SUBSET */
    void *output_data, *embedding_data; /* of `output` and `embedding`, whose rows are gathered */
    int32_t *follower; /* [capacity] host */
    struct answer *answer;
    struct target_row *computed; /* [capacity] */
    float *entropy; /* [capacity] */
};

/* taps: those that the heads read, in any order; one may be named twice. teach: all that will be loaded; the
 * final tap is added where that takes its states. rows: the most that will be loaded. */
int batch_create(const struct stores *stores, struct backend *backend, const struct tap *taps, int count,
                 unsigned teach, int64_t rows, struct batch **batch, struct error *error);
void batch_destroy(struct batch *batch); /* NULL is fine */

/* Of all taps only these are read from now on, and the final one where it is needed; at first all are. Not while
 * a feed is open that batch_plan has made the plan of. */
void batch_use(struct batch *batch, const struct tap *taps, int count);

/* Fills in what a feed must read for batches that are loaded so. */
void batch_plan(const struct batch *batch, unsigned teach, struct feed_plan *plan);

/* Brings what a feed has read to the device. The values are there on return, for every queue; those on the host
 * live as long as `next`. */
int batch_load(struct batch *batch, const struct feed_batch *next, unsigned teach, struct error *error);

/* The loaded states [M, H] of a tap that batch_create was given. */
struct matrix batch_states(const struct batch *batch, struct tap tap);

#endif
