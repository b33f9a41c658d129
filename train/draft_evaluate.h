/* draft_evaluate.h: how good a draft is on the loaded held-out batch (evaluate.h).
 *
 * Of step k, over the rows that count in it: how often the draft's best token is the full model's likeliest one there
 * (a hit), and how often that is so at all steps up to k (accepted). The draft is given the text's own tokens. Where
 * the text is what the model itself says, accepted is what a verifier of the greedy text accepts, for an accepted
 * token is the text's.
 *
 * loss and kl are those of draft_work.h, summed over the steps; agreement is the first step's hits.
 */
#ifndef OFFRAMP_TRAIN_DRAFT_EVALUATE_H
#define OFFRAMP_TRAIN_DRAFT_EVALUATE_H

#include "train/evaluate.h"

/* Fills in the sums of the batch's places, which begin at sums[0]. Each is so that the mean over all rows of the
 * places is the mean over the rows that count. */
int draft_evaluate(struct trial *trial, struct workspace *workspace, const struct batch *batch,
                   struct evaluation *sums, struct error *error);

#endif
