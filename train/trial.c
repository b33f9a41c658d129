#include "train/trial.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"

/* Parameters start at multiples of 16 values in a buffer of many. */
#define ALIGNMENT 16
#define KINDS_MAX 8

/* ---- workspace ---- */

struct workspace {
    struct backend *backend;
    struct queue *queue;
    int64_t rows, hidden;
    int trials; /* of a group, at most: T */
    struct buffer *h, *dh; /* [T rows, H], a trial behind the other, as all of these */
    struct buffer *labels, *u; /* [T rows, 1] i32, [T rows, H]: the batch's, for each trial, where T > 1 */
    struct buffer *loss; /* [T rows, 1] */
    struct buffer *norm; /* [T, 1] f64 */
    struct buffer *gradients; /* of the trained parameters of each; zeros between steps */
    int64_t values, stride; /* in gradients, and from a tied trial's to the next one's */
    struct {
        const struct head_kind *kind;
        struct head_scratch *scratch[TRIALS_TOGETHER];
    } kind[KINDS_MAX];
    float *losses; /* [T rows], host */
    bool spoiled; /* a failed trial's gradients could not be removed */
};

int workspace_create(struct backend *backend, int64_t rows, int64_t hidden, int trials,
                     struct workspace **workspace, struct error *error)
{
    struct workspace *made;
    const int64_t fit = rows > MATMUL_FEW_ROWS ? TRIALS_ROWS / rows : 1;
    const int64_t most = trials < TRIALS_TOGETHER ? trials : TRIALS_TOGETHER;
    *workspace = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    *made = (struct workspace){.backend = backend, .rows = rows, .hidden = hidden};
    made->trials = (int)(fit < 1 ? 1 : fit < most ? fit : most);
    const size_t bytes = (size_t)made->trials * (size_t)rows * sizeof(float), states = bytes * (size_t)hidden;
    if (queue_create(backend, &made->queue, error) < 0 || buffer_create(backend, states, &made->h, error) < 0 ||
        buffer_create(backend, states, &made->dh, error) < 0 ||
        buffer_create(backend, bytes, &made->labels, error) < 0 ||
        buffer_create(backend, made->trials > 1 ? states : sizeof(float), &made->u, error) < 0 ||
        buffer_create(backend, bytes, &made->loss, error) < 0 ||
        buffer_create(backend, (size_t)made->trials * sizeof(double), &made->norm, error) < 0 ||
        array_alloc(&made->losses, made->trials * rows, error) < 0) {
        workspace_destroy(made);
        return -1;
    }
    *workspace = made;
    return 0;
}

void workspace_destroy(struct workspace *workspace)
{
    if (!workspace)
        return;
    for (int k = 0; k < KINDS_MAX; k++) {
        for (int t = 0; t < TRIALS_TOGETHER; t++)
            head_scratch_destroy(workspace->kind[k].scratch[t]);
    }
    buffer_destroy(workspace->h);
    buffer_destroy(workspace->dh);
    buffer_destroy(workspace->labels);
    buffer_destroy(workspace->u);
    buffer_destroy(workspace->loss);
    buffer_destroy(workspace->norm);
    buffer_destroy(workspace->gradients);
    queue_destroy(workspace->queue);
    free(workspace->losses);
    free(workspace);
}

int workspace_trials(const struct workspace *workspace)
{
    return workspace->trials;
}

static struct head_scratch *workspace_scratch(const struct workspace *workspace, const struct head *head,
                                              int place)
{
    int k = 0;
    while (k < KINDS_MAX - 1 && workspace->kind[k].kind != head_get_spec(head)->kind)
        k++;
    return workspace->kind[k].scratch[place];
}

/* Makes room for the gradients and the scratch of a head, in every place of a group if it may be in one. */
static int workspace_admit(struct workspace *workspace, const struct head *head, int64_t values,
                           struct error *error)
{
    const struct head_kind *kind = head_get_spec(head)->kind;
    const int places = head_get_spec(head)->output == OUTPUT_TIED ? workspace->trials : 1;
    int k = 0;
    while (k < KINDS_MAX && workspace->kind[k].kind && workspace->kind[k].kind != kind)
        k++;
    if (k == KINDS_MAX)
        return error_set(error, "a run cannot have more than %d kinds of heads", KINDS_MAX);
    workspace->kind[k].kind = kind;
    for (int t = 0; t < places; t++) {
        struct head_scratch **scratch = &workspace->kind[k].scratch[t];
        if (!*scratch && head_scratch_create(head, workspace->rows, true, scratch, error) < 0)
            return -1;
    }
    const int64_t stride = places > 1 && values > workspace->stride ? values : workspace->stride;
    const int64_t all = places > 1 ? places * stride : values;
    if (all > workspace->values) {
        struct buffer *larger;
        if (buffer_create(workspace->backend, (size_t)all * sizeof(float), &larger, error) < 0)
            return -1;
        buffer_destroy(workspace->gradients);
        workspace->gradients = larger;
        workspace->values = all;
    }
    workspace->stride = stride;
    return 0;
}

