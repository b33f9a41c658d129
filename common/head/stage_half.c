/* stage_half.c: a half of a layer (common/model/block.h) whose weights are a head's parameters:
 *
 *     y = x + out(mix(in(norm(x))))
 *
 * A parameter's slot is its role. A bias is added where the model has one. */
#include <stdio.h>
#include <string.h>

#include "common/head/kind.h"
#include "common/model/block.h"

/* The working memory of a half. */
enum {
    NORMED, /* norm(x) */
    PROJECTED, /* what `in` makes of it: gate | up */
    MIXED, /* what `out` multiplies */
    DMIXED,
    DPROJECTED
};

static const struct block_half *half_of(const struct model_config *config, const struct stage *stage)
{
    return &block_of(config)->half[stage->half];
}

static const struct model_config *config_of(const struct stage_run *run)
{
    return &run->run->head->config;
}

/* ---- parameters and working memory ---- */

/* The parameter for a role of the stage's layer; none where the model has no such tensor. `last`, fills: of the rule. */
static void add_rule(struct head_plan *plan, const struct stage *stage, int index,
                     const struct model_config *config, enum tensor_role role, struct parameter_rule rule)
{
    int64_t shape[2];
    const int dims = role_shape(config, role, shape);
    const char *name = dims > 0 ? role_name(role) : "";
    if (dims == 0)
        return;
    if (role != half_of(config, stage)->norm && !strncmp(name, "mlp_", 4))
        name += 4; /* "gate", "down_bias" */
    snprintf(rule.name, sizeof rule.name, "%s", name);
    rule.rows = dims == 1 ? 1 : shape[0];
    rule.cols = dims == 1 ? shape[0] : shape[1];
    rule.role = role;
    rule.slot = (int)role;
    rule.layer = stage->layer;
    rule.stage = index;
    plan_add_rule(plan, rule);
}

static void rules(const struct stage *stage, int index, const struct model_config *config,
                  struct head_plan *plan)
{
    const struct block_half *half = half_of(config, stage);
    const int products = half_products(half);
    const struct parameter_rule in = {.trained = true, .copy = FILL_MODEL, .random = FILL_NORMAL},
                                out = {.trained = true, .copy = FILL_MODEL},
                                norm = {.copy = FILL_MODEL, .random = FILL_MODEL, .last = true},
                                bias = {.trained = true, .copy = FILL_MODEL, .last = true};
    for (int i = 0; i < products; i++)
        add_rule(plan, stage, index, config, half->in[i].weight, in);
    add_rule(plan, stage, index, config, half->out.weight, out);
    add_rule(plan, stage, index, config, half->norm, norm);
    for (int i = 0; i < products; i++)
        add_rule(plan, stage, index, config, half->in[i].bias, bias);
    add_rule(plan, stage, index, config, half->out.bias, bias);
    const struct scratch_rule scratches[] = {
        [NORMED] = {config->hidden, false},
        [PROJECTED] = {half_projected(config, half), false},
        [MIXED] = {half_mixed(config, half), false},
        [DMIXED] = {half_mixed(config, half), true},
        [DPROJECTED] = {half_projected(config, half), true},
    };
    for (size_t i = 0; i < sizeof scratches / sizeof scratches[0]; i++)
        plan_add_scratch(plan, scratches[i]);
}

/* ---- forward ---- */

/* The columns of product `index` of `in` in a matrix of all of them. */
static struct matrix columns_of(const struct stage_run *run, const struct block_half *half, struct matrix all,
                                int index)
{
    const struct model_config *config = config_of(run);
    return matrix_cols(all, half_column(config, half, index), role_rows(config, half->in[index].weight));
}

static void add_bias(struct queue *queue, const struct stage_run *run, enum tensor_role role, struct matrix y)
{
    const struct matrix bias = stage_value(run, (int)role);
    if (!matrix_is_none(bias))
        op_add_bias(queue, bias, y);
}

static void mix(struct queue *queue, const struct stage_run *run, const struct block_half *half)
{
    switch (half->mix) {
    case MIX_SWIGLU: op_swiglu(queue, stage_scratch(run, PROJECTED), stage_scratch(run, MIXED)); break;
    case MIX_ATTENTION: break; /* of no kind */
    }
}

