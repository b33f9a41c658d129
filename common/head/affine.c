/* affine.c: the head norm(x A + b), with states x as rows. */
#include "common/head/kind.h"

enum { A, B, SCALE, PARAMETERS };
enum {
    Y, /* x A + b */
    DY,
    SCRATCHES
};

static const struct parameter_rule parameters[PARAMETERS] = {
    [A] = {"a", EXTENT_HIDDEN, EXTENT_HIDDEN, true, FILL_IDENTITY, FILL_NORMAL, ROLE_COUNT},
    [B] = {"b", EXTENT_ONE, EXTENT_HIDDEN, true, FILL_ZEROS, FILL_ZEROS, ROLE_COUNT},
    [SCALE] = {"scale", EXTENT_ONE, EXTENT_HIDDEN, true, FILL_MODEL, FILL_ONES, ROLE_FINAL_NORM},
};

static const struct scratch_rule scratches[SCRATCHES] = {
    [Y] = {EXTENT_HIDDEN, false},
    [DY] = {EXTENT_HIDDEN, true},
};

static void forward(const struct head *head, struct queue *queue, struct head_scratch *scratch, struct matrix x,
                    struct matrix h)
{
    struct matrix y = head_scratch_rows(scratch, Y, x.rows);
    op_gemm(queue, x, false, head->parameter[A].value, false, y, OP_STORE);
    op_add_bias(queue, head->parameter[B].value, y);
    op_norm(queue, y, head->parameter[SCALE].value, head->shape.norm_epsilon, h);
}

static void backward(const struct head *head, struct queue *queue, struct head_scratch *scratch,
                     struct matrix x, struct matrix dh, const struct matrix *gradients)
{
    struct matrix y = head_scratch_rows(scratch, Y, x.rows);
    struct matrix dy = head_scratch_rows(scratch, DY, x.rows);
    op_norm_grad(queue, dh, y, head->parameter[SCALE].value, head->shape.norm_epsilon, dy, OP_STORE,
                 gradients[SCALE]);
    op_gemm(queue, x, true, dy, false, gradients[A], OP_ADD);
    op_sum_rows(queue, dy, gradients[B]);
}

const struct head_kind head_kind_affine = {
    .name = "affine",
    .has_ridge = true,
    .parameters = PARAMETERS,
    .parameter = parameters,
    .scratches = SCRATCHES,
    .scratch = scratches,
    .forward = forward,
    .backward = backward,
};
