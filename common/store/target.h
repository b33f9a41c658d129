/* target.h: what the full model makes of every row of a sequence, computed once by extract, so that
 * distilling into heads that share its output weight needs neither the model nor its output product again.
 *
 * With q the softmax of the model's logits after a row and W its output weight [V, H], a target holds the
 * values of struct target_row, and u = sum_v q_v W_v [rows, H]: the loss of a tied head with logits h W^T is
 * lse(h W^T) - h.u, and its divergence from the full model is that less the entropy of q.
 *
 * All of it comes from the model's states as they were computed, not as the codec of `final` keeps them: a
 * target is the model's own whatever else is in the store, and `final` may be coded coarsely, or once more,
 * without touching it. What must agree then does: u and the entropy are of the same q, for the divergence is
 * made of both (each of a q of its own would bias it by the difference of their entropies). Only u is coded,
 * like a tap; its error enters loss and gradient linearly, so that klt:4 does for it: an affine head at tap 24
 * of the demo model, taught and measured so, has KL 0.7349, with klt:3 0.7374, with lossless 0.7364, and
 * held-out losses that differ by 0.0002 (8k training tokens).
 *
 * Heads with an output weight of their own need q itself, which the states at `final` give: they are taught by
 * those and measured against those, entropy included.
 *
 * A store keeps it as the record of a tap named "target" (tap.h): the header (cols: H), the columns that the manifest
 * lists (columns.h), then u as the codec writes it. struct target_row is what this program makes of the columns and
 * wants of them; a store may have more.
 */
#ifndef OFFRAMP_STORE_TARGET_H
#define OFFRAMP_STORE_TARGET_H

#include "common/store/store.h"

/* Of a row, each a column of its own with the member's name. */
struct target_row {
    int32_t top; /* the likeliest token, the smallest id among equals */
    float probability; /* of it */
    float entropy; /* of q, nats */
    float loss; /* -log q of the token that comes next, nats */
};

/* The target's index among the store's taps, or -1. */
int store_find_target(const struct store_info *info);

/* ---- columns ---- */

/* Those of struct target_row: what extract writes. */
const struct columns *target_columns(void);
/* Whether struct target_row can be had of them: the error names the column that is missing. */
int target_check_columns(const struct columns *columns, struct error *error);
/* values [rows] -> columns_bytes bytes. Columns that are not members of struct target_row are an error. */
int target_pack(const struct columns *columns, const struct target_row *values, int64_t rows, void *bytes,
                struct error *error);
/* The other way round; values NULL: only checks. Values that cannot be (a token outside 0 .. vocab-1, a loss that is not
 * a number) are an error; of columns that are not members of struct target_row nothing is known. */
int target_unpack(const struct columns *columns, const void *bytes, int64_t rows, int64_t vocab,
                  struct target_row *values, struct error *error);

/* ---- records ---- */

/* Of a sequence in the reader's store, which must have a target: values [rows] and, unless it is NULL, u
 * [rows, hidden]. */
int reader_target(struct reader *reader, struct sequence sequence, struct target_row *values, float *u,
                  struct error *error);
/* The same with all columns as the record has them: *columns, columns_bytes bytes, valid until the reader is closed. */
int reader_target_columns(struct reader *reader, struct sequence sequence, const void **columns, float *u,
                          struct error *error);
/* The same with u as reader_view gives states; u NULL: not wanted. */
int reader_target_view(struct reader *reader, struct sequence sequence, struct target_row *values,
                       float *states, struct states_view *u, struct error *error);

#endif
