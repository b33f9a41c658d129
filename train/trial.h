/* trial.h: one head, its hyperparameters and its optimizer's state; a step of the training of some.
 *
 * Most of a step is two products with the output weight, [M, H] with [V, H] (V 49,152 to 128,256; an affine
 * head's own are 1 to 3 % of them). Trials that share the model's output weight and the loss take a step together:
 * their rows are stacked and go through one op_vocab_loss, as many as make TRIALS_ROWS rows. So short batches (M of
 * some hundred rows) fill a device, or a processor's chunk, the weight is read once for all, and the host waits
 * for the device twice a group instead of twice a trial. Batches of half as many rows and more do so by
 * themselves, and their trials go one by one.
 *
 * Groups run one after another in a common workspace, which holds a gradient for each trial of one group, and
 * states of TRIALS_ROWS rows, or of a batch if that has more; however many trials there are. Where a device's memory
 * does not hold that, a group has half as many trials, and when it is one trial, its batch goes through the head in
 * pieces, whose gradients add up before the one step of the optimizer. A batch is cut between its sequences. A sequence
 * itself is cut only for kinds of heads that are by row (head.h), where memory does not hold one.
 *
 * A trial depends on its own settings, the seed and the batches only. On cpu and ref it has the same bytes in
 * whatever group (ops.h: rows do not depend on each other. Batches of at most MATMUL_FEW_ROWS rows are not
 * stacked: another kernel would multiply the stack). On cuda the library chooses kernels by the number of rows: a
 * loss alone and among others may differ by 1e-4 of its size in f32, by 1e-2 in bf16; in the same groups it is
 * the same bytes. In pieces, a gradient is a sum of their sums: 1e-5 of its largest value from the whole batch's, on
 * cuda as much as a loss may differ.
 *
 *     workspace_create(backend, sequences, length, hidden, trials, &workspace, error);
 *     trial_create(&config, &model, backend, &trial, error);
 *     head_initialise(trial->head, ...);
 *     trials_step(group, count, workspace, batch, steps, results);     // after batch_load
 */
#ifndef OFFRAMP_TRAIN_TRIAL_H
#define OFFRAMP_TRAIN_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/piece.h"
#include "common/head/head.h"
#include "train/batch.h"
#include "train/sweep.h"

/* ---- working memory, used by one group of trials at a time ---- */

#define TRIALS_ROWS     4096 /* of a group of more than one trial, at most */
#define TRIALS_TOGETHER HEADS_TOGETHER /* trials of a group, at most */

#define PIECE_ROWS 32 /* memory that does not hold so many rows of a batch does not hold a trial */

struct workspace;

/* sequences: of a batch that go through a head together, at most. length: rows of each. trials: the most that there
 * will be. */
int workspace_create(struct backend *backend, int sequences, int length, int64_t hidden, int trials,
                     struct workspace **workspace, struct error *error);
void workspace_destroy(struct workspace *workspace); /* NULL is fine */
/* Trials that may take a step together, and rows of a piece, at most; fewer once the device's memory has not held
 * so many. */
int workspace_trials(const struct workspace *workspace);
int64_t workspace_rows(const struct workspace *workspace);
/* Where trials are computed: a queue holds its ops' working memory, which is so in memory once. */
struct queue *workspace_queue(const struct workspace *workspace);
/* After a failure, of which nothing reaches the next trial: a queue that has failed gives way to a new one. by_row: of heads
 * of kinds that are. True: memory had run out, and the same may be tried again, with fewer trials or rows. False: it cannot, and
 * *reason says so where memory had run out (ERROR_NO_MEMORY): for a single trial in the smallest pieces. */
bool workspace_recover(struct workspace *workspace, bool by_row, struct error *reason);

/* Rows of a batch that go through heads together: a batch of `rows` rows, which are whole sequences, has so many pieces.
 * A piece is whole sequences, or a part of one where all heads are of kinds by row. It has more than MATMUL_FEW_ROWS rows
 * unless the batch has no more. */
