/* run_identity.h: what a run is. A command that gives another model, store, seed, batch or arithmetic to a run
 * that has begun is refused, by the name of what differs. All of it is in run.json (run_folder.h); nothing here
 * writes the file.
 *
 *     run_identity_check(&run, &stores, &sweep, error);
 *     run_identity_check_steps(&run, steps, &more, error);
 *     run_identity_check_device(&run, backend, error);
 *
 * Only the number of steps may change, and only upwards.
 */
#ifndef OFFRAMP_TRAIN_RUN_IDENTITY_H
#define OFFRAMP_TRAIN_RUN_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "kernels/ops.h"
#include "train/run_folder.h"
#include "train/stores.h"
#include "train/sweep.h"

/* Model, store, seed, size of a batch and of the sample; which trials end early. Sets the size of the sample in
 * the sweep: where it is not given, as the run was begun. */
int run_identity_check(struct run_folder *run, const struct stores *stores, struct sweep *sweep,
                       struct error *error);

/* Trials that were begun before there was a subset of the vocabulary (their config.json does not name it) go on
 * with all of it, and a line on stderr says how many. Those whose sweep leaves it to the program go on as they were
 * begun. After sweep_resolve. */
int run_identity_keep_vocabulary(const struct run_folder *run, struct sweep *sweep, struct error *error);

/* The number of steps. *more: there are more than before. The run then goes on, with the learning rates of a
 * longer run, and the old number is kept. Says so on stderr. */
int run_identity_check_steps(struct run_folder *run, int64_t steps, bool *more, struct error *error);

/* True for the last step of the run, and for the last step that it had before it was given more. */
bool run_identity_ends_at(const struct run_folder *run, int64_t step);

/* The mode of the products. Notes which backends the run has used, and warns when it goes on on another one. */
int run_identity_check_device(struct run_folder *run, const struct backend *backend, struct error *error);

#endif
