#include "train/draft_evaluate.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "train/draft_work.h"

/* Of each row of a piece, at one step: what the device makes of it and the host takes. */
enum { VALUE_TOP, VALUE_LSE, VALUE_CROSS, VALUES };

struct looks {
    const struct trial *trial;
    const struct batch *batch;
    struct queue *queue;
    struct draft_work *work;
    struct buffer *buffer[VALUES], *entropy; /* [rows] */
    float *lse, *cross; /* [steps][rows] of a piece */
    float *entropies; /* [rows] the teacher's */
    int32_t *top; /* [steps][rows] */
    struct evaluation *sums; /* of the batch's places */
};

static void looks_free(struct looks *looks)
{
    for (int i = 0; i < VALUES; i++)
        buffer_destroy(looks->buffer[i]);
    buffer_destroy(looks->entropy);
    free(looks->lse);
    free(looks->cross);
    free(looks->entropies);
    free(looks->top);
}

static int looks_allocate(struct looks *looks, int64_t rows, struct error *error)
{
    const size_t bytes = (size_t)rows * sizeof(float);
    for (int i = 0; i < VALUES; i++) {
        if (buffer_create(looks->batch->backend, bytes, &looks->buffer[i], error) < 0)
            return -1;
    }
    if (buffer_create(looks->batch->backend, bytes, &looks->entropy, error) < 0 ||
        array_alloc(&looks->lse, DRAFT_MEASURED * rows, error) < 0 ||
        array_alloc(&looks->cross, DRAFT_MEASURED * rows, error) < 0 ||
        array_alloc(&looks->entropies, rows, error) < 0 ||
        array_alloc(&looks->top, DRAFT_MEASURED * rows, error) < 0)
        return -1;
    return 0;
}

/* The teacher's entropy over the draft's tokens, of every row of a piece. */
static void look_at_teacher(const struct looks *looks, struct piece piece)
{
    const struct vocab teacher = draft_work_teacher(looks->work);
    const struct vocab_stats stats = {.entropy = matrix_f32(looks->entropy, piece.rows, 1)};
    op_vocab_stats(looks->queue, matrix_rows(looks->batch->teacher, piece.first, piece.rows), &teacher,
                   matrix_none(), &stats);
    op_read(looks->queue, stats.entropy, looks->entropies);
}

static void look_at_step(const struct looks *looks, const struct draft_run *run, struct piece piece, int step)
{
    const struct vocab vocab = draft_work_vocab(looks->work, looks->trial);
    const struct vocab teacher = draft_work_teacher(looks->work);
    const struct matrix top = matrix_i32(looks->buffer[VALUE_TOP], piece.rows, 1);
    const struct matrix lse = matrix_f32(looks->buffer[VALUE_LSE], piece.rows, 1);
    const struct matrix cross = matrix_f32(looks->buffer[VALUE_CROSS], piece.rows, 1);
    const struct matrix states = matrix_rows(looks->batch->teacher, piece.first, piece.rows);
    for (int64_t s = 0; s < run->sequences && draft_rows(run, step) > 0; s++) {
        const struct matrix y = draft_work_rows(run, step, s, draft_output(run, step));
        const struct vocab_stats stats = {.lse = draft_work_rows(run, step, s, lse),
                                          .top = draft_work_rows(run, step, s, top)};
        op_vocab_stats(looks->queue, y, &vocab, matrix_none(), &stats);
        op_vocab_cross(looks->queue, y, &vocab, draft_work_teacher_rows(run, step, s, states), &teacher,
                       draft_work_rows(run, step, s, cross));
    }
    op_read(looks->queue, top, looks->top + step * piece.rows);
    op_read(looks->queue, lse, looks->lse + step * piece.rows);
    op_read(looks->queue, cross, looks->cross + step * piece.rows);
}

/* Adds what row t of sequence s of the piece came to. */
static void add_row(const struct looks *looks, const struct draft_run *run, struct piece piece, int64_t s,
                    int64_t t)
{
    const int64_t length = looks->work->size.length;
    struct evaluation *sums = &looks->sums[piece.first / length + s];
    bool accepted = true;
    for (int step = 0; step < DRAFT_MEASURED && t < draft_rows(run, step); step++) {
        const int64_t at = step * piece.rows + s * length + t, teacher = s * length + t + 1 + step;
        const double share = (double)length / (double)draft_rows(run, step);
        const double weight = share * pow(looks->trial->config.unroll_decay, step);
        const double loss = (double)looks->lse[at] - (double)looks->cross[at];
        const bool hit = looks->work->token[looks->top[at]] == looks->batch->values[piece.first + teacher].top;
        accepted = accepted && hit;
        sums->loss += weight * loss;
        sums->kl += weight * (loss - (double)looks->entropies[teacher]);
        sums->agreement += step == 0 ? share * hit : 0;
        sums->draft.hit[step] += share * hit;
        sums->draft.accepted[step] += share * accepted;
    }
}

static int look_at_piece(const struct looks *looks, struct piece piece, struct error *error)
{
    const struct draft_run run = draft_work_begin(looks->work, looks->queue, looks->trial, looks->batch, piece);
    look_at_teacher(looks, piece);
    for (int step = 0; step < DRAFT_MEASURED; step++) {
        draft_step(looks->queue, &run, step);
        look_at_step(looks, &run, piece, step);
    }
    if (queue_wait(looks->queue, error) < 0)
        return -1;
    for (int64_t s = 0; s < run.sequences; s++) {
        looks->sums[piece.first / looks->work->size.length + s] =
            (struct evaluation){.draft.steps = DRAFT_MEASURED};
        for (int64_t t = 0; t < draft_rows(&run, 0); t++)
            add_row(looks, &run, piece, s, t);
    }
    return 0;
}

int draft_evaluate(struct trial *trial, struct workspace *workspace, const struct batch *batch,
                   struct evaluation *sums, struct error *error)
{
    struct looks looks = {.trial = trial, .batch = batch, .queue = workspace->queue, .sums = sums};
    int result = workspace_need_draft(workspace, trial, batch, error);
    looks.work = workspace->draft;
    if (result == 0)
        result = looks_allocate(&looks, workspace->capacity, error);
    const int64_t pieces = result < 0 ? 0 : workspace_pieces(workspace, false, batch->rows);
    for (int64_t p = 0; p < pieces && result == 0; p++)
        result = look_at_piece(&looks, workspace_piece(workspace, false, batch->rows, p), error);
    looks_free(&looks);
    return result;
}
