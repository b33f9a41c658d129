/* mlp.c: the head norm(x + MLP(frozen norm of layer L(x))) at tap L.mid (EE-LLM's "MLP" exit).
 * Copied from the model it computes what `norm` computes at tap L. */
#include "common/head/kind.h"

enum { GATE, UP, DOWN, SCALE, MLP_NORM, GATE_BIAS, UP_BIAS, DOWN_BIAS, PARAMETERS };
enum {
    NORMED, /* frozen norm of x */
    GATE_UP, /* [gate, up] of it */
    ACTIVATION, /* silu(gate) * up */
    SUM, /* x + MLP */
    DSUM,
    DACTIVATION,
    DGATE_UP,
    SCRATCHES
};

static const struct parameter_rule parameters[PARAMETERS] = {
    [GATE] = {"gate", EXTENT_INTERMEDIATE, EXTENT_HIDDEN, true, FILL_MODEL, FILL_NORMAL, ROLE_MLP_GATE},
    [UP] = {"up", EXTENT_INTERMEDIATE, EXTENT_HIDDEN, true, FILL_MODEL, FILL_NORMAL, ROLE_MLP_UP},
    [DOWN] = {"down", EXTENT_HIDDEN, EXTENT_INTERMEDIATE, true, FILL_MODEL, FILL_ZEROS, ROLE_MLP_DOWN},
    [SCALE] = {"scale", EXTENT_ONE, EXTENT_HIDDEN, true, FILL_MODEL, FILL_ONES, ROLE_FINAL_NORM},
    [MLP_NORM] = {"mlp_norm", EXTENT_ONE, EXTENT_HIDDEN, false, FILL_MODEL, FILL_MODEL, ROLE_MLP_NORM},
    [GATE_BIAS] = {"gate_bias", EXTENT_ONE, EXTENT_INTERMEDIATE, true, FILL_MODEL, FILL_ZEROS, ROLE_GATE_BIAS},
    [UP_BIAS] = {"up_bias", EXTENT_ONE, EXTENT_INTERMEDIATE, true, FILL_MODEL, FILL_ZEROS, ROLE_UP_BIAS},
    [DOWN_BIAS] = {"down_bias", EXTENT_ONE, EXTENT_HIDDEN, true, FILL_MODEL, FILL_ZEROS, ROLE_DOWN_BIAS},
};

static const struct scratch_rule scratches[SCRATCHES] = {
    [NORMED] = {EXTENT_HIDDEN, false},
    [GATE_UP] = {EXTENT_GATE_UP, false},
    [ACTIVATION] = {EXTENT_INTERMEDIATE, false},
    [SUM] = {EXTENT_HIDDEN, false},
    [DSUM] = {EXTENT_HIDDEN, true},
    [DACTIVATION] = {EXTENT_INTERMEDIATE, true},
    [DGATE_UP] = {EXTENT_GATE_UP, true},
};

static void forward(const struct head *head, struct queue *queue, struct head_scratch *scratch, struct matrix x,
                    struct matrix h)
{
    const struct head_parameter *parameter = head->parameter;
    const int64_t width = head->shape.intermediate;
    struct matrix normed = head_scratch_rows(scratch, NORMED, x.rows);
    struct matrix gate_up = head_scratch_rows(scratch, GATE_UP, x.rows);
    struct matrix activation = head_scratch_rows(scratch, ACTIVATION, x.rows);
    struct matrix sum = head_scratch_rows(scratch, SUM, x.rows);

    op_norm(queue, x, parameter[MLP_NORM].value, head->shape.norm_epsilon, normed);
    op_gemm(queue, normed, false, parameter[GATE].value, true, matrix_cols(gate_up, 0, width), OP_STORE);
    op_gemm(queue, normed, false, parameter[UP].value, true, matrix_cols(gate_up, width, width), OP_STORE);
    if (head->shape.mlp_bias) {
        op_add_bias(queue, parameter[GATE_BIAS].value, matrix_cols(gate_up, 0, width));
        op_add_bias(queue, parameter[UP_BIAS].value, matrix_cols(gate_up, width, width));
    }
    op_swiglu(queue, gate_up, activation);
    op_copy(queue, x, sum);
    op_gemm(queue, activation, false, parameter[DOWN].value, true, sum, OP_ADD);
    if (head->shape.mlp_bias)
        op_add_bias(queue, parameter[DOWN_BIAS].value, sum);
    op_norm(queue, sum, parameter[SCALE].value, head->shape.norm_epsilon, h);
}

static void backward(const struct head *head, struct queue *queue, struct head_scratch *scratch,
                     struct matrix x, struct matrix dh, const struct matrix *gradients)
{
    const struct head_parameter *parameter = head->parameter;
    const int64_t width = head->shape.intermediate;
    struct matrix normed = head_scratch_rows(scratch, NORMED, x.rows);
    struct matrix gate_up = head_scratch_rows(scratch, GATE_UP, x.rows);
    struct matrix activation = head_scratch_rows(scratch, ACTIVATION, x.rows);
    struct matrix sum = head_scratch_rows(scratch, SUM, x.rows);
    struct matrix dsum = head_scratch_rows(scratch, DSUM, x.rows);
    struct matrix dactivation = head_scratch_rows(scratch, DACTIVATION, x.rows);
    struct matrix dgate_up = head_scratch_rows(scratch, DGATE_UP, x.rows);

    op_norm_grad(queue, dh, sum, parameter[SCALE].value, head->shape.norm_epsilon, dsum, OP_STORE,
                 gradients[SCALE]);
    op_gemm(queue, dsum, true, activation, false, gradients[DOWN], OP_ADD);
    op_gemm(queue, dsum, false, parameter[DOWN].value, false, dactivation, OP_STORE);
    op_swiglu_grad(queue, dactivation, gate_up, dgate_up);
    op_gemm(queue, matrix_cols(dgate_up, 0, width), true, normed, false, gradients[GATE], OP_ADD);
    op_gemm(queue, matrix_cols(dgate_up, width, width), true, normed, false, gradients[UP], OP_ADD);
    if (head->shape.mlp_bias) {
        op_sum_rows(queue, matrix_cols(dgate_up, 0, width), gradients[GATE_BIAS]);
        op_sum_rows(queue, matrix_cols(dgate_up, width, width), gradients[UP_BIAS]);
        op_sum_rows(queue, dsum, gradients[DOWN_BIAS]);
    }
}

const struct head_kind head_kind_mlp = {
    .name = "mlp",
    .wants_mid = true,
    .parameters = PARAMETERS,
    .parameter = parameters,
    .scratches = SCRATCHES,
    .scratch = scratches,
    .forward = forward,
    .backward = backward,
};
