#include "train/draft_work.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/memory.h"

/* ---- memory ---- */

static int steps_of(const struct trial_config *config)
{
    return config->unroll > DRAFT_MEASURED ? config->unroll : DRAFT_MEASURED;
}

static bool fits(const struct draft_work *work, const struct trial *trial, int64_t rows, int64_t length)
{
    const struct head_spec *spec = &trial->config.spec;
    return work->size.rows == rows && work->size.length == length &&
           work->size.steps == steps_of(&trial->config) && work->choices == spec->draft_vocab &&
           work->own == (spec->output == OUTPUT_UNTIED);
}

void draft_work_destroy(struct draft_work *work)
{
    if (!work)
        return;
    draft_scratch_destroy(work->scratch);
    buffer_destroy(work->tokens);
    weight_destroy(work->output);
    buffer_destroy(work->rows);
    buffer_destroy(work->embedded);
    buffer_destroy(work->loss);
    buffer_destroy(work->step_loss);
    buffer_destroy(work->zeros);
    free(work->token);
    free(work);
}

static int create(const struct trial *trial, const struct batch *batch, int64_t rows, int64_t length,
                  struct draft_work **result, struct error *error)
{
    const struct head_spec *spec = &trial->config.spec;
    struct backend *backend = batch->backend;
    const size_t column = (size_t)rows * sizeof(float), choices = (size_t)spec->draft_vocab * sizeof(float);
    struct draft_work *work;
    if (array_alloc(&work, 1, error) < 0)
        return -1;
    *work = (struct draft_work){
        .size = {.rows = rows, .length = length, .steps = steps_of(&trial->config), .backward = true},
        .choices = spec->draft_vocab,
        .hidden = batch->hidden,
        .own = spec->output == OUTPUT_UNTIED};
    const size_t hidden = (size_t)work->hidden;
    if (draft_scratch_create(trial->head, &work->size, &work->scratch, error) < 0 ||
        buffer_create(backend, choices, &work->tokens, error) < 0 ||
        buffer_create(backend, column * hidden, &work->embedded, error) < 0 ||
        buffer_create(backend, column, &work->loss, error) < 0 ||
        buffer_create(backend, column, &work->step_loss, error) < 0 ||
        buffer_create(backend, column, &work->zeros, error) < 0 ||
        array_alloc(&work->token, work->choices, error) < 0 ||
        (work->own ? buffer_create(backend, choices * hidden, &work->rows, error)
                   : weight_subset_create(batch->output, work->choices, &work->output, error)) < 0) {
        draft_work_destroy(work);
        return -1;
    }
    *result = work;
    return 0;
}

int draft_work_need(struct draft_work **work, const struct trial *trial, const struct batch *batch,
                    struct queue *queue, int64_t rows, int64_t length, struct error *error)
{
    if (*work && !fits(*work, trial, rows, length)) {
        draft_work_destroy(*work);
        *work = NULL;
    }
    if (!*work && create(trial, batch, rows, length, work, error) < 0)
        return -1;
    const struct draft_work *made = *work;
    const struct matrix tokens = matrix_i32(made->tokens, made->choices, 1);
    if (draft_get_tokens(trial->head, queue, made->token, error) < 0)
        return error_prefix(error, "trial %s", trial->config.id);
    op_write(queue, tokens, made->token);
    if (made->own)
        op_embed(queue, batch->output, tokens, matrix_f32(made->rows, made->choices, made->hidden));
    else
        op_gather(queue, batch->output, tokens, made->output);
    return queue_wait(queue, error);
}

uint64_t draft_work_row_bytes(const struct trial_config *config, const struct model_config *model)
{
    return sizeof(float) *
           ((uint64_t)draft_scratch_values(model, steps_of(config), true) + (uint64_t)model->hidden + 3);
}

uint64_t draft_work_fixed_bytes(const struct trial_config *config, const struct model_config *model)
{
    return sizeof(float) * 2 * (uint64_t)config->spec.draft_vocab * (uint64_t)(model->hidden + 1);
}

/* ---- at work ---- */

struct draft_run draft_work_begin(const struct draft_work *work, struct queue *queue, const struct trial *trial,
                                  const struct batch *batch, struct piece piece)
{
    struct tap taps[HEAD_TAPS];
    const int count = head_spec_taps(&trial->config.spec, taps);
    struct draft_run run = {.head = trial->head,
                            .scratch = work->scratch,
                            .embedded = matrix_f32(work->embedded, piece.rows, work->hidden),
                            .sequences = piece.rows / work->size.length};
    for (int t = 0; t < count; t++)
        run.states[t] = matrix_rows(batch_states(batch, taps[t]), piece.first, piece.rows);
    op_embed(queue, batch->embedding, matrix_rows(batch->followers, piece.first, piece.rows), run.embedded);
    draft_begin(queue, &run);
    return run;
}

