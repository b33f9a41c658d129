#include "train/evaluate.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/memory.h"
#include "train/draft_evaluate.h"

/* What is computed of each row's logits, on the device and on the host. */
enum { VALUE_LSE, VALUE_LABEL, VALUE_TOP, VALUE_TOP_LOGIT, VALUE_CROSS, VALUES };

struct evaluator {
    const struct evaluation_setting *setting;
    struct trial *const *trials; /* [count] */
    int count;
    unsigned teach; /* what all of them are measured by */
    const struct evaluation_sums *sums;
    bool *measured; /* [count] on the loaded batch */
    uint64_t place; /* of the first sequence that is loaded */
    struct buffer *buffer[VALUES];
    float *lse, *label, *top_logit; /* [trials of a group][rows] */
    int32_t *top; /* likewise */
    float *h; /* likewise, [rows, H] each */
    float *cross, *u; /* [rows], [rows, H] */
};

static void evaluator_free(struct evaluator *evaluator)
{
    for (int i = 0; i < VALUES; i++)
        buffer_destroy(evaluator->buffer[i]);
    free(evaluator->measured);
    free(evaluator->lse);
    free(evaluator->label);
    free(evaluator->top_logit);
    free(evaluator->cross);
    free(evaluator->top);
    free(evaluator->u);
    free(evaluator->h);
}

static int evaluator_allocate(struct evaluator *evaluator, struct error *error)
{
    const struct batch *batch = evaluator->setting->batch;
    const int64_t alone = batch->capacity, rows = alone * evaluator->setting->workspace->trials;
    for (int i = 0; i < VALUES; i++) {
        if (buffer_create(batch->backend, (size_t)rows * sizeof(float), &evaluator->buffer[i], error) < 0)
            return -1;
    }
    if (array_alloc(&evaluator->lse, rows, error) < 0 || array_alloc(&evaluator->label, rows, error) < 0 ||
        array_alloc(&evaluator->top_logit, rows, error) < 0 || array_alloc(&evaluator->top, rows, error) < 0 ||
        array_alloc(&evaluator->h, rows * batch->hidden, error) < 0 ||
        array_alloc(&evaluator->cross, alone, error) < 0 ||
        array_alloc(&evaluator->u, alone * batch->hidden, error) < 0 ||
        array_alloc(&evaluator->measured, evaluator->count, error) < 0)
        return -1;
    return 0;
}

/* ---- the full model ---- */

/* The sums of the place that a loaded row belongs to, which are zeros at its first row. */
static struct evaluation *sums_of_row(const struct evaluator *evaluator, struct evaluation *sums, int64_t row)
{
    const int64_t length = evaluator->setting->stores->rows;
    struct evaluation *of = &sums[evaluator->place + (uint64_t)(row / length)];
    if (row % length == 0)
        *of = (struct evaluation){0};
    return of;
}

/* Adds up the loss of the loaded batch, and brings its u to the host. */
static int take_full(struct evaluator *evaluator, struct error *error)
{
    const struct batch *batch = evaluator->setting->batch;
    for (int64_t r = 0; r < batch->rows; r++) {
        struct evaluation *full = sums_of_row(evaluator, evaluator->sums->full, r);
        full->loss += batch->values[r].loss;
        full->agreement++;
    }
    if (evaluator->teach & TEACH_U)
        op_read(batch->queue, batch->u, evaluator->u);
    return queue_wait(batch->queue, error);
}

/* ---- heads ---- */

/* Trials whose heads go through the output weight together, by their numbers. */
struct group {
    int index[TRIALS_TOGETHER];
    struct trial *trials[TRIALS_TOGETHER];
    int count;
};

static bool is_tied(const struct trial *trial)
{
    return trial->config.spec.output == OUTPUT_TIED && !trial_is_draft(trial);
}

/* Trial `first` and those behind it that share its output weight and are not measured yet. */
static void gather_group(const struct evaluator *evaluator, int first, struct group *group)
{
    const int most = evaluator->setting->workspace->trials;
    group->count = 0;
    for (int i = first; i < evaluator->count && group->count < most; i++) {
        struct trial *trial = evaluator->trials[i];
        if (i != first && (evaluator->measured[i] || !is_tied(trial) || !is_tied(group->trials[0])))
            continue;
        group->index[group->count] = i;
        group->trials[group->count++] = trial;
    }
}

