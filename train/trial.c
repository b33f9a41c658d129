#include "train/trial.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/memory.h"

/* Parameters start at multiples of 16 values in a buffer of many. */
#define ALIGNMENT 16
#define KINDS_MAX 8

/* ---- workspace ---- */

struct workspace {
    struct backend *backend;
    struct queue *queue;
    int64_t length, hidden; /* length: rows of a sequence */
    int64_t rows; /* of a piece of a batch, at most: whole sequences, or a part of one */
    int64_t wanted; /* rows, as they were asked for */
    struct span *spans; /* [wanted / length] of a piece */
    int trials; /* of a group, at most: T */

    /* Made when they are first needed, so that they may be smaller once memory has run out. */
    int64_t capacity; /* rows of a piece that all of these are for */
    struct buffer *h, *dh; /* [T rows, H], a trial behind the other, as all of these */
    struct buffer *labels, *u; /* [T rows, 1] i32, [T rows, H]: the batch's, for each trial, where T > 1 */
    struct buffer *loss; /* [T rows, 1] */
    struct buffer *norm; /* [T, 1] f64 */
    struct buffer *gradients; /* of the trained parameters of each; zeros between steps */
    int64_t values; /* in gradients */

    /* What a group's ops go over: the parameters of its trials, a trial's behind the other's. */
    int parameters; /* room */
    struct matrix *gradient; /* none of a frozen one */
    struct square_sum *squares;
    struct adam_update *updates;
    struct {
        const struct head_kind *kind;
        struct head_scratch *scratch[TRIALS_TOGETHER];
    } kind[KINDS_MAX];
};

int workspace_create(struct backend *backend, int sequences, int length, int64_t hidden, int trials,
                     struct workspace **workspace, struct error *error)
{
    struct workspace *made;
    const int64_t rows = (int64_t)sequences * length;
    const int64_t fit = rows > MATMUL_FEW_ROWS ? TRIALS_ROWS / rows : 1;
    const int64_t most = trials < TRIALS_TOGETHER ? trials : TRIALS_TOGETHER;
    *workspace = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    *made = (struct workspace){
        .backend = backend, .length = length, .hidden = hidden, .rows = rows, .wanted = rows};
    made->trials = (int)(fit < 1 ? 1 : fit < most ? fit : most);
    if (array_alloc(&made->spans, sequences, error) < 0 || queue_create(backend, &made->queue, error) < 0) {
        workspace_destroy(made);
        return -1;
    }
    *workspace = made;
    return 0;
}

static void drop_buffers(struct workspace *workspace)
{
    struct buffer **const buffers[] = {&workspace->h,    &workspace->dh,   &workspace->labels,   &workspace->u,
                                       &workspace->loss, &workspace->norm, &workspace->gradients};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        buffer_destroy(*buffers[i]);
        *buffers[i] = NULL;
    }
    workspace->values = 0;
    workspace->capacity = 0;
    for (int k = 0; k < KINDS_MAX; k++) {
        for (int t = 0; t < TRIALS_TOGETHER; t++) {
            head_scratch_destroy(workspace->kind[k].scratch[t]);
            workspace->kind[k].scratch[t] = NULL;
        }
    }
}

void workspace_destroy(struct workspace *workspace)
{
    if (!workspace)
        return;
    drop_buffers(workspace);
    queue_destroy(workspace->queue);
    free(workspace->spans);
    free(workspace->gradient);
    free(workspace->squares);
    free(workspace->updates);
    free(workspace);
}

int workspace_trials(const struct workspace *workspace)
{
    return workspace->trials;
}

int64_t workspace_rows(const struct workspace *workspace)
{
    return workspace->rows;
}

static int need_buffer(const struct workspace *workspace, size_t bytes, struct buffer **buffer,
                       struct error *error)
{
    return *buffer ? 0 : buffer_create(workspace->backend, bytes, buffer, error);
}

