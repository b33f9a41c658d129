/* draft_ridge.h: the regression that a draft begins with (common/head/draft.h): from the states of its taps at t and
 * the normed embedding e of the token after it, to the final state at t + 1.
 *
 * Weighted ridge regression as in common/head/ridge.h, but without an intercept, since fc has no bias. It is fitted to
 * DRAFT_RIDGE_TOKENS tokens of the training split. Drafts of the same taps share it.
 *
 * What it predicts is shorter than a final state by what it does not know, and the draft's norm makes it as long again:
 * it is too sure of itself. So the norm's scale is multiplied by the factor with which the draft's loss is least, of a
 * few (draft_ridge.c), on some sequences.
 */
#ifndef OFFRAMP_TRAIN_DRAFT_RIDGE_H
#define OFFRAMP_TRAIN_DRAFT_RIDGE_H

#include "train/stores.h"
#include "train/trial.h"

/* 28 rows for each of the demo model's 2,304 inputs. Chosen; nobody has measured what more or fewer would do. */
#define DRAFT_RIDGE_TOKENS 65536

struct draft_regression {
    struct tap taps[HEAD_TAPS]; /* [count] that it is from */
    int count;
    float *a; /* [(count + 1) H, H] */
    double *moment; /* [H, H] of e */
    bool solved; /* else by the fault of the states: why is in `reason` */
    struct error reason;
};

/* Where and by what it is computed. */
struct draft_ridge_setting {
    const struct stores *stores;
    struct backend *backend;
    int threads; /* that decode */
    uint64_t seed; /* of the order of sequences, and of q and k */
};

/* Makes the regression that of the draft's taps, unless it is already. */
int draft_ridge_fit(struct draft_regression *regression, const struct trial *trial,
                    const struct draft_ridge_setting *setting, struct error *error);
/* Fills a draft that was initialised by INIT_RIDGE, and has its tokens, from a regression that is solved. */
int draft_ridge_use(const struct draft_regression *regression, struct trial *trial,
                    const struct draft_ridge_setting *setting, struct error *error);
void draft_regression_free(struct draft_regression *regression); /* a zeroed one is fine */

#endif
