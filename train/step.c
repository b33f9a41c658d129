#include "train/step.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "train/draft_work.h"

/* ---- a head at work ---- */

static struct matrix slot_rows(struct buffer *buffer, int slot, int64_t rows, int64_t cols)
{
    return matrix_rows(matrix_f32(buffer, (slot + 1) * rows, cols), slot * rows, rows);
}

static struct matrix piece_of(struct matrix batch, struct piece piece)
{
    return matrix_rows(batch, piece.first, piece.rows);
}

static struct matrix piece_states(const struct trial *trial, const struct batch *batch, struct piece piece)
{
    return piece_of(batch_states(batch, trial->config.spec.tap), piece);
}

/* ---- a step ---- */

/* Trials that take a step together. */
struct group {
    struct trial *const *trials; /* [count] */
    int count;
    struct queue *queue; /* the workspace's */
    struct workspace *workspace;
    const struct batch *batch;
    bool by_row; /* a batch may go by parts of a sequence, which only happens to one trial alone */
    int64_t stride; /* values from a trial's gradients to the next one's */
    bool subset; /* the softmax is over the batch's subsets */
    const struct matrix *gradients[TRIALS_TOGETHER]; /* of each, [parameter]; none of a frozen one */
};

static bool slots_join(const struct group *group, int slot, int other)
{
    return head_specs_join(head_get_spec(group->trials[slot]->head), head_get_spec(group->trials[other]->head));
}

/* How many trials before it have heads that join that of a slot. */
static int joining_before(const struct group *group, int slot)
{
    int count = 0;
    for (int t = 0; t < slot; t++)
        count += slots_join(group, slot, t);
    return count;
}

/* The room for a group's heads at work. */
static int group_prepare_heads(const struct group *group, struct error *error)
{
    if (trial_is_draft(group->trials[0])) /* which is alone */
        return workspace_need_draft(group->workspace, group->trials[0], group->batch, error);
    if (workspace_need_rows(group->workspace, group->by_row, error) < 0)
        return -1;
    for (int t = 0; t < group->count; t++) {
        if (workspace_need_scratch(group->workspace, group->trials[t]->head, joining_before(group, t), error) <
            0)
            return -1;
    }
    return 0;
}

/* The room for a group's step. */
static int group_prepare(struct group *group, struct error *error)
{
    struct workspace *workspace = group->workspace;
    int parameters = 0;
    if (group_prepare_heads(group, error) < 0)
        return -1;
    for (int t = 0; t < group->count; t++)
        parameters += head_parameter_count(group->trials[t]->head);
    if (workspace_need_gradients(workspace, group->count * group->stride, error) < 0 ||
        workspace_need_parameters(workspace, parameters, error) < 0)
        return -1;
    struct matrix *gradient = workspace->gradient;
    for (int t = 0; t < group->count; t++) {
        group->gradients[t] = gradient;
        for (int i = 0; i < head_parameter_count(group->trials[t]->head); i++) {
            *gradient = trial_parameter_part(group->trials[t], workspace->gradients, i);
            gradient++->offset += t * group->stride;
        }
    }
    return 0;
}

/* Rows once for each trial of a group, in `buffer`, which has the room. */
static struct matrix repeat_rows(const struct group *group, struct matrix rows, struct buffer *buffer)
{
    struct matrix all = rows;
    if (group->count == 1)
        return rows;
    all.buffer = buffer;
    all.rows = group->count * rows.rows;
    for (int t = 0; t < group->count; t++)
        op_copy(group->queue, rows, matrix_rows(all, t * rows.rows, rows.rows));
    return all;
}

/* section: whose subset the softmax is over, or NULL. */
static struct vocab_loss group_target(const struct group *group, const struct section *section,
                                      struct piece piece)
{
    const struct trial_config *config = &group->trials[0]->config;
    const struct batch *batch = group->batch;
    struct workspace *workspace = group->workspace;
    struct vocab_loss target = {.target = VOCAB_LABELS,
                                .share = config->loss == LOSS_MIX ? (float)config->share : 0,
                                .weighted = config->weighting == WEIGHTING_CONFIDENCE,
                                .temperature = (float)config->temperature,
                                .labels = matrix_none(),
                                .u = matrix_none(),
                                .teacher_state = matrix_none(),
                                .shift = section ? section->shift : matrix_none(),
                                .scale = (float)(1.0 / (double)batch->rows)};
    if (config->loss != LOSS_DISTILLATION)
        target.labels = repeat_rows(group, piece_of(section ? batch->subsets->labels : batch->labels, piece),
                                    workspace->labels);
    if (trial_config_takes_final(config)) {
        target.target = VOCAB_TEACHER;
        target.teacher_state = repeat_rows(group, piece_of(batch->teacher, piece), workspace->u);
        target.teacher =
            (struct vocab){.tied = section ? section->output : batch->output, .own = matrix_none()};
    } else if (config->loss != LOSS_CROSS_ENTROPY) {
        target.target = VOCAB_U;
        target.u = repeat_rows(group, piece_of(batch->u, piece), workspace->u);
    }
    return target;
}

