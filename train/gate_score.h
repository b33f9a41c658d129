/* gate_score.h: how good probabilities are that tell whether something is so: in which order they put things, and
 * whether they mean what they say.
 *
 *     auc = gate_auc(score, is_so, count, error);
 *     gate_reliability(probability, is_so, count, bins);
 *     gate_calibrate(logit, is_so, count, &slope, &shift);
 */
#ifndef OFFRAMP_TRAIN_GATE_SCORE_H
#define OFFRAMP_TRAIN_GATE_SCORE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"

/* The share of the pairs (one that is so, one that is not) in which the former has the higher score; a tie counts half.
 * Exact: it comes from ranks, where equal scores share the mean of theirs. *auc is NaN where there is no such pair. */
int gate_auc(const double *score, const bool *is_so, int64_t count, double *auc, struct error *error);

/* Tokens whose probability is in a tenth of 0 .. 1 (1 belongs to the last). */
enum { GATE_BINS = 10 };
struct gate_bin {
    int64_t tokens;
    double predicted,
        observed; /* the mean probability, and the share that is so; NaN where there are no tokens */
};
void gate_reliability(const double *probability, const bool *is_so, int64_t count,
                      struct gate_bin bins[GATE_BINS]);
/* The mean distance of predicted and observed over the bins, weighted by their tokens (expected calibration error, Guo
 * et al. 2017, arXiv 1706.04599). */
double gate_calibration_error(const struct gate_bin bins[GATE_BINS]);

/* Platt's scaling (Platt 1999): the slope and shift with which sigmoid(slope * logit + shift) has the least mean
 * cross-entropy, by Newton's method. As Platt does, one token more of either kind is counted, so that logits that tell
 * all apart give no infinite slope. The slope is not negative. */
void gate_calibrate(const double *logit, const bool *is_so, int64_t count, double *slope, double *shift);

#endif
