/* timing.h: what a run's parts take on this machine: each is done once or twice, on the run's own batches or on
 * smaller ones, and timed. Nothing is kept.
 *
 * Trials whose heads, losses and outputs are of the same make take the same, so one of each make is timed.
 *
 *     timing_run(&setting, &timing, error);
 *     seconds = steps * (timing.batch + sum of timing.step) + ...
 *     timing_free(&timing);
 */
#ifndef OFFRAMP_TRAIN_TIMING_H
#define OFFRAMP_TRAIN_TIMING_H

#include "common/base/error.h"
#include "kernels/ops.h"
#include "train/stores.h"
#include "train/sweep.h"

struct timing_setting {
    const struct sweep *sweep; /* resolved */
    const struct stores *stores;
    struct backend *backend;
    int threads;
};

/* Seconds. */
struct timing {
    double batch; /* what trials share in a step: reading a batch, and loading it */
    double *step; /* [trials] a step of a trial on a loaded batch */
    double held_out; /* reading and loading a held-out sequence */
    double *evaluation; /* [trials] the evaluation of a trial on one that is loaded */
    double regressions; /* all that the run begins with */
};

/* Takes about as long as a few steps of the run; at most some seconds, unless a step of a single sequence takes
 * longer. */
int timing_run(const struct timing_setting *setting, struct timing *timing, struct error *error);
void timing_free(struct timing *timing); /* a zeroed one is fine */

#endif
