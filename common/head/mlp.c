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

static const struct parameter_rule rules[PARAMETERS] = {
    [GATE] = {"gate", FORM_ROLE, ROLE_MLP_GATE, true, FILL_MODEL, FILL_NORMAL},
    [UP] = {"up", FORM_ROLE, ROLE_MLP_UP, true, FILL_MODEL, FILL_NORMAL},
    [DOWN] = {"down", FORM_ROLE, ROLE_MLP_DOWN, true, FILL_MODEL, FILL_ZEROS},
    [SCALE] = {"scale", FORM_ROLE, ROLE_FINAL_NORM, true, FILL_MODEL, FILL_ONES},
    [MLP_NORM] = {"mlp_norm", FORM_ROLE, ROLE_MLP_NORM, false, FILL_MODEL, FILL_MODEL},
    [GATE_BIAS] = {"gate_bias", FORM_ROLE, ROLE_GATE_BIAS, true, FILL_MODEL, FILL_ZEROS},
    [UP_BIAS] = {"up_bias", FORM_ROLE, ROLE_UP_BIAS, true, FILL_MODEL, FILL_ZEROS},
    [DOWN_BIAS] = {"down_bias", FORM_ROLE, ROLE_DOWN_BIAS, true, FILL_MODEL, FILL_ZEROS},
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

/* The columns of the gate (0) and of up (1) in a matrix of both. */
static struct matrix half(const struct head_run *run, int place, int which)
{
    const int64_t width = run->head->config.intermediate;
    return matrix_cols(head_run_scratch(run, place), which * width, width);
}

static void forward(struct queue *queue, const struct head_run *runs, int count)
{
    struct gemm wide[2 * HEADS_TOGETHER] = {0}, down[HEADS_TOGETHER] = {0};
    for (int r = 0; r < count; r++) {
        const struct head_run *run = &runs[r];
        const struct head_parameter *parameter = run->head->parameter;
        const struct matrix normed = head_run_scratch(run, NORMED);
        op_norm(queue, run->x, parameter[MLP_NORM].value, run->head->config.norm_epsilon, normed);
        for (int i = 0; i < 2; i++)
            wide[2 * r + i] = (struct gemm){.a = normed,
                                            .b = parameter[i == 0 ? GATE : UP].value,
                                            .transpose_b = true,
                                            .c = half(run, GATE_UP, i),
                                            .mode = OP_STORE};
    }
    op_gemm_group(queue, wide, 2 * count);
    for (int r = 0; r < count; r++) {
        const struct head_run *run = &runs[r];
        const struct head_parameter *parameter = run->head->parameter;
        const struct matrix activation = head_run_scratch(run, ACTIVATION), sum = head_run_scratch(run, SUM);
        if (run->head->config.mlp_bias) {
            op_add_bias(queue, parameter[GATE_BIAS].value, half(run, GATE_UP, 0));
            op_add_bias(queue, parameter[UP_BIAS].value, half(run, GATE_UP, 1));
        }
        op_swiglu(queue, head_run_scratch(run, GATE_UP), activation);
        op_copy(queue, run->x, sum);
        down[r] = (struct gemm){
            .a = activation, .b = parameter[DOWN].value, .transpose_b = true, .c = sum, .mode = OP_ADD};
    }
    op_gemm_group(queue, down, count);
    for (int r = 0; r < count; r++) {
        const struct head *head = runs[r].head;
        if (head->config.mlp_bias)
            op_add_bias(queue, head->parameter[DOWN_BIAS].value, down[r].c);
        op_norm(queue, down[r].c, head->parameter[SCALE].value, head->config.norm_epsilon, runs[r].h);
    }
}

/* Of the down product: its weight's gradient, and that of what it multiplied. */
static void backward_down(struct queue *queue, const struct head_run *runs, int count)
{
    struct gemm weight[HEADS_TOGETHER] = {0}, input[HEADS_TOGETHER] = {0};
    for (int r = 0; r < count; r++) {
        const struct head_run *run = &runs[r];
        const struct matrix dsum = head_run_scratch(run, DSUM);
        op_norm_grad(queue, run->dh, head_run_scratch(run, SUM), run->head->parameter[SCALE].value,
                     run->head->config.norm_epsilon, dsum, OP_STORE, run->gradients[SCALE]);
        weight[r] = (struct gemm){.a = dsum,
                                  .transpose_a = true,
                                  .b = head_run_scratch(run, ACTIVATION),
                                  .c = run->gradients[DOWN],
                                  .mode = OP_ADD};
        input[r] = (struct gemm){.a = dsum,
                                 .b = run->head->parameter[DOWN].value,
                                 .c = head_run_scratch(run, DACTIVATION),
                                 .mode = OP_STORE};
    }
    op_gemm_group(queue, weight, count);
    op_gemm_group(queue, input, count);
}

static void backward(struct queue *queue, const struct head_run *runs, int count)
{
    struct gemm wide[2 * HEADS_TOGETHER] = {0};
    backward_down(queue, runs, count);
    for (int r = 0; r < count; r++) {
        const struct head_run *run = &runs[r];
        op_swiglu_grad(queue, head_run_scratch(run, DACTIVATION), head_run_scratch(run, GATE_UP),
                       head_run_scratch(run, DGATE_UP));
        for (int i = 0; i < 2; i++)
            wide[2 * r + i] = (struct gemm){.a = half(run, DGATE_UP, i),
                                            .transpose_a = true,
                                            .b = head_run_scratch(run, NORMED),
                                            .c = run->gradients[i == 0 ? GATE : UP],
                                            .mode = OP_ADD};
    }
    op_gemm_group(queue, wide, 2 * count);
    for (int r = 0; r < count; r++) {
        const struct head_run *run = &runs[r];
        if (run->head->config.mlp_bias) {
            op_sum_rows(queue, half(run, DGATE_UP, 0), run->gradients[GATE_BIAS]);
            op_sum_rows(queue, half(run, DGATE_UP, 1), run->gradients[UP_BIAS]);
            op_sum_rows(queue, head_run_scratch(run, DSUM), run->gradients[DOWN_BIAS]);
        }
    }
}

const struct head_kind head_kind_mlp = {
    .name = "mlp",
    .wants_mid = true,
    .rules = PARAMETERS,
    .rule = rules,
    .scratches = SCRATCHES,
    .scratch = scratches,
    .forward = forward,
    .backward = backward,
};
