/* members.h: brings the trials of a run to where they were, or to their start. */
#ifndef OFFRAMP_TRAIN_MEMBERS_H
#define OFFRAMP_TRAIN_MEMBERS_H

#include "train/metrics.h"
#include "train/training.h"

/* Makes every trial with its folder, from its checkpoint or its initial values; the ridge regressions
 * that are needed are fitted in one read of the training split. One that is done and has no checkpoint gets no
 * trial: nothing of it changes any more. When the run has more steps than it was done with, it goes on from its kept
 * head. */
int members_prepare(struct training *training, struct error *error);

/* Marks a trial failed for good, on disk too. */
int member_fail(struct training *training, int index, const struct error *reason, struct error *error);

/* Keeps the head as it is now: it is the best so far. */
int member_keep_head(struct training *training, int index, struct error *error);

/* Checkpoints of the trials that have changed since their last one. */
int members_save(struct training *training, struct error *error);

/* Brings to the disk what their metrics say. */
int members_sync(const struct training *training, struct error *error);

/* The trial of these metrics has been evaluated after the last step: of the run, or of the run before it was given
 * more. */
bool member_has_ended(const struct training *training, const struct metrics *metrics);

/* Removes the checkpoints of a run that is done, whose members need not be there. */
int members_remove_checkpoints(const struct training *training, struct error *error);

#endif
