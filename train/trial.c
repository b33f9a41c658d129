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
    struct buffer *h, *dh; /* [rows, H] */
    struct buffer *loss; /* [rows, 1] */
    struct buffer *norm; /* [1, 1] f64 */
    struct buffer *gradients; /* of the trained parameters of one trial; zeros between steps */
    int64_t values; /* in gradients */
    struct {
        const struct head_kind *kind;
        struct head_scratch *scratch;
    } kind[KINDS_MAX];
    float *losses; /* [rows], host */
    bool spoiled; /* a failed trial's gradients could not be removed */
};

int workspace_create(struct backend *backend, int64_t rows, int64_t hidden, struct workspace **workspace,
                     struct error *error)
{
    struct workspace *made;
    *workspace = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    *made = (struct workspace){.backend = backend, .rows = rows, .hidden = hidden};
    const size_t bytes = (size_t)rows * sizeof(float);
    if (queue_create(backend, &made->queue, error) < 0 ||
        buffer_create(backend, bytes * (size_t)hidden, &made->h, error) < 0 ||
        buffer_create(backend, bytes * (size_t)hidden, &made->dh, error) < 0 ||
        buffer_create(backend, bytes, &made->loss, error) < 0 ||
        buffer_create(backend, sizeof(double), &made->norm, error) < 0 ||
        array_alloc(&made->losses, rows, error) < 0) {
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
    for (int k = 0; k < KINDS_MAX; k++)
        head_scratch_destroy(workspace->kind[k].scratch);
    buffer_destroy(workspace->h);
    buffer_destroy(workspace->dh);
    buffer_destroy(workspace->loss);
    buffer_destroy(workspace->norm);
    buffer_destroy(workspace->gradients);
    queue_destroy(workspace->queue);
    free(workspace->losses);
    free(workspace);
}

struct matrix workspace_h(const struct workspace *workspace, int64_t rows)
{
    return matrix_f32(workspace->h, rows, workspace->hidden);
}

static struct head_scratch *workspace_scratch(const struct workspace *workspace, const struct head *head)
{
    int k = 0;
    while (k < KINDS_MAX - 1 && workspace->kind[k].kind != head_get_spec(head)->kind)
        k++;
    return workspace->kind[k].scratch;
}

/* Makes room for the gradients and the scratch of a head. */
static int workspace_admit(struct workspace *workspace, const struct head *head, int64_t values,
                           struct error *error)
{
    const struct head_kind *kind = head_get_spec(head)->kind;
    int k = 0;
    while (k < KINDS_MAX && workspace->kind[k].kind && workspace->kind[k].kind != kind)
        k++;
    if (k == KINDS_MAX)
        return error_set(error, "a run cannot have more than %d kinds of heads", KINDS_MAX);
    if (!workspace->kind[k].kind) {
        if (head_scratch_create(head, workspace->rows, true, &workspace->kind[k].scratch, error) < 0)
            return -1;
        workspace->kind[k].kind = kind;
    }
    if (values > workspace->values) {
        struct buffer *larger;
        if (buffer_create(workspace->backend, (size_t)values * sizeof(float), &larger, error) < 0)
            return -1;
        buffer_destroy(workspace->gradients);
        workspace->gradients = larger;
        workspace->values = values;
    }
    return 0;
}

/* After a failed trial: nothing of it may reach the next one. */
static void workspace_clear(struct workspace *workspace)
{
    struct error ignored; /* the trial's own failure is what is told */
    float *zeros;
    workspace->spoiled = true;
    if (array_alloc(&zeros, workspace->values, &ignored) < 0)
        return;
    op_write(workspace->queue, matrix_f32(workspace->gradients, 1, workspace->values), zeros);
    free(zeros);
    workspace->spoiled = queue_wait(workspace->queue, &ignored) < 0;
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

struct matrix trial_forward(const struct trial *trial, struct workspace *workspace, const struct shared *shared)
{
    struct matrix h = workspace_h(workspace, shared->rows);
    head_forward(trial->head, trial->queue, workspace_scratch(workspace, trial->head),
                 shared_states(shared, trial->config.spec.tap), h);
    return h;
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

static struct vocab_loss trial_target(const struct trial *trial, const struct shared *shared)
{
    struct vocab_loss target = {.labels = matrix_none(),
                                .u = matrix_none(),
                                .teacher_state = matrix_none(),
                                .scale = (float)(1.0 / (double)shared->rows)};
    if (trial->config.loss == LOSS_CROSS_ENTROPY) {
        target.target = VOCAB_LABELS;
        target.labels = shared->labels;
    } else if (trial->config.spec.output == OUTPUT_TIED) {
        target.target = VOCAB_U;
        target.u = shared->u;
    } else {
        target.target = VOCAB_TEACHER;
        target.teacher_state = shared->teacher;
        target.teacher = (struct vocab){.tied = shared->output, .own = matrix_none()};
    }
    return target;
}

/* Fills `gradients` (views of the workspace's, one per parameter) and returns the mean loss and the
 * gradient's norm. */
static int trial_gradient(struct trial *trial, struct workspace *workspace, const struct shared *shared,
                          struct matrix *gradients, struct trial_result *result, struct error *error)
{
    const int64_t rows = shared->rows;
    struct matrix down = matrix_none();
    struct matrix dh = matrix_f32(workspace->dh, rows, workspace->hidden);
    struct matrix loss = matrix_f32(workspace->loss, rows, 1);
    struct matrix norm = matrix_f64(workspace->norm, 1, 1);
    double squares = 0;
    for (int i = 0; i < head_parameter_count(trial->head); i++) {
        gradients[i] = parameter_part(trial, workspace->gradients, i);
        if (!strcmp(head_parameter(trial->head, i)->name, "output"))
            down = gradients[i];
    }
    const struct vocab vocab = head_vocab(trial->head, shared->output);
    const struct vocab_loss target = trial_target(trial, shared);
    struct matrix h = trial_forward(trial, workspace, shared);
    op_vocab_loss(trial->queue, h, &vocab, &target, loss, dh, down);
    head_backward(trial->head, trial->queue, workspace_scratch(workspace, trial->head),
                  shared_states(shared, trial->config.spec.tap), dh, gradients);
    op_write(trial->queue, norm, &squares);
    for (int i = 0; i < head_parameter_count(trial->head); i++) {
        if (!matrix_is_none(gradients[i]))
            op_sum_squares(trial->queue, gradients[i], norm);
    }
    op_read(trial->queue, norm, &squares);
    op_read(trial->queue, loss, workspace->losses);
    if (queue_wait(trial->queue, error) < 0)
        return -1;
    double sum = 0;
    for (int64_t r = 0; r < rows; r++)
        sum += workspace->losses[r];
    result->loss = sum / (double)rows;
    result->norm = sqrt(squares);
    return 0;
}

static void trial_update(struct trial *trial, const struct matrix *gradients, double clip, double rate)
{
    const struct trial_config *config = &trial->config;
    const struct adam adam = {
        .rate = (float)rate,
        .beta1 = (float)config->beta1,
        .beta2 = (float)config->beta2,
        .epsilon = (float)config->epsilon,
        .decay = (float)config->decay,
        .clip = (float)clip,
        .step = trial->step + 1,
    };
    for (int i = 0; i < head_parameter_count(trial->head); i++) {
        if (!matrix_is_none(gradients[i]))
            op_adam(trial->queue, &adam, gradients[i], head_parameter(trial->head, i)->value,
                    trial_first_moment(trial, i), trial_second_moment(trial, i));
    }
}

int trial_step(struct trial *trial, struct workspace *workspace, const struct shared *shared, int64_t steps,
               struct trial_result *result, struct error *error)
{
    struct matrix gradients[HEAD_PARAMETERS_MAX];
    if (workspace->spoiled)
        return error_set(error, "the device failed in an earlier trial");
    if (trial_gradient(trial, workspace, shared, gradients, result, error) < 0)
        goto fail;
    if (!isfinite(result->loss) || !isfinite(result->norm)) {
        error_set(error, "the %s of step %" PRId64 " is not a number; try a smaller rate",
                  isfinite(result->loss) ? "gradient" : "loss", trial->step + 1);
        goto fail;
    }
    const double limit = trial->config.clip;
    const double clip = limit > 0 && result->norm > limit ? limit / result->norm : 1;
    result->rate = trial_rate(&trial->config, trial->step + 1, steps);
    trial_update(trial, gradients, clip, result->rate);
    if (queue_wait(trial->queue, error) < 0)
        goto fail;
    trial->step++;
    return 0;
fail:
    workspace_clear(workspace);
    return -1;
}
