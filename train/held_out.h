/* held_out.h: the members of a run on the held-out split: on a sample of it while they are trained, on all of it
 * at their end.
 *
 *     step                0         8         16        20, the last
 *     read                sample    sample    sample    sample    the rest of the split
 *     of each trial       its head as it is then                  its kept head: the one that was best on the sample
 *     metrics.jsonl       a line    a line    a line    a line    its last line
 *
 * What is known of the sample is not read again for a head that is kept as it is now. A kept head of an earlier step
 * reads all of the split. Where the sample is all of the split, nothing is read at the end.
 *
 * The sample depends on the run's seed and on the store only. So it is the same for all trials of a run, and in
 * all of its processes.
 */
#ifndef OFFRAMP_TRAIN_HELD_OUT_H
#define OFFRAMP_TRAIN_HELD_OUT_H

#include "train/evaluate.h"
#include "train/members.h"
#include "train/observations.h"
#include "train/run_folder.h"
#include "train/schedule.h"

struct held_out {
    const struct evaluation_setting *evaluation;
    struct run_folder *run; /* notes what the full model's loss is */
    const struct members *members;
    int64_t steps; /* of the run */
    int64_t every; /* steps between evaluations; 0: the first and the last only */
    const struct schedule *schedule; /* at whose rungs there is one, too */
    int patience; /* evaluations without a lower KL after which a trial ends; 0: none does */
    int64_t tokens; /* of a step */
    struct observations *seen; /* gets what is seen of kept heads, where that is not too much to hold */
};

/* After step `step`: evaluates the members whose turn it is, and ends those that have come to the last step, or have
 * run out of patience. When the program is told to stop meanwhile, some of that is not done; the same call goes on. */
int held_out_measure(const struct held_out *held_out, int64_t step, struct error *error);

#endif