/* The rows of a piece, at most. */
static int64_t piece_rows(const struct workspace *workspace, bool by_row)
{
    return by_row || workspace->rows > workspace->length ? workspace->rows : workspace->length;
}

static int need_rows(struct workspace *workspace, bool by_row, struct error *error)
{
    const int64_t rows = piece_rows(workspace, by_row);
    if (workspace->capacity < rows)
        drop_buffers(workspace);
    if (workspace->capacity == 0)
        workspace->capacity = rows;
    const size_t trials = (size_t)workspace->trials;
    const size_t bytes = trials * (size_t)workspace->capacity * sizeof(float);
    const size_t states = bytes * (size_t)workspace->hidden;
    if (need_buffer(workspace, states, &workspace->h, error) < 0 ||
        need_buffer(workspace, states, &workspace->dh, error) < 0 ||
        need_buffer(workspace, bytes, &workspace->labels, error) < 0 ||
        need_buffer(workspace, trials > 1 ? states : sizeof(float), &workspace->u, error) < 0 ||
        need_buffer(workspace, bytes, &workspace->loss, error) < 0 ||
        need_buffer(workspace, trials * sizeof(double), &workspace->norm, error) < 0)
        return -1;
    return 0;
}

static int find_kind(const struct workspace *workspace, const struct head_kind *kind)
{
    int k = 0;
    while (k < KINDS_MAX - 1 && workspace->kind[k].kind && workspace->kind[k].kind != kind)
        k++;
    return k;
}

static struct head_scratch *workspace_scratch(const struct workspace *workspace, const struct head *head,
                                              int place)
{
    return workspace->kind[find_kind(workspace, head_get_spec(head)->kind)].scratch[place];
}

static int need_scratch(struct workspace *workspace, const struct head *head, int place, struct error *error)
{
    const struct head_kind *kind = head_get_spec(head)->kind;
    const int k = find_kind(workspace, kind);
    if (workspace->kind[k].kind && workspace->kind[k].kind != kind)
        return error_set(error, "a run cannot have more than %d kinds of heads", KINDS_MAX);
    workspace->kind[k].kind = kind;
    struct head_scratch **scratch = &workspace->kind[k].scratch[place];
    return *scratch ? 0 : head_scratch_create(head, workspace->capacity, true, scratch, error);
}

static int need_gradients(struct workspace *workspace, int64_t values, struct error *error)
{
    if (values <= workspace->values)
        return 0;
    buffer_destroy(workspace->gradients);
    workspace->gradients = NULL;
    workspace->values = 0;
    if (buffer_create(workspace->backend, (size_t)values * sizeof(float), &workspace->gradients, error) < 0)
        return error_prefix(error, "the gradients of a step");
    workspace->values = values;
    return 0;
}

static int need_parameters(struct workspace *workspace, int parameters, struct error *error)
{
    if (parameters <= workspace->parameters)
        return 0;
    free(workspace->gradient);
    free(workspace->squares);
    free(workspace->updates);
    workspace->gradient = NULL;
    workspace->squares = NULL;
    workspace->updates = NULL;
    workspace->parameters = 0;
    if (array_alloc(&workspace->gradient, parameters, error) < 0 ||
        array_alloc(&workspace->squares, parameters, error) < 0 ||
        array_alloc(&workspace->updates, parameters, error) < 0)
        return -1;
    workspace->parameters = parameters;
    return 0;
}

struct queue *workspace_queue(const struct workspace *workspace)
{
    return workspace->queue;
}

/* A failed queue gives way to a new one (or stays, and what follows fails, too); gradients are zeros again. */
static void mend(struct workspace *workspace)
{
    struct error ignored; /* the trial's own failure is what is told */
    struct queue *queue;
    drop_buffers(workspace);
    if (queue_create(workspace->backend, &queue, &ignored) < 0)
        return;
    queue_destroy(workspace->queue);
    workspace->queue = queue;
}

