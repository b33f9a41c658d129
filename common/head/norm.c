/* norm.c: the head norm(x). */
#include "common/head/kind.h"

enum { SCALE, PARAMETERS };
enum { DX, SCRATCHES }; /* the gradient of x, which nobody reads */

static const struct parameter_rule rules[PARAMETERS] = {
    [SCALE] = {"scale", FORM_ROLE, ROLE_FINAL_NORM, true, FILL_MODEL, FILL_ONES},
};

static const struct scratch_rule scratches[SCRATCHES] = {
    [DX] = {COLUMNS_HIDDEN, .backward = true},
};

static void forward(struct queue *queue, const struct head_run *runs, int count)
{
    for (int r = 0; r < count; r++) {
        const struct head *head = runs[r].head;
        op_norm(queue, runs[r].x, head->parameter[SCALE].value, head->config.norm_epsilon, runs[r].h);
    }
}

static void backward(struct queue *queue, const struct head_run *runs, int count)
{
    for (int r = 0; r < count; r++) {
        const struct head_run *run = &runs[r];
        op_norm_grad(queue, run->dh, run->x, run->head->parameter[SCALE].value, run->head->config.norm_epsilon,
                     head_run_scratch(run, DX), OP_STORE, run->gradients[SCALE]);
    }
}

const struct head_kind head_kind_norm = {
    .name = "norm",
    .by_row = true,
    .rules = PARAMETERS,
    .rule = rules,
    .scratches = SCRATCHES,
    .scratch = scratches,
    .forward = forward,
    .backward = backward,
};