/* Brings the values of each trial's part of a stack to the host, to where those of its rows are. */
static void read_parts(struct evaluator *evaluator, const struct group *group, struct piece piece,
                       const struct stack *stack, const struct vocab_stats *stats)
{
    const struct batch *batch = evaluator->setting->batch;
    struct queue *queue = evaluator->setting->workspace->queue;
    for (int t = 0; t < group->count; t++) {
        const int64_t from = t * piece.rows, to = t * batch->rows + piece.first;
        op_read(queue, matrix_rows(stats->lse, from, piece.rows), evaluator->lse + to);
        op_read(queue, matrix_rows(stats->label, from, piece.rows), evaluator->label + to);
        op_read(queue, matrix_rows(stats->top, from, piece.rows), evaluator->top + to);
        op_read(queue, matrix_rows(stats->top_logit, from, piece.rows), evaluator->top_logit + to);
        if (is_tied(group->trials[t]))
            op_read(queue, matrix_rows(stack->h, from, piece.rows), evaluator->h + to * batch->hidden);
    }
}

static int take_piece(struct evaluator *evaluator, const struct group *group, struct piece piece,
                      struct error *error)
{
    const struct batch *batch = evaluator->setting->batch;
    struct workspace *workspace = evaluator->setting->workspace;
    struct queue *queue = workspace->queue;
    const int64_t rows = group->count * piece.rows;
    const struct vocab vocab = head_vocab(group->trials[0]->head, batch->output);
    const struct vocab_stats stats = {
        .lse = matrix_f32(evaluator->buffer[VALUE_LSE], rows, 1),
        .label = matrix_f32(evaluator->buffer[VALUE_LABEL], rows, 1),
        .top = matrix_i32(evaluator->buffer[VALUE_TOP], rows, 1),
        .top_logit = matrix_f32(evaluator->buffer[VALUE_TOP_LOGIT], rows, 1),
        .entropy = matrix_none(),
        .u = matrix_none(),
    };
    struct stack stack;
    if (trials_forward(group->trials, group->count, workspace, batch, piece, &stack, error) < 0)
        return -1;
    op_vocab_stats(queue, stack.h, &vocab, stack.labels, &stats);
    read_parts(evaluator, group, piece, &stack, &stats);
    if (!vocab.tied) {
        const struct vocab teacher = {.tied = batch->output, .own = matrix_none()};
        const struct matrix cross = matrix_f32(evaluator->buffer[VALUE_CROSS], rows, 1);
        op_vocab_cross(queue, stack.h, &vocab, matrix_rows(batch->teacher, piece.first, piece.rows), &teacher,
                       cross);
        op_read(queue, cross, evaluator->cross + piece.first);
    }
    return 0;
}

/* Computes the values of the loaded batch, in pieces that the device's memory holds. */
static int take_group(struct evaluator *evaluator, const struct group *group, struct error *error)
{
    struct workspace *workspace = evaluator->setting->workspace;
    const int64_t rows = evaluator->setting->batch->rows;
    const bool by_row = trial_is_by_row(group->trials[0]);
    const int64_t pieces = workspace_pieces(workspace, by_row, rows);
    for (int64_t p = 0; p < pieces; p++) {
        if (take_piece(evaluator, group, workspace_piece(workspace, by_row, rows, p), error) < 0)
            return -1;
    }
    return queue_wait(workspace->queue, error);
}

/* sum_v q_v z_v + entropy(q) of one row. Both are of the q that the head is measured against. */
static double target_of_row(const struct evaluator *evaluator, const struct trial *trial, int slot, int64_t row)
{
    const struct batch *batch = evaluator->setting->batch;
    const float *h = evaluator->h + (slot * batch->rows + row) * batch->hidden;
    const float *u = evaluator->u + row * batch->hidden;
    double sum = 0;
    if (!is_tied(trial))
        return (double)evaluator->cross[row] + batch->states_entropy[row];
    for (int64_t c = 0; c < batch->hidden; c++)
        sum += (double)h[c] * u[c];
    return sum + batch->values[row].entropy;
}