int64_t workspace_pieces(const struct workspace *workspace, bool by_row, int64_t rows);
struct piece workspace_piece(const struct workspace *workspace, bool by_row, int64_t rows, int64_t index);
/* The sequences that a piece's rows belong to; returns how many. They are the workspace's until the next call. */
int workspace_spans(struct workspace *workspace, struct piece piece, const struct span **spans);

/* ---- trials ---- */

struct trial {
    struct trial_config config;
    struct head *head;
    struct queue *queue; /* for what is read and written between steps */
    int64_t trained; /* values the optimizer changes */
    int64_t values; /* of a buffer of them all, which begin at aligned places */
    int64_t step; /* steps done */
    int64_t optimizer_start; /* the step at which Adam's moments were zeros */
    int64_t evaluated; /* the last step it was evaluated after; -1: none */
    double best; /* the lowest KL from the full model that was found; INFINITY: none was */
    bool failed; /* by its own fault: takes no further part; why is in `reason` */
    bool
        starved; /* memory did not hold it, alone and in the smallest pieces; trials_judge says whose fault that is */
    struct error reason;
    struct buffer *first, *second; /* Adam's moments, of all trained parameters */
};

/* A trial before its first step; the head's parameters are zeros. */
int trial_create(const struct trial_config *config, const struct model_config *model, struct backend *backend,
                 struct trial **trial, struct error *error);
/* A trial whose head is a file's, which must be of these settings and this model: for evaluations, it cannot be stepped. */
int trial_open_head(const struct trial_config *config, const char *path, const struct model_config *model,
                    const char *fingerprint, struct backend *backend, struct trial **trial,
                    struct error *error);
/* The same after `step` steps, with an optimizer that begins there: it can be stepped. */
int trial_restart(const struct trial_config *config, const char *path, const struct model_config *model,
                  const char *fingerprint, int64_t step, struct backend *backend, struct trial **trial,
                  struct error *error);
void trial_destroy(struct trial *trial); /* NULL is fine */

/* The moments of a parameter in its shape; none for a frozen one. */
struct matrix trial_first_moment(const struct trial *trial, int parameter);
struct matrix trial_second_moment(const struct trial *trial, int parameter);

/* h [piece.rows, H] of a piece of the loaded batch: what the output weight is multiplied with. Lies in the
 * workspace, and is put on its queue. */
int trial_forward(const struct trial *trial, struct workspace *workspace, const struct batch *batch,
                  struct piece piece, struct matrix *h, struct error *error);

/* What batch_load must have computed for trial_step. */
unsigned trial_teaching(const struct trial *trial);
/* And for its evaluation, beside the outcome; it covers the above. */
unsigned trial_measuring(const struct trial_config *config);

struct trial_result {
    double loss; /* mean over the batch's tokens, nats */
    double norm; /* of the gradient, before it was clipped */
    double rate;
};

/* Whether both may be in one group: the same loss through the model's own output weight. */
bool trial_joins(const struct trial *trial, const struct trial *other);

/* Step trial->step + 1 of `steps`, on the loaded batch, of each of a group's trials (at most workspace_trials, each
 * joins the first); results [count]. A trial whose loss or gradient is not a number is marked failed and stays
 * as it was, the others do not notice. Where memory does not hold them, fewer trials and then fewer rows are tried;
 * one that does not fit even so is marked starved and stays as it was. -1: the machine failed. What trials hold
 * then is not to be believed; the workspace is clean either way. */
int trials_step(struct trial *const *trials, int count, struct workspace *workspace, const struct batch *batch,
                int64_t steps, struct trial_result *results, struct error *error);

/* Its head is of a kind by row (head.h). */
bool trial_is_by_row(const struct trial *trial);
/* Marks a trial starved. */
void trial_starve(struct trial *trial, const struct error *reason);
/* Whose fault it is that some of the trials [count] are starved, after a step or an evaluation on the loaded batch.
 * Its own, and it is marked failed, where it has never taken a step and there is still memory for one that is not
 * starved: it is too large for this machine. Otherwise the machine's, whose memory something else has taken: -1. */
int trials_judge(struct trial *const *trials, int count, struct workspace *workspace, const struct batch *batch,
                 struct error *error);

#endif
