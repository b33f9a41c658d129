/* workspace.h: the working memory of steps and evaluations, which one group of trials uses at a time; and how a
 * batch is cut where memory does not hold all of its rows.
 *
 * It holds a gradient for each trial of a group, and states of TRIALS_ROWS rows, or of a batch if that has
 * more. It does not grow with the number of trials of a run. Where a device's memory does not hold it,
 * workspace_recover makes it smaller: half as many trials a group, then half as many rows of a batch.
 *
 *     batch      sequence 0 | sequence 1 | sequence 2 | sequence 3
 *     pieces     piece 0                 | piece 1                         of two sequences at most
 *                piece 0    | piece 1    | ...                             of one
 *                0   | 1    | 2   | 3    | ...                             of half a sequence
 *
 * A sequence itself is cut only for heads that are by row (common/head/head.h).
 *
 *     workspace_create(backend, sequences, length, hidden, trials, &workspace, error);
 *     do {
 *         result = 0;
 *         for (int64_t p = 0; result == 0 && p < workspace_pieces(workspace, by_row, rows); p++)
 *             result = ... workspace_piece(workspace, by_row, rows, p) ...
 *     } while (result < 0 && workspace_recover(workspace, by_row, error));
 */
#ifndef OFFRAMP_TRAIN_WORKSPACE_H
#define OFFRAMP_TRAIN_WORKSPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/piece.h"
#include "common/head/head.h"

#define TRIALS_ROWS     4096 /* of a group of more than one trial, at most */
#define TRIALS_TOGETHER HEADS_TOGETHER /* trials of a group, at most */
#define PIECE_ROWS      32 /* pieces are not made smaller than this */

struct batch;
struct draft_work;
struct trial;

/* A trial of a group has a slot: 0 .. trials - 1. Fields are read by whoever takes a step (step.c). */
struct workspace {
    struct backend *backend;
    struct queue *queue; /* for all ops: a queue holds its ops' working memory, so there is one of that */
    int64_t length, hidden; /* length: rows of a sequence; H */
    int trials; /* of a group, at most: T. Fewer once memory has not held so many */
    int64_t rows; /* of a piece, at most: whole sequences, or a part of one. Fewer likewise */
    int64_t wanted; /* rows, as they were asked for */
    struct span *spans; /* [wanted / length] of a piece */

    /* Made when they are first needed, so that they may be smaller once memory has run out. */
    int64_t capacity; /* rows of a piece that all of these are for */
    struct buffer *h, *dh; /* [T rows, H], slot after slot, as all of these */
    struct buffer *labels,
        *u; /* [T rows, 1] i32, [T rows, H]: the batch's (u, or what takes its place), once for
                                  each slot, where T > 1 */
    struct buffer *loss; /* [T rows, 1] */
    struct buffer *norm; /* [T, 1] f64 */
    struct buffer *gradients; /* of the trained parameters of each; zeros between steps */
    int64_t values; /* in gradients */
    struct workspace_shape {
        struct head_spec spec; /* of one of the heads that join (head.h) */
        struct head_scratch *scratch[TRIALS_TOGETHER]; /* of the first of them in a group, of the second ... */
    } * shape; /* [shapes] */
    int shapes;
    size_t shape_room;
    struct draft_work *draft; /* of the draft whose step it was last (draft_work.h) */

    /* Lists that ops go over: the parameters of a group's trials, slot after slot. */
    int parameters; /* room */
    struct matrix *gradient; /* none of a frozen one */
    struct square_sum *squares;
    struct adam_update *updates;
};

/* Trials of a group whose batches have `rows` rows, of `trials` in all, where memory holds them. */
int trials_together(int64_t rows, int trials);

/* sequences: of a batch that go through a head together, at most. length: rows of each. trials: the most that
 * there will be. */
int workspace_create(struct backend *backend, int sequences, int length, int64_t hidden, int trials,
                     struct workspace **workspace, struct error *error);
void workspace_destroy(struct workspace *workspace); /* NULL is fine */

/* ---- pieces ---- */

/* A batch of `rows` rows, which are whole sequences, has so many pieces. A piece is whole sequences, or a part
 * of one where the heads are by row. It has more than MATMUL_FEW_ROWS rows unless the batch has no more. */
int64_t workspace_pieces(const struct workspace *workspace, bool by_row, int64_t rows);
struct piece workspace_piece(const struct workspace *workspace, bool by_row, int64_t rows, int64_t index);
/* The sequences that a piece's rows belong to; returns how many. They are the workspace's until the next
 * call. */
int workspace_spans(struct workspace *workspace, struct piece piece, const struct span **spans);

/* ---- after a failure ---- */

/* Nothing of a failure reaches the next trial: a queue that has failed gives way to a new one, gradients are
 * zeros. */
void workspace_clean(struct workspace *workspace);
/* workspace_clean, and then: true: memory had run out, and the same may be tried again, with fewer trials or
 * rows. False: it may not. Where memory had run out (ERROR_NO_MEMORY) *reason says then that it was for a
 * single trial in the smallest pieces. */
bool workspace_recover(struct workspace *workspace, bool by_row, struct error *reason);

/* ---- room: made where it is not there, and kept for the next call ---- */

/* For the rows of a piece; before the others. */
int workspace_need_rows(struct workspace *workspace, bool by_row, struct error *error);
/* For a head; number: of the trials before it in its group whose heads join it. */
int workspace_need_scratch(struct workspace *workspace, const struct head *head, int number,
                           struct error *error);
struct head_scratch *workspace_scratch(const struct workspace *workspace, const struct head *head, int number);
/* For a draft, which is at work on the batch next. */
int workspace_need_draft(struct workspace *workspace, const struct trial *trial, const struct batch *batch,
                         struct error *error);
/* Values of all gradients; parameters of all trials of a group. */
int workspace_need_gradients(struct workspace *workspace, int64_t values, struct error *error);
int workspace_need_parameters(struct workspace *workspace, int parameters, struct error *error);

#endif