struct queue *workspace_queue(const struct workspace *workspace)
{
    return workspace->queue;
}

void workspace_mend(struct workspace *workspace)
{
    struct error ignored; /* the trial's own failure is what is told */
    struct queue *queue;
    float *zeros;
    workspace->spoiled = true;
    if (queue_create(workspace->backend, &queue, &ignored) < 0)
        return;
    queue_destroy(workspace->queue);
    workspace->queue = queue;
    if (array_alloc(&zeros, workspace->values, &ignored) < 0)
        return;
    op_write(queue, matrix_f32(workspace->gradients, 1, workspace->values), zeros);
    free(zeros);
    workspace->spoiled = queue_wait(queue, &ignored) < 0;
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

int trial_create(const struct trial_config *config, const struct head_shape *shape, struct backend *backend,
                 struct workspace *workspace, struct trial **trial, struct error *error)
{
    struct trial *made;
    int64_t values = 0;
    *trial = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    made->config = *config;
    made->evaluated = -1;
    if (head_create(&config->spec, shape, backend, &made->head, error) < 0)
        goto fail;
    for (int i = 0; i < head_parameter_count(made->head); i++) {
        const struct head_parameter *parameter = head_parameter(made->head, i);
        if (!parameter->trained)
            continue;
        made->trained += parameter->value.rows * parameter->value.cols;
        values += round_up(parameter->value.rows * parameter->value.cols);
    }
    if (queue_create(backend, &made->queue, error) < 0 ||
        buffer_create(backend, (size_t)values * sizeof(float), &made->first, error) < 0 ||
        buffer_create(backend, (size_t)values * sizeof(float), &made->second, error) < 0 ||
        workspace_admit(workspace, made->head, values, error) < 0)
        goto fail;
    *trial = made;
    return 0;
fail:
    trial_destroy(made);
    return -1;
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

/* The head's result in that place of the workspace. */
static struct matrix forward(const struct trial *trial, struct workspace *workspace, int place,
                             const struct shared *shared)
{
    struct matrix h = place_rows(workspace->h, place, shared->rows, workspace->hidden);
    head_forward(trial->head, workspace->queue, workspace_scratch(workspace, trial->head, place),
                 shared_states(shared, trial->config.spec.tap), h);
    return h;
}

struct matrix trial_forward(const struct trial *trial, struct workspace *workspace, const struct shared *shared)
{
    return forward(trial, workspace, 0, shared);
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

/* ---- a step ---- */

/* Trials that take a step together. */
struct group {
    struct trial *const *trials; /* [count] */
    int count;
    struct queue *queue; /* the workspace's */
    struct workspace *workspace;
    const struct shared *shared;
};

bool trial_joins(const struct trial *trial, const struct trial *other)
{
    return trial->config.spec.output == OUTPUT_TIED && other->config.spec.output == OUTPUT_TIED &&
           trial->config.loss == other->config.loss;
}

/* The batch's rows once for each trial of a group, in `all`, which has the room. */
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

static struct vocab_loss group_target(const struct group *group)
{
    const struct trial *trial = group->trials[0];
    const struct shared *shared = group->shared;
    struct vocab_loss target = {.labels = matrix_none(),
                                .u = matrix_none(),
                                .teacher_state = matrix_none(),
                                .scale = (float)(1.0 / (double)shared->rows)};
    if (trial->config.loss == LOSS_CROSS_ENTROPY) {
        target.target = VOCAB_LABELS;
        target.labels = repeat_rows(group, shared->labels, group->workspace->labels);
    } else if (trial->config.spec.output == OUTPUT_TIED) {
        target.target = VOCAB_U;
        target.u = repeat_rows(group, shared->u, group->workspace->u);
    } else {
        target.target = VOCAB_TEACHER;
        target.teacher_state = shared->teacher;
        target.teacher = (struct vocab){.tied = shared->output, .own = matrix_none()};
    }
    return target;
}

/* The place for the gradient of a parameter of a group's trial; none for a frozen one. */
static struct matrix group_gradient(const struct group *group, int place, int parameter)
{
    struct matrix gradient = parameter_part(group->trials[place], group->workspace->gradients, parameter);
    gradient.offset += place * group->workspace->stride;
    return gradient;
}

/* The gradients of a trial whose rows of dh are there, and the sum of their squares. */
static void backward(const struct group *group, int place)
{
    const struct trial *trial = group->trials[place];
    struct workspace *workspace = group->workspace;
    struct matrix gradients[HEAD_PARAMETERS_MAX];
    struct matrix norm = matrix_rows(matrix_f64(workspace->norm, group->count, 1), place, 1);
    for (int i = 0; i < head_parameter_count(trial->head); i++)
        gradients[i] = group_gradient(group, place, i);
    head_backward(trial->head, group->queue, workspace_scratch(workspace, trial->head, place),
                  shared_states(group->shared, trial->config.spec.tap),
                  place_rows(workspace->dh, place, group->shared->rows, workspace->hidden), gradients);
    for (int i = 0; i < head_parameter_count(trial->head); i++) {
        if (!matrix_is_none(gradients[i]))
            op_sum_squares(group->queue, gradients[i], norm);
    }
}

/* The gradient of the own output weight of an untied trial, which is alone in its group; else none. */
static struct matrix output_gradient(const struct group *group)
{
    const struct head *head = group->trials[0]->head;
    const int last = head_parameter_count(head) - 1;
    return head_get_spec(head)->output == OUTPUT_UNTIED ? group_gradient(group, 0, last) : matrix_none();
}

/* Fills the gradients, and gives the trials' mean losses and the norms of their gradients. */
static int group_gradients(const struct group *group, struct trial_result *results, struct error *error)
{
    struct workspace *workspace = group->workspace;
    const struct shared *shared = group->shared;
    const int64_t rows = shared->rows, all = group->count * rows;
    struct matrix loss = matrix_f32(workspace->loss, all, 1);
    struct matrix norm = matrix_f64(workspace->norm, group->count, 1);
    double squares[TRIALS_TOGETHER] = {0};
    const struct vocab vocab = head_vocab(group->trials[0]->head, shared->output);
    const struct vocab_loss target = group_target(group);
    for (int t = 0; t < group->count; t++)
        forward(group->trials[t], workspace, t, shared);
    op_vocab_loss(group->queue, matrix_f32(workspace->h, all, workspace->hidden), &vocab, &target, loss,
                  matrix_f32(workspace->dh, all, workspace->hidden), output_gradient(group));
    op_write(group->queue, norm, squares);
    for (int t = 0; t < group->count; t++)
        backward(group, t);
    op_read(group->queue, norm, squares);
    op_read(group->queue, loss, workspace->losses);
    if (queue_wait(group->queue, error) < 0)
        return -1;
    for (int t = 0; t < group->count; t++) {
        double sum = 0;
        for (int64_t r = 0; r < rows; r++)
            sum += workspace->losses[t * rows + r];
        results[t].loss = sum / (double)rows;
        results[t].norm = sqrt(squares[t]);
    }
    return 0;
}

static void update(const struct group *group, int place, const struct trial_result *result)
{
    const struct trial *trial = group->trials[place];
    const struct trial_config *config = &trial->config;
    const double limit = config->clip;
    const struct adam adam = {
        .rate = (float)result->rate,
        .beta1 = (float)config->beta1,
        .beta2 = (float)config->beta2,
        .epsilon = (float)config->epsilon,
        .decay = (float)config->decay,
        .clip = (float)(limit > 0 && result->norm > limit ? limit / result->norm : 1),
        .step = trial->step + 1,
    };
    for (int i = 0; i < head_parameter_count(trial->head); i++) {
        struct matrix gradient = group_gradient(group, place, i);
        if (!matrix_is_none(gradient))
            op_adam(group->queue, &adam, gradient, head_parameter(trial->head, i)->value,
                    trial_first_moment(trial, i), trial_second_moment(trial, i));
    }
}

/* One step of those whose loss and gradient are numbers; the others fail. */
static int group_step(const struct group *group, int64_t steps, struct trial_result *results,
                      struct error *error)
{
    if (group->workspace->spoiled)
        return error_set(error, "the device failed in an earlier trial");
    if (group_gradients(group, results, error) < 0)
        return -1;
    for (int t = 0; t < group->count; t++) {
        struct trial *trial = group->trials[t];
        results[t].rate = trial_rate(&trial->config, trial->step + 1, steps);
        trial->failed = !isfinite(results[t].loss) || !isfinite(results[t].norm);
        if (trial->failed)
            error_set(&trial->reason, "the %s of step %" PRId64 " is not a number; try a smaller rate",
                      isfinite(results[t].loss) ? "gradient" : "loss", trial->step + 1);
        else
            update(group, t, &results[t]);
    }
    return queue_wait(group->queue, error);
}

void trials_step(struct trial *const *trials, int count, struct workspace *workspace,
                 const struct shared *shared, int64_t steps, struct trial_result *results)
{
    const struct group group = {trials, count, workspace->queue, workspace, shared};
    struct error error;
    bool failed = false;
    backend_ran_out(workspace->backend);
    const bool device_failed = group_step(&group, steps, results, &error) < 0;
    if (device_failed && count > 1 && backend_ran_out(workspace->backend)) {
        const int half = (count + 1) / 2; /* no trial has changed: the optimizer takes no memory */
        workspace_mend(workspace);
        workspace->trials = half;
        trials_step(trials, half, workspace, shared, steps, results);
        trials_step(trials + half, count - half, workspace, shared, steps, results + half);
        return;
    }
    for (int t = 0; t < count; t++) {
        struct trial *trial = trials[t];
        if (device_failed && !trial->failed) {
            trial->failed = true;
            trial->reason = error;
        }
        trial->step += !trial->failed;
        failed = failed || trial->failed;
    }
    if (failed)
        workspace_mend(workspace);
}
