/* target.h: what the full model makes of every row of a sequence. extract computes it once, so that heads which
 * share the model's output weight learn from it without the model and without its output product.
 *
 * Let q be the softmax of the model's logits after a row, and W its output weight [V, H]. A target holds the
 * values of struct target_row and u = sum_v q_v W_v, [rows, H]. A tied head with the logits h W^T then has the
 * loss lse(h W^T) - h.u, and its divergence from the full model is that less the entropy of q.
 *
 * All of it comes from the states as they were computed, whatever codec keeps `final`. u and the entropy must
 * be of the same q, since the divergence is made of both. Only u is coded, like a tap. Its error enters loss
 * and gradient linearly, so klt:4 is enough: an affine head at tap 24 of the demo model that is taught and
 * measured by it has KL 0.7349, with klt:3 0.7374, with lossless 0.7364 (8k training tokens; held-out losses
 * differ by 0.0002).
 *
 * The best tokens are for heads that learn from a part of the vocabulary: it must have the tokens that q is
 * mostly about.
 *
 * A head with an output weight of its own needs q itself. It is taught by the states at `final`, and measured
 * against those, entropy included.
 *
 * In a store the target is the record of a tap named "target" (tap.h): header, the columns that the manifest
 * lists (columns.h), then u as the codec writes it. struct target_row is what this program needs of the
 * columns; a store may have more.
 */
#ifndef OFFRAMP_STORE_TARGET_H
#define OFFRAMP_STORE_TARGET_H

#include "common/store/store.h"

/* How many of the likeliest tokens of a row extract keeps: 48 bytes a row. Stores may have fewer, more, or none.
 * An affine head at tap 24 of the demo model, taught over subsets of the vocabulary of 2,048 tokens (60 steps of
 * 2,048 rows), has the held-out loss 3.794 with 1 of them, 3.787 with 2, 3.765 with 4, 3.766 with 8 and 3.768
 * with 16. */
#define TARGET_BEST 8

/* Each member is a column with its name. */
struct target_row {
    int32_t top; /* the likeliest token, the smallest id among equals */
    float probability; /* of it */
    float entropy; /* of q, nats */
    float loss; /* -log q of the token that comes next, nats */
    /* By falling probability, the smaller id first among equal logits; -1 and 0 where a store has none: */
    int32_t best[TARGET_BEST]; /* the likeliest tokens: the first is `top` */
    float best_probability[TARGET_BEST]; /* of them, as f16 keeps it */
};

/* The target's index among the store's taps, or -1. */
int store_find_target(const struct store_info *info);

/* ---- columns ---- */

/* The columns of struct target_row, which extract writes. */
const struct columns *target_columns(void);
/* An error names the member of struct target_row that the columns lack. The best tokens may be missing. */
int target_check_columns(const struct columns *columns, struct error *error);
/* How many of the best tokens of struct target_row there are; 0: none. */
int target_best(const struct columns *columns);
/* An error names a column that target_pack cannot make: one that is not a member of struct target_row, or more of
 * the best tokens than it has. */
int target_check_made(const struct columns *columns, struct error *error);
/* values [rows] to columns_bytes bytes. An error as target_check_made's. */
int target_pack(const struct columns *columns, const struct target_row *values, int64_t rows, void *bytes,
                struct error *error);
/* Bytes to values [rows], or NULL: only checks. Values that cannot be are an error, such as a token outside 0
 * .. vocab-1, a loss that is not a number, or best tokens that are not in order. Columns that are not members
 * of struct target_row are not checked. */
int target_unpack(const struct columns *columns, const void *bytes, int64_t rows, int64_t vocab,
                  struct target_row *values, struct error *error);

/* ---- reading ---- */

/* values [rows] of a sequence, and u [rows, hidden] or NULL. A store without a target is an error. */
int reader_target(struct reader *reader, struct sequence sequence, struct target_row *values, float *u,
                  struct error *error);
/* The same with all columns as they lie in the record: *columns, columns_bytes bytes, valid until the reader is
 * closed. */
int reader_target_columns(struct reader *reader, struct sequence sequence, const void **columns, float *u,
                          struct error *error);
/* The same with u as reader_view gives states, or NULL. */
int reader_target_view(struct reader *reader, struct sequence sequence, struct target_row *values,
                       float *states, struct states_view *u, struct error *error);

#endif
