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
 * A store keeps it as the record of a tap named "target" (tap.h): the header (cols: H), target_row [rows],
 * then u as the codec writes it.
 */
#ifndef OFFRAMP_STORE_TARGET_H
#define OFFRAMP_STORE_TARGET_H

#include "common/store/store.h"

/* Little-endian. */
struct target_row {
    int32_t top; /* the likeliest token, the smallest id among equals */
    float probability; /* of it */
    float entropy; /* of q, nats */
    float loss; /* -log q of the token that comes next, nats */
};

/* The target's place among the store's taps, or -1. */
int store_find_target(const struct store_info *info);

/* As record_encode, of values [rows] and u [rows, cols]; tap: tap_target. */
int target_encode(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                  struct sequence sequence, const struct target_row *values, const float *u, int64_t rows,
                  unsigned char **record, size_t *capacity, size_t *size, double *loss, struct error *error);
/* As target_encode, or with values NULL as record_encode, of states as they came: f32, or `transformed` what a device has
 * made of them (coder_transform). */
int record_encode_made(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                       struct sequence sequence, const struct target_row *values, const void *states,
                       bool transformed, int64_t rows, unsigned char **record, size_t *capacity, size_t *size,
                       double *loss, struct error *error);
/* As record_decode, to values [rows] and u [rows, cols], or a view of it, where they are not NULL. Values that
 * cannot be (a token outside 0 .. vocab-1, a loss that is not a number) are an error. */
int target_decode(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                  struct sequence sequence, const void *record, size_t size, int64_t rows, int64_t vocab,
                  struct target_row *values, float *u, struct states_view *view, struct error *error);

/* Of a sequence in the reader's store, which must have a target: values [rows] and, unless it is NULL, u
 * [rows, hidden]. */
int reader_target(struct reader *reader, struct sequence sequence, struct target_row *values, float *u,
                  struct error *error);
/* The same with u as reader_view gives states; u NULL: not wanted. */
int reader_target_view(struct reader *reader, struct sequence sequence, struct target_row *values,
                       float *states, struct states_view *u, struct error *error);

#endif
