/* ridge.h: the affine map from a tap to the final state in closed form, without a gradient step.
 *
 * Weighted ridge regression: with x a tap's state and a 1 behind it, y the final state and
 * w = 1 / mean(y^2) of the same token (a few tokens have 150 times the usual norm and would be all
 * that is fitted),
 *     [A; b] = (sum w x x^T + r I)^-1 sum w x y^T,        r = 1e-4 of the mean of the diagonal.
 * The two sums are all that is kept of the training split: one read of it serves every tap.
 *
 *     ridge_create(backend, hidden, taps, count, rows, &ridge, error);
 *     ridge_add(ridge, states, rows, error);             // one call per sequence, always in one order
 *     ridge_solve(ridge, t, a, b, error);
 */
#ifndef OFFRAMP_TRAIN_RIDGE_H
#define OFFRAMP_TRAIN_RIDGE_H

#include <stdint.h>

#include "common/base/error.h"
#include "train/feed.h"

struct ridge;

/* `count` taps, `rows` the most tokens per call. Device memory: (H + 1) (2 H + 1) doubles a tap. */
int ridge_create(struct backend *backend, int64_t hidden, int count, int64_t rows, struct ridge **ridge,
                 struct error *error);
void ridge_destroy(struct ridge *ridge); /* NULL is fine */

/* states [count + 1], a view [rows, H] each: every tap's, then the final one's. Sums depend on how the tokens are
 * cut into calls, so callers that want the same bytes cut them the same way. */
int ridge_add(struct ridge *ridge, struct states_view *const *states, int64_t rows, struct error *error);

/* a [H, H] and b [H] of tap number `tap`. On one thread. An error when the sums hold no information or
 * something that is not a number. */
int ridge_solve(struct ridge *ridge, int tap, float *a, float *b, struct error *error);

#endif
