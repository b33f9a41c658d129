/* dry_run.h: says what a run would train, and what it would take. Nothing is trained or written. */
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
