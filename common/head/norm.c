/* norm.c: the head norm(x). */
#include "common/head/kind.h"

enum { SCALE, PARAMETERS };
enum { DX, SCRATCHES }; /* the gradient of x, which nobody reads */

static const struct parameter_rule parameters[PARAMETERS] = {
    [SCALE] = {"scale", EXTENT_ONE, EXTENT_HIDDEN, true, FILL_MODEL, FILL_ONES, ROLE_FINAL_NORM},
};

static const struct scratch_rule scratches[SCRATCHES] = {
    [DX] = {EXTENT_HIDDEN, true},
};

static void forward(const struct head *head, struct queue *queue, struct head_scratch *scratch, struct matrix x,
                    struct matrix h)
{
    (void)scratch;
    op_norm(queue, x, head->parameter[SCALE].value, head->shape.norm_epsilon, h);
}

static void backward(const struct head *head, struct queue *queue, struct head_scratch *scratch,
                     struct matrix x, struct matrix dh, const struct matrix *gradients)
{
    op_norm_grad(queue, dh, x, head->parameter[SCALE].value, head->shape.norm_epsilon,
                 head_scratch_rows(scratch, DX, x.rows), OP_STORE, gradients[SCALE]);
}

const struct head_kind head_kind_norm = {
    .name = "norm",
    .parameters = PARAMETERS,
    .parameter = parameters,
    .scratches = SCRATCHES,
    .scratch = scratches,
    .forward = forward,
    .backward = backward,
};
