/* subsets.h: the subsets of the vocabulary (subset.h) that a batch trains on, on the device, for all trials.
 *
 * A batch has sections, of whole sequences, and each has a subset of its own:
 *
 *     batch      sequence 0 | sequence 1 | sequence 2 | sequence 3
 *     sections   section 0  | section 1  | section 2  | section 3
 *     subsets    S tokens   | S tokens   | S tokens   | S tokens
 *
 * The labels and the likely tokens of few rows are few, and what is drawn in one section is drawn anew in the next.
 * So the gradient of a batch is nearer to that of the whole vocabulary than with one subset of as many tokens for
 * all of its rows, and costs as much.
 *
 *     subsets_create(backend, output, vocab, rows, length, &subsets, error);
 *     subsets_load(subsets, queue, next, seed, error);
 *     for (int i = 0; i < subsets->count; i++) ... subsets->section[i] ...
 *     subsets_destroy(subsets);
 */
#ifndef OFFRAMP_TRAIN_SUBSETS_H
#define OFFRAMP_TRAIN_SUBSETS_H

#include <stdint.h>

#include "common/base/error.h"
#include "common/base/piece.h"
#include "kernels/ops.h"
#include "train/feed.h"
#include "train/subset.h"

#define SECTION_ROWS  512 /* of a section, at least, where a batch has so many */
#define SECTIONS_MOST 8 /* of a batch: each takes memory for S rows of the output weight */

struct section {
    struct piece piece; /* its rows of the batch */
    struct weight *output; /* [S, H], the rows of the output weight in its subset */
    struct matrix shift; /* [1, S] */

    int64_t size; /* S that the rest is for */
    struct buffer *token, *shifts;
};

struct subsets {
    struct backend *backend;
    const struct weight *from; /* [V, H] */
    struct subset *draw;
    int64_t rows; /* of a section */

    /* Of the batch that was loaded last. */
    int count; /* sections; 0: a subset would be the whole vocabulary */
    struct section section[SECTIONS_MOST];
    struct matrix
        labels; /* [M, 1] i32, as members of their section's subset; -1: it is not in the vocabulary */

    struct buffer *label;
    int32_t *member; /* [capacity] */
};

/* Bytes that subsets take for batches of `rows` rows, at most, beside the output weight: the rows of each section's
 * subset in the two forms that products want. */
uint64_t subsets_bytes(int64_t vocab, int64_t hidden, int64_t rows, int64_t length);

/* output: with WEIGHT_ROWS; it must outlive the subsets. rows: the most that a batch has. length: of a sequence. */
int subsets_create(struct backend *backend, const struct weight *output, int64_t vocab, int64_t rows,
                   int64_t length, struct subsets **subsets, struct error *error);
void subsets_destroy(struct subsets *subsets); /* NULL is fine */

/* Draws the subsets of a batch, and gathers their rows. They depend on the batch and the seed only. Once the queue
 * is done, all queues may use them. */
int subsets_load(struct subsets *subsets, struct queue *queue, const struct feed_batch *next, uint64_t seed,
                 struct error *error);

#endif
