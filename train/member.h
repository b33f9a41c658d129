/* member.h: a trial of a run and what it keeps in RUN/trials/ID: config.json, metrics.jsonl, last.ckpt,
 * head.safetensors.
 *
 * Its state says what it is; where there is no trial, the state says why:
 *
 *     MEMBER_OPENED      member_look (resume.h): by its files it is one of those below
 *
 *     MEMBER_WAITING     --- member_resume --->  MEMBER_TRAINING     --- member_end ---->  MEMBER_DONE
 *                        <-- member_park -----                       --- member_fail --->  MEMBER_FAILED
 *                        ------------------ member_stop ------------------------------->  MEMBER_STOPPED
 *
 * Files are written in an order that bears a kill at any moment: lines of metrics, then the checkpoint that
 * counts them, then the head that this checkpoint is the best of. The line that says that it has ended comes
 * before its checkpoint is removed.
 *
 * What cannot be written for want of space, rights or a folder is put off: the call succeeds, and `todo` says that
 * something is left. members_settle (members.h) decides then whose fault it is. Until then nothing else is done with
 * the member.
 */
#ifndef OFFRAMP_TRAIN_MEMBER_H
#define OFFRAMP_TRAIN_MEMBER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"
#include "train/metrics.h"
#include "train/run_folder.h"
#include "train/trial.h"

enum member_state {
    MEMBER_OPENED, /* its folder is there; it is not known yet what it has done */
    MEMBER_WAITING, /* it has more to do, from `saved` on, and is not open now */
    MEMBER_TRAINING, /* it has a trial that takes part in the run */
    MEMBER_DONE, /* it has ended: nothing of it changes any more */
    MEMBER_STOPPED, /* the run has stopped it (schedule.h): likewise */
    MEMBER_FAILED /* by its own fault, in this process or before it; or left out of this process */
};

/* What it was found to be worth after a step. */
struct member_score {
    int64_t step;
    double kl;
};

struct member {
    enum member_state state;
    const struct trial_config *config; /* of the sweep, which must outlive it */
    const char *fingerprint; /* of the model; likewise */
    struct trial *trial; /* of MEMBER_TRAINING; else NULL */
    char *folder, *checkpoint, *metrics_path, *head; /* paths */
    FILE *metrics; /* while it is trained: open for more lines */
    int64_t saved; /* the step of its checkpoint, -1: it has none */
    struct string lines; /* of metrics, that are not written yet */
    unsigned todo; /* what its files still lack (member_retry); 0 unless something could not be written */
    enum member_state next; /* its state once that is done */
    struct trial_cost cost; /* since its last line of metrics, which will be in the next one */
    int64_t evaluated; /* the last step it was evaluated after; -1: none */
    int64_t best_step; /* of the evaluation with the lowest KL, which is its kept head's; -1: none */
    struct evaluation best; /* that evaluation; its KL is INFINITY where there is none */
    struct member_score *score; /* [scores] of all evaluations, in their order */
    size_t scores, scores_capacity;
};

/* Makes its folder. member_close is right after a failure, too. */
int member_open(const struct run_folder *run, const struct trial_config *config, const char *fingerprint,
                struct member *member, struct error *error);
void member_close(struct member *member); /* a zeroed one is fine */

/* As before its first evaluation. */
void member_forget(struct member *member);
/* Of one that has been forgotten: takes in the evaluations of its metrics. */
int member_remember(struct member *member, const struct metrics *metrics, struct error *error);

/* ---- what is known of it ---- */

/* It is trained, memory holds it, and it has done so many steps; -1: whichever. */
bool member_is_at(const struct member *member, int64_t step);
/* Steps that it has done; of one that is waiting or trained. */
int64_t member_step(const struct member *member);
/* NaN: it was not evaluated after this step. */
double member_kl_at(const struct member *member, int64_t step);
/* True when its last `patience` evaluations brought no lower KL. patience 0: never. */
bool member_has_stalled(const struct member *member, int patience);

/* The run stops it, for a reason: the line of metrics that says so; its checkpoint goes, its kept head stays. Of one
 * that is waiting or trained. */
int member_stop(struct member *member, const char *reason, struct error *error);

/* ---- of a member that is trained ---- */

/* Its trial has taken a step: a line of its metrics. tokens: that it has been trained on so far; read: in this
 * step. */
int member_keep_step(struct member *member, const struct trial_result *result, int64_t tokens, int64_t read,
                     struct error *error);

/* Its trial has been evaluated as it is now, on so many held-out sequences, which have `read` tokens: a line of its
 * metrics, and its head where that is the best so far. */
int member_keep_evaluation(struct member *member, const struct evaluation *held_out, int64_t sequences,
                           int64_t tokens, int64_t read, struct error *error);

/* Keeps the head as it is now. Nothing else writes RUN/trials/ID/head.safetensors. */
int member_keep_head(struct member *member, struct error *error);

/* Its checkpoint, unless that is of this step, or the member is not trained. */
int member_save(struct member *member, struct error *error);

/* Its checkpoint; then it waits. */
int member_park(struct member *member, struct error *error);

/* Its checkpoint; then its trial becomes what its kept head is: it can be evaluated, and it cannot take a step any
 * more. */
int member_restore_head(struct member *member, const struct model_config *model, struct backend *backend,
                        struct error *error);

/* It has ended: held_out is what its kept head is on the whole split, which has so many sequences; `read` tokens
 * were read to know it. The line of metrics that says so; then nothing is left of its checkpoint and its trial. */
int member_end(struct member *member, const struct evaluation *held_out, int64_t sequences, int64_t tokens,
               int64_t read, struct error *error);

/* Its metrics to the disk. */
int member_sync(const struct member *member, struct error *error);

/* It has failed for good: says so on stderr and in its metrics, drops its trial and its head. reason: may be that of
 * its trial. */
int member_fail(struct member *member, const struct error *reason, struct error *error);

/* Its files cannot be used: says so on stderr. In this process it counts as failed. Its files stay as they are, so that
 * the next command can go on with it. */
void member_leave_out(struct member *member, const struct error *reason);

/* ---- files that cannot be written ---- */

/* Whether an error may be of one member's files alone: no space, no right, no folder. */
bool member_may_fail_by(const struct error *error);

/* Does what is left to do for its files. -1: it cannot be done. */
int member_retry(struct member *member, struct error *error);

/* As many bytes as its largest file may have, or a few more. */
int64_t member_file_bytes(const struct member *member);

/* Whether its folder takes a file of so many bytes, and of as many as its own ones have. Of any member that is not
 * troubled itself. */
bool member_can_write(const struct member *member, int64_t bytes);

/* ---- by its metrics ---- */

/* The step at which the trial has ended, the last one of the run or of the run before it was given more; -1: it
 * has not. One that ran out of patience has ended at the last step, whichever that is now. */
int64_t member_end_step(const struct run_folder *run, const struct metrics *metrics);

#endif
