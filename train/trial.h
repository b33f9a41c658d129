/* trial.h: one head, its hyperparameters and its optimizer's state; one step of its training.
 *
 * Trials run one after another in a common workspace, so that a run needs the memory of one gradient
 * however many trials it has. A trial depends on its own settings, the seed and the batches only.
 *
 *     workspace_create(backend, rows, hidden, &workspace, error);
 *     trial_create(&config, &shape, shared, workspace, &trial, error);
 *     head_initialise(trial->head, ...);
 *     trial_step(trial, workspace, shared, steps, &result, error);     // after shared_load
 */
#ifndef OFFRAMP_TRAIN_TRIAL_H
#define OFFRAMP_TRAIN_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/head/head.h"
#include "train/shared.h"
#include "train/sweep.h"

/* ---- working memory, used by one trial at a time ---- */

struct workspace;

int workspace_create(struct backend *backend, int64_t rows, int64_t hidden, struct workspace **workspace,
                     struct error *error);
void workspace_destroy(struct workspace *workspace); /* NULL is fine */

/* h [rows, H]: the place for a head's result. */
struct matrix workspace_h(const struct workspace *workspace, int64_t rows);

/* ---- trials ---- */

struct trial {
    struct trial_config config;
    struct head *head;
    struct queue *queue;
    int64_t trained; /* values the optimizer changes */
    int64_t step; /* steps done */
    int64_t evaluated; /* the last step it was evaluated after; -1: none */
    double kl; /* from the full model, then */
    bool failed; /* takes no further part; why is in `reason` */
    struct error reason;
    struct buffer *first, *second; /* Adam's moments, of all trained parameters */
};

/* A trial before its first step; the head's parameters are zeros. */
int trial_create(const struct trial_config *config, const struct head_shape *shape, struct backend *backend,
                 struct workspace *workspace, struct trial **trial, struct error *error);
void trial_destroy(struct trial *trial); /* NULL is fine */

/* The moments of a parameter in its shape; none for a frozen one. */
struct matrix trial_first_moment(const struct trial *trial, int parameter);
struct matrix trial_second_moment(const struct trial *trial, int parameter);

/* h [M, H] of the loaded batch: what the output weight is multiplied with. Lies in the workspace. */
struct matrix trial_forward(const struct trial *trial, struct workspace *workspace,
                            const struct shared *shared);

/* What shared_load must have computed for trial_step. */
unsigned trial_teaching(const struct trial *trial);
/* And for its evaluation, beside the outcome; it covers the above. */
unsigned trial_measuring(const struct trial_config *config);

struct trial_result {
    double loss; /* mean over the batch's tokens, nats */
    double norm; /* of the gradient, before it was clipped */
    double rate;
};

/* Step trial->step + 1 of `steps` on the loaded batch. -1 when the loss or the gradient is not a number
 * (the trial is as it was) or the device failed; the workspace is clean either way. */
int trial_step(struct trial *trial, struct workspace *workspace, const struct shared *shared, int64_t steps,
               struct trial_result *result, struct error *error);

#endif
