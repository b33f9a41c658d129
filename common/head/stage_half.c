/* stage_half.c: a half of a layer (common/model/block.h) whose weights are a head's parameters:
 *
 *     y = x + out(mix(in(norm(x))))
 *
 * A parameter's slot is its role. A bias, or a norm of a result of `in`, is there where the model has one. */
#include <stdio.h>
#include <string.h>

#include "common/head/kind.h"
#include "common/model/block.h"

/* The working memory of a half. */
enum {
    NORMED, /* norm(x) */
    PROJECTED, /* what `in` makes of it: q | k | v, gate | up. Positions are put in there, if no norm comes before */
    ATTENDED, /* q | k with norms and positions, where there are norms */
    MIXED /* what `out` multiplies */
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

/* Whether results of `in` have norms. */
static bool has_norms(const struct model_config *config, const struct block_half *half)
{
    for (int i = 0; i < half->rotated; i++) {
        if (role_rows(config, half->in_norm[i]) > 0)
            return true;
    }
    return false;
}

/* Whether the gradient of norm(x) is wanted: for x, or for the norm's scale. */
static bool reaches_norm(const struct stage *stage)
{
    return !stage->first || !(stage->frozen || stage->norm_frozen);
}

static void name_parameter(const struct stage *stage, bool norm, enum tensor_role role,
                           char name[HEAD_NAME_SIZE])
{
    const char *own = role_name(role);
    if (stage->names == NAMES_LAYER)
        snprintf(name, HEAD_NAME_SIZE, "%d.%s", stage->layer, own);
    else
        snprintf(name, HEAD_NAME_SIZE, "%s",
                 stage->names == NAMES_SHORT && !norm && !strncmp(own, "mlp_", 4) ? own + 4 : own);
}

/* The rules of a half's parameters, as they are added. */
struct adding {
    const struct stage *stage;
    int index;
    const struct model_config *config;
    struct head_plan *plan;
};

/* The parameter for a role; none where the model has no such tensor. */
static void add_rule(const struct adding *adding, enum tensor_role role, struct parameter_rule rule)
{
    const struct stage *stage = adding->stage;
    int64_t shape[2];
    const int dims = role_shape(adding->config, role, shape);
    if (dims == 0)
        return;
    name_parameter(stage, role == half_of(adding->config, stage)->norm, role, rule.name);
    rule.rows = dims == 1 ? 1 : shape[0];
    rule.cols = dims == 1 ? shape[0] : shape[1];
    rule.role = role;
    rule.slot = (int)role;
    rule.layer = stage->layer;
    rule.stage = adding->index;
    rule.trained = rule.trained && !stage->frozen;
    if (stage->frozen)
        rule.copy = rule.random = FILL_MODEL;
    plan_add_rule(adding->plan, rule);
}

static void rules(const struct stage *stage, int index, const struct model_config *config,
                  struct head_plan *plan)
{
    const struct adding adding = {stage, index, config, plan};
    const struct block_half *half = half_of(config, stage);
    const int products = half_products(half);
    const enum fill from = stage->idle ? FILL_ZEROS : FILL_MODEL;
    const bool norm_trained = !stage->norm_frozen;
    const struct parameter_rule in = {.trained = true, .copy = FILL_MODEL, .random = FILL_NORMAL},
                                out = {.trained = true, .copy = from},
                                norm = {.trained = norm_trained,
                                        .copy = FILL_MODEL,
                                        .random = norm_trained ? FILL_ONES : FILL_MODEL,
                                        .last = true},
                                in_bias = {.trained = true, .copy = FILL_MODEL, .last = true},
                                out_bias = {.trained = true, .copy = from, .last = true};
    for (int i = 0; i < products; i++)
        add_rule(&adding, half->in[i].weight, in);
    add_rule(&adding, half->out.weight, out);
    add_rule(&adding, half->norm, norm);
    for (int i = 0; i < products; i++)
        add_rule(&adding, half->in[i].bias, in_bias);
    add_rule(&adding, half->out.bias, out_bias);
    for (int i = 0; i < half->rotated; i++)
        add_rule(&adding, half->in_norm[i], norm);
    const int64_t attended = has_norms(config, half) ? half_column(config, half, half->rotated) : 0;
    plan_add_scratch(plan, config->hidden); /* in the order of their list above */
    plan_add_scratch(plan, half_projected(config, half));
    plan_add_scratch(plan, attended);
    plan_add_scratch(plan, half_mixed(config, half));
    plan_need_temporary(plan, TEMPORARY_MIXED, half_mixed(config, half));
    plan_need_temporary(plan, TEMPORARY_PROJECTED, half_projected(config, half));
    plan_need_temporary(plan, TEMPORARY_ATTENDED, attended);
    if (half->mix == MIX_ATTENTION)
        plan_need_temporary(plan, TEMPORARY_ZEROS, role_rows(config, half->in[1].weight));
    if (reaches_norm(stage))
        plan_need_temporary(plan, TEMPORARY_NORMED, config->hidden);
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

/* Of the result `index` of `in`: where attention reads it; all that have positions. Or, in the gradients' working
 * memory, the gradients of those. */
static struct matrix attended(const struct stage_run *run, const struct block_half *half,
                              struct matrix projected, struct matrix with_norms, int index)
{
    const bool apart = index < half->rotated && has_norms(config_of(run), half);
    return columns_of(run, half, apart ? with_norms : projected, index);
}

static struct matrix rotated(const struct stage_run *run, const struct block_half *half,
                             struct matrix projected, struct matrix with_norms)
{
    return has_norms(config_of(run), half)
               ? with_norms
               : matrix_cols(projected, 0, half_column(config_of(run), half, half->rotated));
}

static struct matrix with_norms(const struct stage_run *run, const struct block_half *half)
{
    return has_norms(config_of(run), half) ? stage_scratch(run, ATTENDED) : matrix_none();
}

static void attend(struct queue *queue, const struct stage_run *run, const struct block_half *half)
{
    const struct matrix projected = stage_scratch(run, PROJECTED), normed = with_norms(run, half);
    const struct span *spans = stage_spans(run);
    const int count = run->run->span_count;
    for (int i = 0; i < half->rotated && !matrix_is_none(normed); i++)
        op_norm(queue, columns_of(run, half, projected, i), stage_value(run, (int)half->in_norm[i]),
                config_of(run)->norm_epsilon, columns_of(run, half, normed, i));
    attend_rotate(stage_attend(run), queue, spans, count, rotated(run, half, projected, normed));
    attend_forward(stage_attend(run), queue, run->stage->layer - 1, spans, count,
                   attended(run, half, projected, normed, 0), attended(run, half, projected, normed, 1),
                   attended(run, half, projected, normed, 2), stage_scratch(run, MIXED));
}

static void mix(struct queue *queue, const struct stage_run *run, const struct block_half *half)
{
    switch (half->mix) {
    case MIX_SWIGLU: op_swiglu(queue, stage_scratch(run, PROJECTED), stage_scratch(run, MIXED)); break;
    case MIX_ATTENTION: attend(queue, run, half); break;
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

static struct matrix dmixed_of(const struct stage_run *run, const struct block_half *half)
{
    return stage_temporary(run, TEMPORARY_MIXED, half_mixed(config_of(run), half));
}

static struct matrix dprojected_of(const struct stage_run *run, const struct block_half *half)
{
    return stage_temporary(run, TEMPORARY_PROJECTED, half_projected(config_of(run), half));
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
                                 .c = dmixed_of(&runs[r], half),
                                 .mode = OP_STORE};
    }
    if (!runs[0].stage->frozen)
        op_gemm_group(queue, weight, count);
    op_gemm_group(queue, input, count);
}

/* From the gradient of MIXED to that of PROJECTED, through attention, positions and norms. */
static void attend_back(struct queue *queue, const struct stage_run *run, const struct block_half *half)
{
    const struct model_config *config = config_of(run);
    const struct matrix projected = stage_scratch(run, PROJECTED), normed = with_norms(run, half);
    const struct matrix dprojected = dprojected_of(run, half);
    const struct matrix dnormed =
        matrix_is_none(normed) ? normed : stage_temporary(run, TEMPORARY_ATTENDED, normed.cols);
    struct matrix value[BLOCK_STACKED], gradient[BLOCK_STACKED];
    for (int i = 0; i < BLOCK_STACKED; i++) {
        value[i] = attended(run, half, projected, normed, i);
        gradient[i] = attended(run, half, dprojected, dnormed, i);
        if (i > 0)
            op_copy(queue, stage_temporary(run, TEMPORARY_ZEROS, gradient[i].cols), gradient[i]);
    }
    attend_backward(stage_attend(run), queue, run->stage->layer - 1, run->run->spans, run->run->span_count,
                    value[0], value[1], value[2], stage_scratch(run, MIXED), dmixed_of(run, half), gradient[0],
                    gradient[1], gradient[2]);
    attend_rotate_back(stage_attend(run), queue, run->run->spans, run->run->span_count,
                       rotated(run, half, dprojected, dnormed));
    for (int i = 0; i < half->rotated && !matrix_is_none(normed); i++)
        op_norm_grad(queue, columns_of(run, half, dnormed, i), columns_of(run, half, projected, i),
                     stage_value(run, (int)half->in_norm[i]), config->norm_epsilon,
                     columns_of(run, half, dprojected, i), OP_STORE,
                     stage_gradient(run, (int)half->in_norm[i]));
}

static void mix_backward(struct queue *queue, const struct stage_run *run, const struct block_half *half)
{
    switch (half->mix) {
    case MIX_SWIGLU:
        op_swiglu_grad(queue, dmixed_of(run, half), stage_scratch(run, PROJECTED), dprojected_of(run, half));
        break;
    case MIX_ATTENTION: attend_back(queue, run, half); break;
    }
}

/* The gradients of the weights and biases of `in`, and of the bias of `out`. */
static void in_backward(struct queue *queue, const struct stage_run *runs, int count,
                        const struct block_half *half)
{
    struct gemm in[BLOCK_STACKED * HEADS_TOGETHER] = {0};
    const int products = half_products(half);
    for (int r = 0; r < count; r++) {
        for (int i = 0; i < products; i++)
            in[r * products + i] =
                (struct gemm){.a = columns_of(&runs[r], half, dprojected_of(&runs[r], half), i),
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

/* The gradient of x, which is added to that of y: dx is dy. And of the norm's scale. */
static void norm_backward(struct queue *queue, const struct stage_run *runs, int count,
                          const struct block_half *half)
{
    struct gemm in[HEADS_TOGETHER] = {0};
    for (int i = 0; i < half_products(half); i++) { /* each adds to what the ones before have stored */
        for (int r = 0; r < count; r++)
            in[r] = (struct gemm){.a = columns_of(&runs[r], half, dprojected_of(&runs[r], half), i),
                                  .b = stage_value(&runs[r], (int)half->in[i].weight),
                                  .c = stage_temporary(&runs[r], TEMPORARY_NORMED, runs[r].x.cols),
                                  .mode = i == 0 ? OP_STORE : OP_ADD};
        op_gemm_group(queue, in, count);
    }
    for (int r = 0; r < count; r++)
        op_norm_grad(queue, in[r].c, runs[r].x, stage_value(&runs[r], (int)half->norm),
                     config_of(&runs[r])->norm_epsilon, runs[r].dx, OP_ADD,
                     stage_gradient(&runs[r], (int)half->norm));
}

static void backward(struct queue *queue, const struct stage_run *runs, int count)
{
    const struct block_half *half = half_of(config_of(&runs[0]), runs[0].stage);
    out_backward(queue, runs, count, half);
    for (int r = 0; r < count; r++)
        mix_backward(queue, &runs[r], half);
    if (!runs[0].stage->frozen)
        in_backward(queue, runs, count, half);
    if (reaches_norm(runs[0].stage))
        norm_backward(queue, runs, count, half);
}

const struct stage_kind stage_half = {.rules = rules, .forward = forward, .backward = backward};
