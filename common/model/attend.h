/* attend.h: attention over the spans of a call (layer.h): positions by rope, and keys and values kept for rows to come.
 *
 *     attend_create(config, backend, rows, spans, positions, &attend, error);
 *     attend_rotate(attend, queue, spans, count, q_and_k);                     // neighbours, so one call
 *     attend_forward(attend, queue, 11, spans, count, q, k, v, out);
 *     ...                                                                      // the gradient of out
 *     attend_backward(attend, queue, 11, spans, count, q, k, v, out, dout, dq, dk, dv);
 *     attend_rotate_back(attend, queue, spans, count, dq_and_dk);
 */
#ifndef OFFRAMP_MODEL_ATTEND_H
#define OFFRAMP_MODEL_ATTEND_H

#include "common/model/config.h"
#include "common/model/layer.h"
#include "kernels/ops.h"

/* Working memory and the table of positions. It belongs to one queue at a time. */
struct attend;

/* rows: the most tokens per call. spans: the most sequences that they belong to. positions: the longest sequence. More
 * than there is room for make the queue fail. */
int attend_create(const struct model_config *config, struct backend *backend, int64_t rows, int64_t spans,
                  int64_t positions, struct attend **attend, struct error *error);
void attend_destroy(struct attend *attend); /* NULL is fine */

/* op_rope of x [M, any heads D], in place, whose rows are those of the spans; and its gradient. */
void attend_rotate(struct attend *attend, struct queue *queue, const struct span *spans, int count,
                   struct matrix x);
void attend_rotate_back(struct attend *attend, struct queue *queue, const struct span *spans, int count,
                        struct matrix dx);

/* op_attention of the layer `index` (from 0, for its window) with the keys and values of the M rows themselves, and those
 * that the spans' kv hold. Theirs are written there. */
void attend_forward(struct attend *attend, struct queue *queue, int index, const struct span *spans, int count,
                    struct matrix q, struct matrix k, struct matrix v, struct matrix out);
/* Its gradient, of whole sequences (without kv). dq is stored; dk and dv are added to. */
void attend_backward(struct attend *attend, struct queue *queue, int index, const struct span *spans, int count,
                     struct matrix q, struct matrix k, struct matrix v, struct matrix out, struct matrix dout,
                     struct matrix dq, struct matrix dk, struct matrix dv);

#endif