/* The rows that a piece has at least where memory is short. */
static int64_t least_rows(const struct workspace *workspace, bool by_row)
{
    return by_row || workspace->length < PIECE_ROWS ? PIECE_ROWS : workspace->length;
}

bool workspace_recover(struct workspace *workspace, bool by_row, struct error *reason)
{
    const bool ran_out = reason->kind == ERROR_NO_MEMORY;
    const int64_t half = (workspace->rows + 1) / 2, least = least_rows(workspace, by_row);
    mend(workspace);
    if (ran_out && workspace->trials > 1) {
        workspace->trials = (workspace->trials + 1) / 2;
        return true;
    }
    if (ran_out && workspace->rows > least) {
        workspace->rows = half > least ? half : least;
        if (workspace->rows > workspace->length)
            workspace->rows -= workspace->rows % workspace->length;
        return true;
    }
    if (ran_out)
        error_prefix(reason, "with only %" PRId64 " rows of the batch at a time", workspace->rows);
    workspace->rows = workspace->wanted; /* that smaller pieces did not help says nothing of the next trial */
    return false;
}

/* Pieces of a sequence; 0: pieces are whole sequences. */
static int64_t parts_of_sequence(const struct workspace *workspace, bool by_row)
{
    const int64_t most = piece_rows(workspace, by_row);
    return most < workspace->length ? cut_count(workspace->length, most) : 0;
}

int64_t workspace_pieces(const struct workspace *workspace, bool by_row, int64_t rows)
{
    const int64_t length = workspace->length, parts = parts_of_sequence(workspace, by_row);
    return parts ? rows / length * parts : cut_count(rows / length, piece_rows(workspace, by_row) / length);
}

struct piece workspace_piece(const struct workspace *workspace, bool by_row, int64_t rows, int64_t index)
{
    const int64_t length = workspace->length, parts = parts_of_sequence(workspace, by_row);
    const int64_t most = piece_rows(workspace, by_row);
    struct piece piece;
    if (parts) {
        piece = cut_piece(length, most, index % parts);
        piece.first += index / parts * length;
    } else {
        const struct piece sequences = cut_piece(rows / length, most / length, index);
        piece = (struct piece){sequences.first * length, sequences.rows * length};
    }
    return piece;
}

int workspace_spans(struct workspace *workspace, struct piece piece, const struct span **spans)
{
    const int64_t length = workspace->length;
    int count = 0;
    *spans = workspace->spans;
    if (piece.rows < length) {
        workspace->spans[0] = (struct span){.rows = (int)piece.rows, .first = (int)(piece.first % length)};
        return 1;
    }
    while (count < piece.rows / length)
        workspace->spans[count++] = (struct span){.rows = (int)length};
    return count;
}

/* ---- trials ---- */

