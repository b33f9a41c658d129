/* trial.h: a trial: one head, its hyperparameters and its optimizer's state.
 *
 *     trial_create(&config, &model, backend, &trial, error);
 *     head_initialise(trial->head, ...);
 *     trials_step(&trial, 1, workspace, batch, steps, &result, error);      // step.h
 */
#ifndef OFFRAMP_TRAIN_TRIAL_H
#define OFFRAMP_TRAIN_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/head/head.h"
#include "train/batch.h"
#include "train/sweep.h"

/* Seconds of work for a trial. Over all trials of a run they add up to what its training takes. */
struct trial_cost {
    double own; /* for it alone */
    double shared; /* its part of what is done for several at once: each of them has the same */
    double stalled; /* of shared: the stores were waited for */
};

struct trial {
    struct trial_config config;
    struct head *head;
    struct queue *queue; /* for what is read and written between steps */
    int64_t trained; /* values the optimizer changes */
    int64_t values; /* in a buffer of all of them, where each parameter begins at an aligned offset */
    int64_t step; /* steps done */
    int64_t optimizer_start; /* the step at which Adam's moments were zeros */
    bool failed; /* by its own fault: takes no further part; why is in `reason` */
    bool starved; /* memory did not hold it, alone and in the smallest pieces: trials_judge (step.h) */
    struct error reason;
    struct buffer *first, *second; /* Adam's moments, of all trained parameters */
};

/* A trial before its first step; the head's parameters are zeros. */
int trial_create(const struct trial_config *config, const struct model_config *model, struct backend *backend,
                 struct trial **trial, struct error *error);
/* A trial whose head is a file's, which must be of these settings and this model. It can be evaluated, but it
 * cannot take a step. */
int trial_open_head(const struct trial_config *config, const char *path, const struct model_config *model,
                    const char *fingerprint, struct backend *backend, struct trial **trial,
                    struct error *error);
/* The same after `step` steps, with an optimizer that begins there: it can take a step. */
int trial_restart(const struct trial_config *config, const char *path, const struct model_config *model,
                  const char *fingerprint, int64_t step, struct backend *backend, struct trial **trial,
                  struct error *error);
void trial_destroy(struct trial *trial); /* NULL is fine */

/* The part of a buffer of trial->values values that belongs to a parameter, in its shape; none for a frozen
 * one. */
struct matrix trial_parameter_part(const struct trial *trial, struct buffer *buffer, int parameter);
/* That of the moments. */
struct matrix trial_first_moment(const struct trial *trial, int parameter);
struct matrix trial_second_moment(const struct trial *trial, int parameter);

/* What batch_load must have computed for a step. */
unsigned trial_teaching(const struct trial_config *config);
/* The same for an evaluation, without the outcome. It includes the above but for the subset: evaluations are on
 * the whole vocabulary. */
unsigned trial_measuring(const struct trial_config *config);

/* The batch that a sweep's trials learn from and are measured on, with room for so many sequences. */
int trials_create_batch(const struct sweep *sweep, const struct stores *stores, struct backend *backend,
                        int sequences, struct batch **batch, struct error *error);

struct trial_result {
    double loss; /* mean over the batch's tokens, nats */
    double norm; /* of the gradient, before it was clipped */
    double rate;
    double own, shared; /* seconds: of work for it alone, and its part of work for its whole group */
};

/* Whether both may take a step in one group: they have the same loss, through the model's own output weight or
 * the batch's subsets of its rows. */
bool trial_joins(const struct trial *trial, const struct trial *other);

/* Its head is a draft (common/head/draft.h). */
bool trial_is_draft(const struct trial *trial);
/* Its head is by row (head.h). */
bool trial_is_by_row(const struct trial *trial);
/* Marks a trial starved. */
void trial_starve(struct trial *trial, const struct error *reason);

#endif
