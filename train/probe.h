/* probe.h: what a run's parts take on this machine: each is done once or twice, on the run's own batches or on
 * smaller ones, and timed. Nothing is kept.
 *
 * Trials whose heads, losses and outputs are of the same make take the same, so one of each make is timed.
 *
 *     probe_run(&setting, &probe, error);
 *     seconds = steps * (probe.batch + sum of probe.step) + ...
 *     probe_free(&probe);
 */
#ifndef OFFRAMP_TRAIN_PROBE_H
#define OFFRAMP_TRAIN_PROBE_H

#include "common/base/error.h"
#include "kernels/ops.h"
#include "train/stores.h"
#include "train/sweep.h"

struct probe_setting {
    const struct sweep *sweep; /* resolved */
    const struct stores *stores;
    struct backend *backend;
    int threads;
};

/* Seconds. */
struct probe {
    double batch; /* what trials share in a step: reading a batch, and loading it */
    double *step; /* [trials] a step of a trial on a loaded batch */
    double held_out; /* reading and loading a held-out sequence */
    double *evaluation; /* [trials] the evaluation of a trial on one that is loaded */
    double regressions; /* all that the run begins with */
};

/* Takes about as long as a few steps of the run; at most some seconds, unless a step of a single sequence takes
 * longer. */
int probe_run(const struct probe_setting *setting, struct probe *probe, struct error *error);
void probe_free(struct probe *probe); /* a zeroed one is fine */

#endif