static void forward(struct queue *queue, const struct stage_run *runs, int count)
{
    const struct block_half *half = half_of(config_of(&runs[0]), runs[0].stage);
    struct gemm in[BLOCK_STACKED * HEADS_TOGETHER] = {0}, out[HEADS_TOGETHER] = {0};
    const int products = half_products(half);
    for (int r = 0; r < count; r++) {
        const struct matrix normed = stage_scratch(&runs[r], NORMED);
        op_norm(queue, runs[r].x, stage_value(&runs[r], (int)half->norm), config_of(&runs[r])->norm_epsilon,
                normed);
        for (int i = 0; i < products; i++)
            in[r * products + i] =
                (struct gemm){.a = normed,
                              .b = stage_value(&runs[r], (int)half->in[i].weight),
                              .transpose_b = true,
                              .c = columns_of(&runs[r], half, stage_scratch(&runs[r], PROJECTED), i),
                              .mode = OP_STORE};
    }
    op_gemm_group(queue, in, count * products);
    for (int r = 0; r < count; r++) {
        for (int i = 0; i < products; i++)
            add_bias(queue, &runs[r], half->in[i].bias, in[r * products + i].c);
        mix(queue, &runs[r], half);
        op_copy(queue, runs[r].x, runs[r].y);
        out[r] = (struct gemm){.a = stage_scratch(&runs[r], MIXED),
                               .b = stage_value(&runs[r], (int)half->out.weight),
                               .transpose_b = true,
                               .c = runs[r].y,
                               .mode = OP_ADD};
    }
    op_gemm_group(queue, out, count);
    for (int r = 0; r < count; r++)
        add_bias(queue, &runs[r], half->out.bias, runs[r].y);
}

/* ---- backward ---- */

static void add_bias_gradient(struct queue *queue, const struct stage_run *run, enum tensor_role role,
                              struct matrix dy)
{
    const struct matrix gradient = stage_gradient(run, (int)role);
    if (!matrix_is_none(gradient))
        op_sum_rows(queue, dy, gradient);
}

/* Of the product `out`: its weight's gradient, and that of what it multiplied. */
static void out_backward(struct queue *queue, const struct stage_run *runs, int count,
                         const struct block_half *half)
{
    struct gemm weight[HEADS_TOGETHER] = {0}, input[HEADS_TOGETHER] = {0};
    for (int r = 0; r < count; r++) {
        weight[r] = (struct gemm){.a = runs[r].dy,
                                  .transpose_a = true,
                                  .b = stage_scratch(&runs[r], MIXED),
                                  .c = stage_gradient(&runs[r], (int)half->out.weight),
                                  .mode = OP_ADD};
        input[r] = (struct gemm){.a = runs[r].dy,
                                 .b = stage_value(&runs[r], (int)half->out.weight),
                                 .c = stage_scratch(&runs[r], DMIXED),
                                 .mode = OP_STORE};
    }
    op_gemm_group(queue, weight, count);
    op_gemm_group(queue, input, count);
}

static void mix_backward(struct queue *queue, const struct stage_run *run, const struct block_half *half)
{
    switch (half->mix) {
    case MIX_SWIGLU:
        op_swiglu_grad(queue, stage_scratch(run, DMIXED), stage_scratch(run, PROJECTED),
                       stage_scratch(run, DPROJECTED));
        break;
    case MIX_ATTENTION: break; /* of no kind */
    }
}

static void backward(struct queue *queue, const struct stage_run *runs, int count)
{
    const struct block_half *half = half_of(config_of(&runs[0]), runs[0].stage);
    struct gemm in[BLOCK_STACKED * HEADS_TOGETHER] = {0};
    const int products = half_products(half);
    out_backward(queue, runs, count, half);
    for (int r = 0; r < count; r++) {
        mix_backward(queue, &runs[r], half);
        for (int i = 0; i < products; i++)
            in[r * products + i] =
                (struct gemm){.a = columns_of(&runs[r], half, stage_scratch(&runs[r], DPROJECTED), i),
                              .transpose_a = true,
                              .b = stage_scratch(&runs[r], NORMED),
                              .c = stage_gradient(&runs[r], (int)half->in[i].weight),
                              .mode = OP_ADD};
    }
    op_gemm_group(queue, in, count * products);
    for (int r = 0; r < count; r++) {
        for (int i = 0; i < products; i++)
            add_bias_gradient(queue, &runs[r], half->in[i].bias, in[r * products + i].a);
        add_bias_gradient(queue, &runs[r], half->out.bias, runs[r].dy);
    }
}

const struct stage_kind stage_half = {.rules = rules, .forward = forward, .backward = backward};
