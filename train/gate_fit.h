/* gate_fit.h: fits a gate to samples, calibrates it, and scores it on samples that it was not fitted to.
 *
 *     sequences   0 1 2 | 3 4 5 | 6 7 8 | 9 10 11 |  .  | 13 14 15 16 ...
 *                 fold 0  fold 1  fold 2   fold 3    left   scored
 *                 ------------ fitted -----------    out
 *
 * The sequences that are fitted to are cut into GATE_FOLDS folds, runs of neighbours. For each fold a probe is fitted to
 * the others, and the fold says when it has had enough and what it makes of tokens that it has not seen. The gate is
 * the mean of the logits of all of these probes: as a probe it has all of their units. It is calibrated (gate_score.h) by
 * those logits.
 */
#ifndef OFFRAMP_TRAIN_GATE_FIT_H
#define OFFRAMP_TRAIN_GATE_FIT_H

#include "common/head/gate.h"
#include "train/gate_probe.h"
#include "train/gate_samples.h"
#include "train/gate_score.h"

enum { GATE_FOLDS = 4 };

/* Which samples are fitted to, and which are scored. */
struct gate_cut {
    uint64_t fitted; /* sequences [0, fitted) */
    uint64_t scored; /* sequences [scored, sequences) */
    uint64_t sequences;
    int rows; /* of a sequence */
    bool shares_document; /* one goes on from a sequence that is fitted to into one that is scored */
};

struct gate_score {
    double auc;
    double confidence; /* the AUC of the head's largest probability on the same tokens */
    double agreement; /* the share of the scored tokens that agree */
    double loss; /* mean cross-entropy of the calibrated probability, nats */
    struct gate_bin bins[GATE_BINS];
    int64_t fitted, scored; /* tokens */
};

/* Fills in the probe of a gate all of whose other members are set: what it is of, and its short list. When the program is told
 * to stop meanwhile, *complete is false and the gate must not be used. */
int gate_fit(const struct gate_samples *samples, const struct gate_cut *cut, struct backend *backend,
             uint64_t seed, struct gate *gate, bool *complete, struct error *error);

/* Scores a gate on the sequences of the cut that it was not fitted to. */
int gate_measure(const struct gate_samples *samples, const struct gate_cut *cut, const struct gate *gate,
                 struct gate_score *score, struct error *error);

#endif