/* Heads of a group that join, at work: their products go together. */
struct runs {
    struct head_run run[TRIALS_TOGETHER];
    int slot[TRIALS_TOGETHER];
    int count;
};

/* Those that join the head in `slot`; none where they join one before it. */
static void gather_runs(const struct group *group, int slot, struct piece piece, struct runs *runs)
{
    struct workspace *workspace = group->workspace;
    const struct span *spans;
    const int span_count = workspace_spans(workspace, piece, &spans);
    runs->count = 0;
    if (joining_before(group, slot) > 0)
        return;
    for (int t = slot; t < group->count; t++) {
        const struct trial *trial = group->trials[t];
        if (!slots_join(group, slot, t))
            continue;
        runs->run[runs->count] = (struct head_run){
            .head = trial->head,
            .scratch = workspace_scratch(workspace, trial->head, runs->count),
            .x = piece_states(trial, group->batch, piece),
            .spans = spans,
            .span_count = span_count,
            .h = slot_rows(workspace->h, t, piece.rows, workspace->hidden),
            .dh = slot_rows(workspace->dh, t, piece.rows, workspace->hidden),
            .gradients = group->gradients[t],
        };
        runs->slot[runs->count++] = t;
    }
}

/* sums [count] += the sum of the squares of each trial's gradients. */
static void sum_squares(const struct group *group, struct matrix sums)
{
    struct square_sum *squares = group->workspace->squares;
    int count = 0;
    for (int t = 0; t < group->count; t++) {
        for (int i = 0; i < head_parameter_count(group->trials[t]->head); i++) {
            if (!matrix_is_none(group->gradients[t][i]))
                squares[count++] = (struct square_sum){group->gradients[t][i], matrix_rows(sums, t, 1)};
        }
    }
    op_sum_squares(group->queue, squares, count);
}

/* The gradient of the own output weight of an untied trial, which is alone in its group; else none. */
static struct matrix output_gradient(const struct group *group)
{
    const struct head *head = group->trials[0]->head;
    const int last = head_parameter_count(head) - 1;
    return head_get_spec(head)->output == OUTPUT_UNTIED ? group->gradients[0][last] : matrix_none();
}

/* ---- whose time it is ---- */

/* Seconds since *last, which is now then. On a device ops take their time later: while a queue is waited for. */
static double lap(double *last)
{
    const double before = *last;
    *last = clock_seconds();
    return *last - before;
}

static void charge_runs(const struct runs *runs, double seconds, struct trial_result *results)
{
    for (int i = 0; i < runs->count; i++)
        results[runs->slot[i]].own += seconds / runs->count;
}

/* Work for each trial of a group by itself. */
static void charge_each(const struct group *group, double seconds, struct trial_result *results)
{
    for (int t = 0; t < group->count; t++)
        results[t].own += seconds / group->count;
}

/* Work for a whole group. One trial shares with nobody. */
static void charge_group(const struct group *group, double seconds, struct trial_result *results)
{
    for (int t = 0; t < group->count; t++)
        *(group->count == 1 ? &results[t].own : &results[t].shared) += seconds / group->count;
}

/* ---- gradients ---- */

/* piece_gradients of a draft. */
static void draft_gradients(const struct group *group, struct piece piece, float *losses,
                            struct trial_result *results)
{
    double last = clock_seconds();
    op_read(group->queue,
            draft_work_gradients(group->workspace->draft, group->queue, group->trials[0], group->batch, piece,
                                 group->gradients[0]),
            losses);
    charge_group(group, lap(&last), results);
}

/* Adds to the gradients what a piece of the batch has of them; losses [count, piece.rows]. section: the one that
 * the piece is of, or NULL. */
