/* resume.h: brings a trial of a run to where it was, by the files that it has left: from its checkpoint, from
 * its kept head, or to a trial before its first step.
 *
 *     checkpoint | metrics have ended | head   |
 *     -          | yes                | yes    | done, unless the run has more steps now
 *     yes        | otherwise          | yes    | training, at the checkpoint's step
 *     yes        | otherwise          | no     | the head is made of the checkpoint, or the trial begins anew
 *     no         | before more steps  | yes    | training, after the head's step
 *     no         | otherwise                   | training, from its start
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

/* Of a member that is opened. Afterwards it is in one of the other states. One that is trained and whose
 * `saved` is -1 has a head of zeros yet (first_values.h). A trial of the same name that was begun with other
 * settings is an error. */
int member_resume(struct member *member, const struct resume_setting *setting, struct error *error);

#endif
