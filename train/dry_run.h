/* dry_run.h: says what a run would train, and what it would take. Nothing is kept or written.
 *
 *     trial                              trained values     memory        time   share
 *     12-affine-ridge-distillation-0.001         332928    4.00 MB       8.9 s  15.1 %
 *
 * A trial's memory is its head and its optimizer's state. Its time is that to the last step, without what trials
 * share: reading, and the subset of the vocabulary. As JSON:
 *
 *     trials     of each: its settings, "id", "trained" (values), "memory" (bytes), "seconds", "share" of all trials
 *     steps, tokens, evaluations (of a trial that goes to the last step), sample, held_out_sequences
 *     live       trials at a time, at most
 *     waves      how often some of the trials go through batches together
 *     rungs      of each: "step", and the "trials" that go so far; the last one is the last step
 *     memory     bytes: all = trials (the largest that can be live) + gradients + batches + output
 *     seconds    all = begin (regressions) + trials (as halving leaves them) + shared
 */
#ifndef OFFRAMP_TRAIN_DRY_RUN_H
#define OFFRAMP_TRAIN_DRY_RUN_H

#include <stdbool.h>

#include "common/base/error.h"
#include "train/sweep.h"
#include "train/training.h"

/* Prints the trials of the sweep on stdout, each with its values, memory and time, and what the run takes in all;
 * as JSON if wanted. Of a part of a sweep, the part's trials stay in it. What a run would refuse is refused in the
 * same words. options->out may be NULL, and is not looked at. */
int dry_run(const struct training_options *options, struct sweep *sweep, bool json, struct error *error);

#endif