/* Adds up what the rows of trial `index` came to, which were in this slot of the stack. */
static void add_rows(const struct evaluator *evaluator, int index, int slot)
{
    const struct batch *batch = evaluator->setting->batch;
    const struct trial *trial = evaluator->trials[index];
    const struct observed *observed = evaluator->sums->observed ? &evaluator->sums->observed[index] : NULL;
    const int64_t first = (int64_t)evaluator->place * evaluator->setting->stores->rows;
    for (int64_t r = 0; r < batch->rows; r++) {
        struct evaluation *result = sums_of_row(evaluator, evaluator->sums->trial[index], r);
        const int64_t at = slot * batch->rows + r;
        const double lse = evaluator->lse[at];
        const bool agrees = evaluator->top[at] == batch->values[r].top;
        result->loss += lse - evaluator->label[at];
        result->kl += lse - target_of_row(evaluator, trial, slot, r);
        result->agreement += agrees;
        if (observed) {
            observed->evidence[first + r].confidence = exp(evaluator->top_logit[at] - lse);
            observed->agrees[first + r] = agrees;
        }
    }
}

/* Trial `first` on the loaded batch, and those that go together with it: fewer where memory is short. */
static int evaluate_group(struct evaluator *evaluator, int first, struct error *error)
{
    struct workspace *workspace = evaluator->setting->workspace;
    struct trial *trial = evaluator->trials[first];
    struct group group;
    int result;
    do {
        gather_group(evaluator, first, &group);
        result = trial_is_draft(trial) ? draft_evaluate(trial, workspace, evaluator->setting->batch,
                                                        evaluator->sums->trial[first] + evaluator->place, error)
                                       : take_group(evaluator, &group, error);
    } while (result < 0 && workspace_recover(workspace, trial_is_by_row(trial), error));
    for (int t = 0; t < group.count && result == 0; t++) {
        if (!trial_is_draft(trial))
            add_rows(evaluator, group.index[t], t);
        evaluator->measured[group.index[t]] = true;
    }
    if (result == 0)
        return 0;
    if (error->kind != ERROR_NO_MEMORY)
        return -1;
    trial_starve(trial, error); /* it was alone */
    return 0;
}

/* ---- the split ---- */

static int evaluate_batch(void *context, const struct feed_batch *next, struct error *error)
{
    struct evaluator *evaluator = context;
    evaluator->place = next->first;
    if (batch_load(evaluator->setting->batch, next, evaluator->teach, error) < 0 ||
        take_full(evaluator, error) < 0)
        return -1;
    for (int i = 0; i < evaluator->count; i++)
        evaluator->measured[i] = evaluator->trials[i]->failed || evaluator->trials[i]->starved;
    for (int i = 0; i < evaluator->count; i++) {
        if (!evaluator->measured[i] && evaluate_group(evaluator, i, error) < 0)
            return -1;
    }
    return 0;
}

/* Once all trials are evaluated, marks those that have failed by their own fault. */
static int judge(const struct evaluator *evaluator, struct error *error)
{
    const struct evaluation_setting *setting = evaluator->setting;
    const struct evaluation_sums *sums = evaluator->sums;
    if (trials_judge(evaluator->trials, evaluator->count, setting->workspace, setting->batch, error) < 0)
        return -1;
    for (int i = 0; i < evaluator->count; i++) {
        struct trial *trial = evaluator->trials[i];
        for (uint64_t p = sums->first; p < sums->end && !trial->failed; p++) {
            if (isfinite(sums->trial[i][p].loss + sums->trial[i][p].kl))
                continue;
            trial->failed = true;
            error_set(&trial->reason, "its held-out loss is not a number");
        }
    }
    return 0;
}

