/* draft_ridge.h: the regression that a draft begins with (common/head/draft.h): from the states of its taps at t and
 * the normed embedding e of the token after it, to the final state at t + 1.
 *
 * Weighted ridge regression as in common/head/ridge.h, but without an intercept, since fc has no bias. It is fitted to
 * DRAFT_RIDGE_TOKENS tokens of the training split.
 *
 * What it predicts is shorter than a final state by what it does not know, and the draft's norm makes it as long again:
 * it is too sure of itself. So the norm's scale is multiplied by the factor with which the draft's loss is least, of a
 * few (draft_ridge.c), on some sequences.
 */
#ifndef OFFRAMP_TRAIN_DRAFT_RIDGE_H
#define OFFRAMP_TRAIN_DRAFT_RIDGE_H

#include "train/stores.h"
#include "train/trial.h"

/* At 24 or more rows for each of 2,304 inputs the held-out error of the demo model's has come to rest. */
#define DRAFT_RIDGE_TOKENS 65536

/* Fills a draft that was initialised by INIT_RIDGE. An error of the kind ERROR_INPUT is the states' fault. */
int draft_ridge(struct trial *trial, const struct stores *stores, struct backend *backend, int threads,
                uint64_t seed, struct error *error);

#endif
