/* waves.h: carries out a run's schedule (schedule.h) on its members: which of them are open for training, which
 * are put away, which stop. What it knows of a member is what the member's files say.
 *
 *     waves_open(&setting, &waves, error);
 *     while (waves_next(&waves, &wave, error) == 0 && wave.count > 0)
 *         ... the members of MEMBER_TRAINING to wave.step, and an evaluation there ...
 *     waves_close(&waves);
 */
#ifndef OFFRAMP_TRAIN_WAVES_H
#define OFFRAMP_TRAIN_WAVES_H

#include "train/members.h"
#include "train/schedule.h"

struct waves_setting {
    struct schedule schedule;
    struct members *members; /* opened */
    const struct resume_setting *resume; /* what they are resumed by */
    int patience; /* of the run (held_out.h) */
};

struct waves {
    struct waves_setting setting;
    struct standing *standings; /* [members] */
    struct verdict *verdicts; /* [members] */
};

/* The members must outlive the waves. waves_close is right after a failure, too. */
int waves_open(const struct waves_setting *setting, struct waves *waves, struct error *error);
void waves_close(struct waves *waves); /* a zeroed one is fine */

/* Stops those that the schedule stops, puts away those that are not of the next wave, and opens those that
 * are. wave->count 0: nothing is left to do. */
int waves_next(struct waves *waves, struct wave *wave, struct error *error);

#endif