int evaluate_places(const struct evaluation_setting *setting, struct trial *const *trials, int count,
                    const struct evaluation_sums *sums, bool *complete, struct error *error)
{
    struct evaluator evaluator = {
        .setting = setting, .trials = trials, .count = count, .teach = TEACH_OUTCOME, .sums = sums};
    struct feed *feed = NULL;
    struct feed_plan plan = {.split = SPLIT_HELD_OUT,
                             .shuffled = true,
                             .seed = setting->seed,
                             .sequences = setting->sequences,
                             .first = sums->first,
                             .end = sums->end};
    *complete = false;
    for (int i = 0; i < count; i++)
        evaluator.teach |= trial_measuring(&trials[i]->config);
    batch_plan(setting->batch, evaluator.teach, &plan);
    int result = evaluator_allocate(&evaluator, error);
    if (result == 0)
        result = feed_open(setting->stores, &plan, setting->threads, &feed, error);
    if (result == 0)
        result = feed_take_all(feed, evaluate_batch, &evaluator, complete, error);
    if (result < 0 && error->kind == ERROR_INTERRUPTED) /* amid a batch; *complete says so */
        result = 0;
    if (result == 0 && *complete)
        result = judge(&evaluator, error);
    for (int i = 0; i < count; i++)
        trials[i]->starved = false;
    feed_close(feed);
    evaluator_free(&evaluator);
    return result;
}

/* ---- what is seen ---- */

int observed_create(const struct stores *stores, struct observed *observed, struct error *error)
{
    const uint64_t tokens = stores->sequences[SPLIT_HELD_OUT] * (uint64_t)stores->rows;
    *observed = (struct observed){0};
    if (array_alloc(&observed->evidence, tokens, error) == 0 &&
        array_alloc(&observed->agrees, tokens, error) == 0)
        return 0;
    observed_free(observed);
    return -1;
}

void observed_free(struct observed *observed)
{
    free(observed->evidence);
    free(observed->agrees);
    *observed = (struct observed){0};
}

/* ---- means ---- */

uint64_t evaluation_split(const struct evaluation_setting *setting)
{
    return setting->stores->sequences[SPLIT_HELD_OUT];
}

uint64_t evaluation_sample(const struct evaluation_setting *setting)
{
    const uint64_t split = evaluation_split(setting), wanted = (uint64_t)setting->sample;
    return wanted > 0 && wanted < split ? wanted : split;
}

struct evaluation evaluation_mean(const struct evaluation_setting *setting, const struct evaluation *sums,
                                  uint64_t count)
{
    const double tokens = (double)count * setting->stores->rows;
    struct evaluation mean = {0};
    for (uint64_t p = 0; p < count; p++) {
        mean.loss += sums[p].loss;
        mean.kl += sums[p].kl;
        mean.agreement += sums[p].agreement;
        mean.draft.steps = sums[p].draft.steps;
        for (int k = 0; k < sums[p].draft.steps; k++) {
            mean.draft.hit[k] += sums[p].draft.hit[k] / tokens;
            mean.draft.accepted[k] += sums[p].draft.accepted[k] / tokens;
        }
    }
    mean.loss /= tokens;
    mean.kl /= tokens;
    mean.agreement /= tokens;
    return mean;
}

int evaluate_trials(const struct evaluation_setting *setting, struct trial *const *trials, int count,
                    struct evaluation *results, struct evaluation *full, const struct observed *observed,
                    bool *complete, struct error *error)
{
    const uint64_t split = evaluation_split(setting);
    struct evaluation *values = NULL, **trial = NULL;
    int result = -1;
    *complete = false;
    if (array_alloc(&values, (uint64_t)(count + 1) * split, error) < 0 || array_alloc(&trial, count, error) < 0)
        goto done;
    for (int i = 0; i < count; i++)
        trial[i] = values + (uint64_t)(i + 1) * split;
    const struct evaluation_sums sums = {.end = split, .trial = trial, .full = values, .observed = observed};
    result = evaluate_places(setting, trials, count, &sums, complete, error);
    if (result < 0 || !*complete)
        goto done;
    *full = evaluation_mean(setting, values, split);
    for (int i = 0; i < count; i++)
        results[i] = evaluation_mean(setting, trial[i], split);
done:
    free(values);
    free(trial);
    return result;
}
