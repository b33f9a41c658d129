/* mlp.c: the head norm(x + MLP(frozen norm of layer L(x))) at tap L.mid (EE-LLM's "MLP" exit): the MLP half of
 * the tap's layer, then the final norm. Copied from the model it computes what `norm` computes at tap L. */
#include "common/head/half.h"

static const struct parameter_rule rules[] = {
    {"gate", FORM_ROLE, ROLE_MLP_GATE, true, FILL_MODEL, FILL_NORMAL},
    {"up", FORM_ROLE, ROLE_MLP_UP, true, FILL_MODEL, FILL_NORMAL},
    {"down", FORM_ROLE, ROLE_MLP_DOWN, true, FILL_MODEL, FILL_ZEROS},
    {"scale", FORM_ROLE, ROLE_FINAL_NORM, true, FILL_MODEL, FILL_ONES},
    {"mlp_norm", FORM_ROLE, ROLE_MLP_NORM, false, FILL_MODEL, FILL_MODEL},
    {"gate_bias", FORM_ROLE, ROLE_GATE_BIAS, true, FILL_MODEL, FILL_ZEROS},
    {"up_bias", FORM_ROLE, ROLE_UP_BIAS, true, FILL_MODEL, FILL_ZEROS},
    {"down_bias", FORM_ROLE, ROLE_DOWN_BIAS, true, FILL_MODEL, FILL_ZEROS},
};

static const struct scratch_rule scratches[] = {HALF_SCRATCH(HALF_MLP)};

static void forward(struct queue *queue, const struct head_run *runs, int count)
{
    half_forward(queue, runs, count, HALF_MLP, 0);
    for (int r = 0; r < count; r++) {
        const struct head *head = runs[r].head;
        op_norm(queue, head_run_scratch(&runs[r], HALF_Y), head_value(head, ROLE_FINAL_NORM),
                head->config.norm_epsilon, runs[r].h);
    }
}

static void backward(struct queue *queue, const struct head_run *runs, int count)
{
    for (int r = 0; r < count; r++) {
        const struct head_run *run = &runs[r];
        op_norm_grad(queue, run->dh, head_run_scratch(run, HALF_Y), head_value(run->head, ROLE_FINAL_NORM),
                     run->head->config.norm_epsilon, head_run_scratch(run, HALF_DY), OP_STORE,
                     head_run_gradient(run, ROLE_FINAL_NORM));
    }
    half_backward(queue, runs, count, HALF_MLP, 0);
}

const struct head_kind head_kind_mlp = {
    .name = "mlp",
    .by_row = true,
    .wants_mid = true,
    .rules = sizeof rules / sizeof rules[0],
    .rule = rules,
    .scratches = sizeof scratches / sizeof scratches[0],
    .scratch = scratches,
    .forward = forward,
    .backward = backward,
};
