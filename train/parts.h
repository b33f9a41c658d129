/* parts.h: a sweep that several processes share: `train --part I/N` trains the trials i of the sweep with i mod N = I,
 * and `train --collect` makes of what the parts have left what one process would have made of all trials.
 *
 *     part:       run_folder_open_share, sweep_take_part, parts_is_done, ... training ..., parts_end
 *     collect:    run_folder_open_share, parts_check, parts_gather, ... results ..., parts_remove
 *
 * A trial's bytes do not depend on the trials beside it (training.h), so they do not depend on N. A part knows only of
 * its own trials: halving compares those.
 */
#ifndef OFFRAMP_TRAIN_PARTS_H
#define OFFRAMP_TRAIN_PARTS_H

#include <stdbool.h>

#include "common/base/error.h"
#include "train/run_folder.h"
#include "train/sweep.h"

/* ---- a part ---- */

/* Whether the part has ended already, and all that it made is there. sweep: its own trials. */
bool parts_is_done(const struct run_folder *run, const struct sweep *sweep);

/* Its trials have ended: says so in its file. */
int parts_end(struct run_folder *run, const struct sweep *sweep, struct error *error);

/* ---- collecting ---- */

/* -1 unless all trials of the sweep are there and their processes have ended; says on stderr which are not. */
int parts_check(const struct run_folder *run, const struct sweep *sweep, struct error *error);

/* Adds up what the parts have learned, in the facts: seconds are added, of memory the largest counts, lists and objects
 * are joined, of the rest the first part's value counts. */
int parts_gather(struct run_folder *run, const struct sweep *sweep, struct error *error);

/* From here on the run is one of a whole sweep: run.json says so once it is saved. */
void parts_dissolve(struct run_folder *run);
/* After that: removes what the parts had for themselves. */
int parts_remove(const struct run_folder *run, struct error *error);

#endif