static void piece_gradients(const struct group *group, const struct section *section, struct piece piece,
                            float *losses, struct trial_result *results)
{
    if (trial_is_draft(group->trials[0])) {
        draft_gradients(group, piece, losses, results);
        return;
    }
    struct workspace *workspace = group->workspace;
    const int64_t all = group->count * piece.rows;
    struct matrix loss = matrix_f32(workspace->loss, all, 1);
    const struct vocab vocab =
        head_vocab(group->trials[0]->head, section ? section->output : group->batch->output);
    const struct vocab_loss target = group_target(group, section, piece);
    struct runs runs;
    double last = clock_seconds();
    for (int t = 0; t < group->count; t++) {
        gather_runs(group, t, piece, &runs);
        if (runs.count > 0)
            heads_forward(group->queue, runs.run, runs.count);
        charge_runs(&runs, lap(&last), results);
    }
    op_vocab_loss(group->queue, matrix_f32(workspace->h, all, workspace->hidden), &vocab, &target, loss,
                  matrix_f32(workspace->dh, all, workspace->hidden), output_gradient(group));
    charge_group(group, lap(&last), results);
    for (int t = 0; t < group->count; t++) {
        gather_runs(group, t, piece, &runs);
        if (runs.count > 0)
            heads_backward(group->queue, runs.run, runs.count);
        charge_runs(&runs, lap(&last), results);
    }
    op_read(group->queue, loss, losses);
}

/* Piece `index` of a group's batch, which lies in one section; without rows: there are no more. */
static struct piece group_piece(const struct group *group, int64_t index, const struct section **section)
{
    const struct workspace *workspace = group->workspace;
    const struct subsets *subsets = group->subset ? group->batch->subsets : NULL;
    for (int s = 0; s < (subsets ? subsets->count : 1); s++) {
        *section = subsets ? &subsets->section[s] : NULL;
        const struct piece all = subsets ? (*section)->piece : (struct piece){0, group->batch->rows};
        const int64_t pieces = workspace_pieces(workspace, group->by_row, all.rows);
        if (index < pieces) {
            struct piece piece = workspace_piece(workspace, group->by_row, all.rows, index);
            piece.first += all.first;
            return piece;
        }
        index -= pieces;
    }
    return (struct piece){0, 0};
}

/* Fills the gradients, and gives the trials' mean losses and the norms of their gradients. */
static int group_gradients(const struct group *group, struct trial_result *results, struct error *error)
{
    const struct workspace *workspace = group->workspace;
    const int64_t rows = group->batch->rows;
    const struct section *section;
    struct piece piece;
    struct matrix norm = matrix_f64(workspace->norm, group->count, 1);
    double squares[TRIALS_TOGETHER] = {0}, last;
    float *losses; /* a piece's behind the other's */
    if (array_alloc(&losses, group->count * rows, error) < 0)
        return -1;
    for (int t = 0; t < group->count; t++)
        results[t].own = results[t].shared = 0;
    for (int64_t p = 0; (piece = group_piece(group, p, &section)).rows > 0 && !cli_interrupted(); p++)
        piece_gradients(group, section, piece, losses + group->count * piece.first, results);
    last = clock_seconds();
    op_write(group->queue, norm, squares);
    sum_squares(group, norm);
    charge_each(group, lap(&last), results);
    op_read(group->queue, norm, squares);
    int result = queue_wait(group->queue, error);
    charge_group(group, lap(&last), results);
    if (result == 0 && cli_interrupted()) /* before what cannot be left half done */
        result = error_set_kind(error, ERROR_INTERRUPTED, "interrupted");
    for (int t = 0; t < group->count; t++) {
        double sum = 0;
        for (int64_t p = 0; (piece = group_piece(group, p, &section)).rows > 0; p++) {
            const float *own = losses + group->count * piece.first + t * piece.rows;
            for (int64_t r = 0; r < piece.rows; r++)
                sum += own[r];
        }
        results[t].loss = sum / (double)rows;
        results[t].norm = sqrt(squares[t]);
    }
    free(losses);
    return result;
}

/* Adds the updates of a trial's parameters to a list; returns how many. */
static int list_updates(const struct group *group, int slot, const struct trial_result *result,
                        struct adam_update *updates)
{
    const struct trial *trial = group->trials[slot];
    int count = 0;
    const struct trial_config *config = &trial->config;
    const double limit = config->clip;
    const struct adam adam = {
        .rate = (float)result->rate,
        .beta1 = (float)config->beta1,
        .beta2 = (float)config->beta2,
        .epsilon = (float)config->epsilon,
        .decay = (float)config->decay,
        .clip = (float)(limit > 0 && result->norm > limit ? limit / result->norm : 1),
        .step = trial->step + 1 - trial->optimizer_start,
    };
    for (int i = 0; i < head_parameter_count(trial->head); i++) {
        const struct matrix gradient = group->gradients[slot][i];
        if (!matrix_is_none(gradient))
            updates[count++] =
                (struct adam_update){adam, gradient, head_parameter(trial->head, i)->value,
                                     trial_first_moment(trial, i), trial_second_moment(trial, i)};
    }
    return count;
}

