/* resume.h: what a trial of a run has come to, by the files that it has left; and back to it, from its checkpoint
 * or to a trial before its first step.
 *
 *     checkpoint | metrics            | head   | member_look
 *     -          | have ended         | yes    | done, unless the run has more steps now
 *     -          | say it was stopped | yes    | stopped
 *     yes        | otherwise          | yes    | waiting, at the checkpoint's step
 *     yes        | otherwise          | no     | the head is made of the checkpoint, or the trial begins anew
 *     no         | before more steps  | yes    | waiting, after the head's step
 *     no         | otherwise                   | waiting, from its start
 *
 * A trial that failed stays failed.
 */
#ifndef OFFRAMP_TRAIN_RESUME_H
#define OFFRAMP_TRAIN_RESUME_H

#include "train/member.h"

/* What a trial is made on. */
struct resume_setting {
    const struct run_folder *run;
    const struct model_config *model;
    struct backend *backend;
    int64_t steps; /* of the run */
};

/* Of a member that is opened. Afterwards it is waiting or has ended; one that is waiting and whose `saved` is -1 has
 * not begun. A trial of the same name that was begun with other settings is an error. */
int member_look(struct member *member, const struct resume_setting *setting, struct error *error);

/* Of a member that is waiting: it is trained from here on. One that has not begun has a head of zeros yet
 * (first_values.h). */
int member_resume(struct member *member, const struct resume_setting *setting, struct error *error);

#endif
