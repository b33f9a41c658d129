/* stage_affine.c: y = x A + b, with states x as rows. It is the first stage of its kinds: x is a tap's, and has no
 * gradient. */
#include "common/head/kind.h"

enum { A, B };

static void rules(const struct stage *stage, int index, const struct model_config *config,
                  struct head_plan *plan)
{
    const struct parameter_rule a = {.name = "a",
                                     .rows = config->hidden,
                                     .cols = config->hidden,
                                     .trained = true,
                                     .copy = FILL_IDENTITY,
                                     .random = FILL_NORMAL,
                                     .stage = index,
                                     .slot = A};
    const struct parameter_rule b = {
        .name = "b", .rows = 1, .cols = config->hidden, .trained = true, .stage = index, .slot = B};
    (void)stage;
    plan_add_rule(plan, a);
    plan_add_rule(plan, b);
}

static void forward(struct queue *queue, const struct stage_run *runs, int count)
{
    struct gemm products[HEADS_TOGETHER] = {0};
    for (int r = 0; r < count; r++)
        products[r] =
            (struct gemm){.a = runs[r].x, .b = stage_value(&runs[r], A), .c = runs[r].y, .mode = OP_STORE};
    op_gemm_group(queue, products, count);
    for (int r = 0; r < count; r++)
        op_add_bias(queue, stage_value(&runs[r], B), runs[r].y);
}

static void backward(struct queue *queue, const struct stage_run *runs, int count)
{
    struct gemm products[HEADS_TOGETHER] = {0};
    for (int r = 0; r < count; r++)
        products[r] = (struct gemm){.a = runs[r].x,
                                    .transpose_a = true,
                                    .b = runs[r].dy,
                                    .c = stage_gradient(&runs[r], A),
                                    .mode = OP_ADD};
    op_gemm_group(queue, products, count);
    for (int r = 0; r < count; r++)
        op_sum_rows(queue, runs[r].dy, stage_gradient(&runs[r], B));
}

const struct stage_kind stage_affine = {.rules = rules, .forward = forward, .backward = backward};
