/* draft_work.h: a draft (common/head/draft.h) at work on a loaded batch: its working memory, its steps, their loss.
 *
 * Row t of a sequence learns at step k from what the full model says at row t + 1 + k, over the draft's own D tokens:
 *
 *     q = softmax of (normed final state of that row) output[tokens]^T        p = softmax of the draft's logits
 *     loss = sum over steps k of decay^k times the mean over rows of -sum q log p
 *
 * Rows without such a row count nothing. No product has more than D rows of the vocabulary.
 *
 *     draft_work_need(&work, trial, batch, queue, rows, length, error);
 *     loss = draft_work_gradients(work, queue, trial, batch, piece, gradients);
 */
#ifndef OFFRAMP_TRAIN_DRAFT_WORK_H
#define OFFRAMP_TRAIN_DRAFT_WORK_H

#include "common/base/piece.h"
#include "common/head/draft.h"
#include "train/batch.h"
#include "train/trial.h"

#define DRAFT_MEASURED 3 /* steps that an evaluation looks at */

struct draft_work {
    struct draft_size size;
    int64_t choices, hidden; /* D, H */
    bool own; /* the draft trains its output weight */
    struct draft_scratch *scratch;
    struct buffer *tokens; /* [D] i32 */
    struct weight *output; /* the model's rows of them, frozen: the draft's output weight, and the teacher's */
    struct buffer *rows; /* the same [D, H], where the draft's own are trained: both are buffers then */
    struct buffer *embedded; /* [rows, H] */
    struct buffer *loss, *step_loss, *zeros; /* [rows] */
    int32_t *token; /* [D] host */
};

/* For pieces of up to `rows` rows of sequences of `length`. Makes what is there anew where it is of another size, and
 * takes the trial's tokens. */
int draft_work_need(struct draft_work **work, const struct trial *trial, const struct batch *batch,
                    struct queue *queue, int64_t rows, int64_t length, struct error *error);
void draft_work_destroy(struct draft_work *work); /* NULL is fine */
/* Bytes that it takes, for each row and beside that. */
uint64_t draft_work_row_bytes(const struct trial_config *config, const struct model_config *model);
uint64_t draft_work_fixed_bytes(const struct trial_config *config, const struct model_config *model);

/* Puts the draft to work on a piece of the batch, which is whole sequences: ready for draft_step. */
struct draft_run draft_work_begin(const struct draft_work *work, struct queue *queue, const struct trial *trial,
                                  const struct batch *batch, struct piece piece);

/* The output weight of a draft, and the teacher's. */
struct vocab draft_work_vocab(const struct draft_work *work, const struct trial *trial);
struct vocab draft_work_teacher(const struct draft_work *work);

/* Rows of sequence s that count in a step, as the draft made them and as the teacher has them. */
struct matrix draft_work_rows(const struct draft_run *run, int step, int64_t s, struct matrix all);
struct matrix draft_work_teacher_rows(const struct draft_run *run, int step, int64_t s, struct matrix piece);

/* loss [piece.rows, 1] on the device, whose mean over the batch's rows is the loss; it is there until the next call. */
struct matrix draft_work_loss(const struct draft_work *work, struct queue *queue, const struct trial *trial,
                              const struct batch *batch, struct piece piece);
/* The same, and adds to the gradients [parameter] what a piece of the batch has of them. */
struct matrix draft_work_gradients(const struct draft_work *work, struct queue *queue,
                                   const struct trial *trial, const struct batch *batch, struct piece piece,
                                   const struct matrix *gradients);

#endif
