/* run_left.h: what a run has to do still, by what its folder holds. Of a run that is finished nothing is
 * trained again: it is only shown, or given another policy. A file that was deleted or cut makes what it was
 * part of again.
 */
#ifndef OFFRAMP_TRAIN_RUN_LEFT_H
#define OFFRAMP_TRAIN_RUN_LEFT_H

#include <stdbool.h>

#include "train/run_folder.h"
#include "train/sweep.h"

enum run_left { LEFT_NOTHING, LEFT_GATES, LEFT_POLICY, LEFT_TRAINING };

/* True when a trial has ended after all steps of the run, and what it leaves is there: its metrics, and its head unless it
 * has failed. */
bool run_trial_is_there(const struct run_folder *run, const char *id);

/* True when the run has ended with just the trials of the sweep, and what it trained is still there. */
bool run_is_finished(const struct run_folder *run, const struct sweep *sweep);

/* True when the gates that are asked for (train/gates.h) are there. Of a run that is finished. */
bool run_has_gates(const struct run_folder *run, const struct sweep *sweep, const struct model_config *model);

/* True when what is made of the trials is still there: a policy that can be used, the leaderboard, the
 * report. */
bool run_has_results(const struct run_folder *run);

#endif
