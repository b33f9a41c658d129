/* members.h: all trials of a run, in the order of the sweep.
 *
 *     members_open(&setting, &sweep, fingerprint, &members, error);      // what each has come to (resume.h)
 *     members_regress(&members, ...);                                    // first_values.h
 *     waves_next(&waves, ...), members_set_first_values(&members, ...);  // some of them are trained (waves.h)
 *     members_save(&members, error);
 *     ...
 *     members_close(&members);
 */
#ifndef OFFRAMP_TRAIN_MEMBERS_H
#define OFFRAMP_TRAIN_MEMBERS_H

#include "train/member.h"
#include "train/resume.h"
#include "train/sweep.h"

struct members {
    struct member *member; /* [count]; member i is trial i of the sweep */
    int count;
};

/* The sweep, the fingerprint (of the model) and what is in `setting` must outlive the members. A trial whose folder cannot
 * be made, read or written is left out (member_leave_out), as long as the folder of another one takes files. */
int members_open(const struct resume_setting *setting, const struct sweep *sweep, const char *fingerprint,
                 struct members *members, struct error *error);
void members_close(struct members *members); /* a zeroed one is fine */

/* member_resume, or in the same way the member is left out. */
int members_resume(const struct members *members, struct member *member, const struct resume_setting *setting,
                   struct error *error);

/* The steps that all trials have done that are trained; -1 when none is. Those that are ahead, because their
 * last checkpoint is a later one, wait until the others have caught up. */
int64_t members_step(const struct members *members);

/* The trials that are trained, into `trials` (room for all members); returns how many. */
int members_trials(const struct members *members, struct trial **trials);

/* What those are taught by that have done `step` steps (trial_teaching); -1: whichever step they are at. */
unsigned members_teaching(const struct members *members, int64_t step);

/* Work for those that are trained and have done `step` steps (-1: as many as they may) has taken so many
 * seconds; of these the stores were waited for `stalled`. */
void members_charge(struct members *members, int64_t step, double seconds, double stalled);

/* Checkpoints of those that have changed since their last one. ERROR_INTERRUPTED: some of them would have taken too
 * long (checkpoint.h). */
int members_save(struct members *members, struct error *error);

/* Decides whose fault it is that something of some members could not be written, after all have had their turn. What
 * can be written now is. Else it is the member's own fault when the folder of another one takes files: it fails, and
 * the others go on. Where none does, it is the machine's: -1, and no trial is marked. members_save ends with this. */
int members_settle(const struct members *members, struct error *error);

/* Brings to the disk what their metrics say. */
int members_sync(const struct members *members, struct error *error);

/* Removes the checkpoints of a run that is done, whose members need not be open. Where a folder does not let one go,
 * that is said. */
int members_remove_checkpoints(const struct run_folder *run, const struct sweep *sweep, struct error *error);

#endif