static int64_t round_up(int64_t values)
{
    return (values + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* The part of a buffer of all trained parameters that belongs to one of them. */
static struct matrix parameter_part(const struct trial *trial, struct buffer *buffer, int parameter)
{
    int64_t offset = 0;
    for (int i = 0; i < parameter; i++) {
        const struct head_parameter *before = head_parameter(trial->head, i);
        if (before->trained)
            offset += round_up(before->value.rows * before->value.cols);
    }
    const struct head_parameter *wanted = head_parameter(trial->head, parameter);
    if (!wanted->trained)
        return matrix_none();
    struct matrix part = matrix_f32(buffer, wanted->value.rows, wanted->value.cols);
    part.offset = offset;
    return part;
}

struct matrix trial_first_moment(const struct trial *trial, int parameter)
{
    return parameter_part(trial, trial->first, parameter);
}

struct matrix trial_second_moment(const struct trial *trial, int parameter)
{
    return parameter_part(trial, trial->second, parameter);
}

/* What a trial whose head is there needs for its steps. */
static int create_optimizer(struct trial *trial, struct backend *backend, struct error *error)
{
    for (int i = 0; i < head_parameter_count(trial->head); i++) {
        const struct head_parameter *parameter = head_parameter(trial->head, i);
        if (!parameter->trained)
            continue;
        trial->trained += parameter->value.rows * parameter->value.cols;
        trial->values += round_up(parameter->value.rows * parameter->value.cols);
    }
    const size_t bytes = (size_t)trial->values * sizeof(float);
    return buffer_create(backend, bytes, &trial->first, error) < 0
               ? -1
               : buffer_create(backend, bytes, &trial->second, error);
}

int trial_create(const struct trial_config *config, const struct model_config *model, struct backend *backend,
                 struct trial **trial, struct error *error)
{
    struct trial *made;
    *trial = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    made->config = *config;
    made->evaluated = -1;
    made->best = INFINITY;
    if (head_create(&config->spec, model, backend, &made->head, error) < 0 ||
        queue_create(backend, &made->queue, error) < 0 || create_optimizer(made, backend, error) < 0)
        goto fail;
    *trial = made;
    return 0;
fail:
    trial_destroy(made);
    return -1;
}

int trial_open_head(const struct trial_config *config, const char *path, const struct model_config *model,
                    const char *fingerprint, struct backend *backend, struct trial **trial, struct error *error)
{
    struct trial *made;
    *trial = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    made->config = *config;
    made->evaluated = -1;
    made->best = INFINITY;
    if (head_load(path, model, fingerprint, backend, &made->head, error) < 0 ||
        queue_create(backend, &made->queue, error) < 0)
        goto fail;
    const struct head_spec *spec = head_get_spec(made->head);
    if (spec->kind != config->spec.kind || spec->output != config->spec.output ||
        tap_compare(spec->tap, config->spec.tap) != 0) {
        error_set(error, "%s: is not the head of trial %s; remove its folder to train it again", path,
                  config->id);
        goto fail;
    }
    *trial = made;
    return 0;
fail:
    trial_destroy(made);
    return -1;
}

int trial_restart(const struct trial_config *config, const char *path, const struct model_config *model,
                  const char *fingerprint, int64_t step, struct backend *backend, struct trial **trial,
                  struct error *error)
{
    if (trial_open_head(config, path, model, fingerprint, backend, trial, error) < 0)
        return -1;
    if (create_optimizer(*trial, backend, error) < 0) {
        trial_destroy(*trial);
        *trial = NULL;
        return -1;
    }
    (*trial)->step = (*trial)->optimizer_start = step;
    return 0;
}

void trial_destroy(struct trial *trial)
{
    if (!trial)
        return;
    buffer_destroy(trial->first);
    buffer_destroy(trial->second);
    queue_destroy(trial->queue);
    head_destroy(trial->head);
    free(trial);
}

/* Rows of the trial in that place of a group. */
static struct matrix place_rows(struct buffer *buffer, int place, int64_t rows, int64_t cols)
{
    return matrix_rows(matrix_f32(buffer, (place + 1) * rows, cols), place * rows, rows);
}

static struct matrix piece_of(struct matrix batch, struct piece piece)
{
    return matrix_rows(batch, piece.first, piece.rows);
}

static struct matrix piece_states(const struct trial *trial, const struct batch *batch, struct piece piece)
{
    return piece_of(batch_states(batch, trial->config.spec.tap), piece);
}

/* A trial's head at work in that place of the workspace, which has the room; without gradients. */
static struct head_run run_in_place(const struct trial *trial, struct workspace *workspace, int place,
                                    const struct batch *batch, struct piece piece)
{
    struct head_run run = {.head = trial->head,
                           .scratch = workspace_scratch(workspace, trial->head, place),
                           .x = piece_states(trial, batch, piece),
                           .h = place_rows(workspace->h, place, piece.rows, workspace->hidden),
                           .dh = place_rows(workspace->dh, place, piece.rows, workspace->hidden)};
    run.span_count = workspace_spans(workspace, piece, &run.spans);
    return run;
}

int trial_forward(const struct trial *trial, struct workspace *workspace, const struct batch *batch,
                  struct piece piece, struct matrix *h, struct error *error)
{
    if (need_rows(workspace, trial_is_by_row(trial), error) < 0 ||
        need_scratch(workspace, trial->head, 0, error) < 0)
        return -1;
    const struct head_run run = run_in_place(trial, workspace, 0, batch, piece);
    heads_forward(workspace->queue, &run, 1);
    *h = run.h;
    return 0;
}

unsigned trial_teaching(const struct trial *trial)
{
    if (trial->config.loss == LOSS_CROSS_ENTROPY)
        return TEACH_NOTHING;
    return trial->config.spec.output == OUTPUT_TIED ? TEACH_U : TEACH_STATES;
}

unsigned trial_measuring(const struct trial_config *config)
{
    return config->spec.output == OUTPUT_TIED ? TEACH_U : TEACH_STATES | TEACH_STATES_ENTROPY;
}

bool trial_is_by_row(const struct trial *trial)
{
    return head_kind_is_by_row(trial->config.spec.kind);
}

void trial_starve(struct trial *trial, const struct error *reason)
{
    trial->starved = true;
    trial->reason = *reason;
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
    const struct matrix *gradients[TRIALS_TOGETHER]; /* of each, [parameter]; none of a frozen one */
};

bool trial_joins(const struct trial *trial, const struct trial *other)
{
    return trial->config.spec.output == OUTPUT_TIED && other->config.spec.output == OUTPUT_TIED &&
           trial->config.loss == other->config.loss;
}

/* The room for a group's step. */
static int group_prepare(struct group *group, struct error *error)
{
    struct workspace *workspace = group->workspace;
    int parameters = 0;
    if (need_rows(workspace, group->by_row, error) < 0)
        return -1;
    for (int t = 0; t < group->count; t++) {
        if (need_scratch(workspace, group->trials[t]->head, t, error) < 0)
            return -1;
        parameters += head_parameter_count(group->trials[t]->head);
    }
    if (need_gradients(workspace, group->count * group->stride, error) < 0 ||
        need_parameters(workspace, parameters, error) < 0)
        return -1;
    struct matrix *gradient = workspace->gradient;
    for (int t = 0; t < group->count; t++) {
        group->gradients[t] = gradient;
        for (int i = 0; i < head_parameter_count(group->trials[t]->head); i++) {
            *gradient = parameter_part(group->trials[t], workspace->gradients, i);
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

static struct vocab_loss group_target(const struct group *group, struct piece piece)
{
    const struct trial *trial = group->trials[0];
    const struct batch *batch = group->batch;
    struct vocab_loss target = {.labels = matrix_none(),
                                .u = matrix_none(),
                                .teacher_state = matrix_none(),
                                .scale = (float)(1.0 / (double)batch->rows)};
    if (trial->config.loss == LOSS_CROSS_ENTROPY) {
        target.target = VOCAB_LABELS;
        target.labels = repeat_rows(group, piece_of(batch->labels, piece), group->workspace->labels);
    } else if (trial->config.spec.output == OUTPUT_TIED) {
        target.target = VOCAB_U;
        target.u = repeat_rows(group, piece_of(batch->u, piece), group->workspace->u);
    } else {
        target.target = VOCAB_TEACHER;
        target.teacher_state = piece_of(batch->teacher, piece);
        target.teacher = (struct vocab){.tied = batch->output, .own = matrix_none()};
    }
    return target;
}

/* Heads of a group that are of one kind, at work: their products go together. */
struct runs {
    struct head_run run[TRIALS_TOGETHER];
    int count;
};

static const struct head_kind *kind_at(const struct group *group, int place)
{
    return head_get_spec(group->trials[place]->head)->kind;
}

/* Those of the kind that the trial in `place` has; none where a trial before it has the same. */
static void gather_runs(const struct group *group, int place, struct piece piece, struct runs *runs)
{
    const struct head_kind *kind = kind_at(group, place);
    runs->count = 0;
    for (int t = 0; t < place; t++)
        if (kind_at(group, t) == kind)
            return;
    for (int t = place; t < group->count; t++) {
        if (kind_at(group, t) != kind)
            continue;
        struct head_run *run = &runs->run[runs->count++];
        *run = run_in_place(group->trials[t], group->workspace, t, group->batch, piece);
        run->gradients = group->gradients[t];
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

/* Adds to the gradients what a piece of the batch has of them; losses [count, piece.rows]. */
static void piece_gradients(const struct group *group, struct piece piece, float *losses)
{
    struct workspace *workspace = group->workspace;
    const int64_t all = group->count * piece.rows;
    struct matrix loss = matrix_f32(workspace->loss, all, 1);
    const struct vocab vocab = head_vocab(group->trials[0]->head, group->batch->output);
    const struct vocab_loss target = group_target(group, piece);
    struct runs runs;
    for (int t = 0; t < group->count; t++) {
        gather_runs(group, t, piece, &runs);
        if (runs.count > 0)
            heads_forward(group->queue, runs.run, runs.count);
    }
    op_vocab_loss(group->queue, matrix_f32(workspace->h, all, workspace->hidden), &vocab, &target, loss,
                  matrix_f32(workspace->dh, all, workspace->hidden), output_gradient(group));
    for (int t = 0; t < group->count; t++) {
        gather_runs(group, t, piece, &runs);
        if (runs.count > 0)
            heads_backward(group->queue, runs.run, runs.count);
    }
    op_read(group->queue, loss, losses);
}

/* Fills the gradients, and gives the trials' mean losses and the norms of their gradients. */
static int group_gradients(const struct group *group, struct trial_result *results, struct error *error)
{
    const struct workspace *workspace = group->workspace;
    const int64_t rows = group->batch->rows, pieces = workspace_pieces(workspace, group->by_row, rows);
    struct matrix norm = matrix_f64(workspace->norm, group->count, 1);
    double squares[TRIALS_TOGETHER] = {0};
    float *losses; /* a piece's behind the other's */
    if (array_alloc(&losses, group->count * rows, error) < 0)
        return -1;
    for (int64_t p = 0; p < pieces; p++) {
        const struct piece piece = workspace_piece(workspace, group->by_row, rows, p);
        if (cli_interrupted())
            break;
        piece_gradients(group, piece, losses + group->count * piece.first);
    }
    op_write(group->queue, norm, squares);
    sum_squares(group, norm);
    op_read(group->queue, norm, squares);
    int result = queue_wait(group->queue, error);
    if (result == 0 && cli_interrupted()) /* before what cannot be left half done */
        result = error_set_kind(error, ERROR_INTERRUPTED, "interrupted");
    for (int t = 0; t < group->count; t++) {
        double sum = 0;
        for (int64_t p = 0; p < pieces; p++) {
            const struct piece piece = workspace_piece(workspace, group->by_row, rows, p);
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
static int list_updates(const struct group *group, int place, const struct trial_result *result,
                        struct adam_update *updates)
{
    const struct trial *trial = group->trials[place];
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
        const struct matrix gradient = group->gradients[place][i];
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
    op_adam(group->queue, updates, count);
    const int result = queue_wait(group->queue, error);
    for (int t = 0; t < group->count && result == 0; t++)
        group->trials[t]->step += !group->trials[t]->failed;
    if (failed || result < 0)
        mend(group->workspace);
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
                          .by_row = trial_is_by_row(trials[0])};
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

/* ---- whose fault it is ---- */

/* Whether there is memory for a trial's gradients now. */
static bool gets_through(struct trial *trial, struct workspace *workspace, const struct batch *batch)
{
    struct trial_result ignored;
    struct error error;
    int result;
    do {
        struct group group = first_group(&trial, 1, workspace, batch);
        result = group_prepare(&group, &error) < 0 ? -1 : group_gradients(&group, &ignored, &error);
    } while (result < 0 && workspace_recover(workspace, trial_is_by_row(trial), &error));
    mend(workspace);
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