struct vocab draft_work_teacher(const struct draft_work *work)
{
    return work->own ? (struct vocab){.own = matrix_f32(work->rows, work->choices, work->hidden)}
                     : (struct vocab){.tied = work->output, .own = matrix_none()};
}

struct vocab draft_work_vocab(const struct draft_work *work, const struct trial *trial)
{
    return work->own ? head_vocab(trial->head, NULL) : draft_work_teacher(work);
}

struct matrix draft_work_rows(const struct draft_run *run, int step, int64_t s, struct matrix all)
{
    return matrix_rows(all, s * (all.rows / run->sequences), draft_rows(run, step));
}

struct matrix draft_work_teacher_rows(const struct draft_run *run, int step, int64_t s, struct matrix piece)
{
    return matrix_rows(piece, s * (piece.rows / run->sequences) + 1 + step, draft_rows(run, step));
}

/* The loss of a step's rows and its gradient. */
static void step_loss(const struct draft_work *work, struct queue *queue, const struct trial *trial,
                      const struct batch *batch, struct piece piece, const struct draft_run *run, int step,
                      struct matrix down)
{
    const int64_t rows = draft_rows(run, step), length = work->size.length;
    const double weight = pow(trial->config.unroll_decay, step);
    const struct vocab vocab = draft_work_vocab(work, trial);
    const struct matrix sums = matrix_f32(work->loss, piece.rows, 1);
    const struct matrix losses = matrix_f32(work->step_loss, piece.rows, 1);
    const struct matrix teacher = matrix_rows(batch->teacher, piece.first, piece.rows);
    struct vocab_loss target = {
        .target = VOCAB_TEACHER,
        .labels = matrix_none(),
        .u = matrix_none(),
        .shift = matrix_none(),
        .teacher = draft_work_teacher(work),
        .temperature = (float)trial->config.temperature,
        .weighted = trial->config.weighting == WEIGHTING_CONFIDENCE,
        .scale = (float)(weight / ((double)(batch->rows / length) * (double)rows)),
    };
    for (int64_t s = 0; s < run->sequences && rows > 0; s++) {
        const struct matrix loss = draft_work_rows(run, step, s, losses);
        target.teacher_state = draft_work_teacher_rows(run, step, s, teacher);
        op_vocab_loss(queue, draft_work_rows(run, step, s, draft_output(run, step)), &vocab, &target, loss,
                      draft_work_rows(run, step, s, draft_output_gradient(run, step)), down);
        op_axpy(queue, (float)(weight * (double)length / (double)rows), loss,
                draft_work_rows(run, step, s, sums));
    }
}

/* All steps of a run, and the sums of their losses. */
static struct matrix run_steps(const struct draft_work *work, struct queue *queue, const struct trial *trial,
                               const struct batch *batch, struct piece piece, const struct draft_run *run,
                               struct matrix down)
{
    const struct matrix sums = matrix_f32(work->loss, piece.rows, 1);
    op_copy(queue, matrix_f32(work->zeros, piece.rows, 1), sums);
    for (int step = 0; step < trial->config.unroll; step++) {
        draft_step(queue, run, step);
        step_loss(work, queue, trial, batch, piece, run, step, down);
    }
    return sums;
}

struct matrix draft_work_loss(const struct draft_work *work, struct queue *queue, const struct trial *trial,
                              const struct batch *batch, struct piece piece)
{
    const struct draft_run run = draft_work_begin(work, queue, trial, batch, piece);
    return run_steps(work, queue, trial, batch, piece, &run, matrix_none());
}

struct matrix draft_work_gradients(const struct draft_work *work, struct queue *queue,
                                   const struct trial *trial, const struct batch *batch, struct piece piece,
                                   const struct matrix *gradients)
{
    const struct matrix down = gradients[head_parameter_count(trial->head) - 1];
    struct draft_run run = draft_work_begin(work, queue, trial, batch, piece);
    run.gradients = gradients;
    const struct matrix sums = run_steps(work, queue, trial, batch, piece, &run, down);
    draft_backward(queue, &run, trial->config.unroll);
    return sums;
}