/* The optimizer's step of those whose loss and gradient are numbers; the others fail. */
static int group_update(const struct group *group, int64_t steps, struct trial_result *results,
                        struct error *error)
{
    struct adam_update *updates = group->workspace->updates;
    bool failed = false;
    int count = 0;
    for (int t = 0; t < group->count; t++) {
        struct trial *trial = group->trials[t];
        results[t].rate = trial_rate(&trial->config, trial->step + 1, steps);
        trial->failed = !isfinite(results[t].loss) || !isfinite(results[t].norm);
        if (trial->failed)
            error_set(&trial->reason, "the %s of step %" PRId64 " is not a number; try a smaller rate",
                      isfinite(results[t].loss) ? "gradient" : "loss", trial->step + 1);
        else
            count += list_updates(group, t, &results[t], updates + count);
        failed = failed || trial->failed;
    }
    double last = clock_seconds();
    op_adam(group->queue, updates, count);
    const int result = queue_wait(group->queue, error);
    charge_each(group, lap(&last), results);
    for (int t = 0; t < group->count && result == 0; t++)
        group->trials[t]->step += !group->trials[t]->failed;
    if (failed || result < 0)
        workspace_clean(group->workspace);
    return result;
}

/* The first of the trials that take their step together now. */
static struct group first_group(struct trial *const *trials, int count, struct workspace *workspace,
                                const struct batch *batch)
{
    struct group group = {.trials = trials,
                          .count = count < workspace->trials ? count : workspace->trials,
                          .queue = workspace->queue,
                          .workspace = workspace,
                          .batch = batch,
                          .by_row = trial_is_by_row(trials[0]),
                          .subset = trials[0]->config.vocabulary == VOCABULARY_SUBSET && batch->subsets};
    for (int t = 0; t < group.count; t++)
        group.stride = trials[t]->values > group.stride ? trials[t]->values : group.stride;
    return group;
}

int trials_step(struct trial *const *trials, int count, struct workspace *workspace, const struct batch *batch,
                int64_t steps, struct trial_result *results, struct error *error)
{
    for (int done = 0; done < count;) {
        struct group group = first_group(trials + done, count - done, workspace, batch);
        /* No trial has changed where this fails. */
        if (group_prepare(&group, error) < 0 || group_gradients(&group, results + done, error) < 0) {
            if (workspace_recover(workspace, group.by_row, error))
                continue;
            if (error->kind != ERROR_NO_MEMORY)
                return -1;
            trial_starve(trials[done], error); /* it was alone */
        } else if (group_update(&group, steps, results + done, error) < 0)
            return -1;
        done += group.count;
    }
    return 0;
}

/* ---- without a step ---- */

int trials_forward(struct trial *const *trials, int count, struct workspace *workspace,
                   const struct batch *batch, struct piece piece, struct stack *stack, struct error *error)
{
    const struct group group = first_group(trials, count, workspace, batch);
    struct runs runs;
    if (group_prepare_heads(&group, error) < 0)
        return -1;
    for (int t = 0; t < count; t++) {
        gather_runs(&group, t, piece, &runs);
        if (runs.count > 0)
            heads_forward(group.queue, runs.run, runs.count);
    }
    stack->h = matrix_f32(workspace->h, count * piece.rows, workspace->hidden);
    stack->labels = repeat_rows(&group, piece_of(batch->labels, piece), workspace->labels);
    return 0;
}

/* ---- whose fault it is ---- */

/* Whether there is memory for a trial's gradients now. */
static bool gets_through(struct trial *trial, struct workspace *workspace, const struct batch *batch)
{
    struct trial_result ignored = {0};
    struct error error;
    int result;
    do {
        struct group group = first_group(&trial, 1, workspace, batch);
        result = group_prepare(&group, &error) < 0 ? -1 : group_gradients(&group, &ignored, &error);
    } while (result < 0 && workspace_recover(workspace, trial_is_by_row(trial), &error));
    workspace_clean(workspace);
    return result == 0;
}

int trials_judge(struct trial *const *trials, int count, struct workspace *workspace, const struct batch *batch,
                 struct error *error)
{
    struct trial *other = NULL;
    int starved = 0;
    for (int i = 0; i < count; i++) {
        starved += trials[i]->starved;
        if (!other && !trials[i]->starved && !trials[i]->failed)
            other = trials[i];
    }
    const bool others = starved > 0 && other && gets_through(other, workspace, batch);
    for (int i = 0; i < count && starved > 0; i++) {
        struct trial *trial = trials[i];
        if (!trial->starved)
            continue;
        if (!others || trial->step > 0) {
            *error = trial->reason;
            return error_prefix(error, "trial %s", trial->config.id);
        }
        trial->starved = false;
        trial->failed = true;
    }
    return 0;
}
