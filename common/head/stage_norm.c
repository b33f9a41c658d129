/* stage_norm.c: y = norm(x), with a trained copy of the final norm's scale. */
#include "common/head/kind.h"

enum { SCALE };

static void rules(const struct stage *stage, int index, const struct model_config *config,
                  struct head_plan *plan)
{
    (void)stage;
    plan_add_rule(plan, (struct parameter_rule){.name = "scale",
                                                .rows = 1,
                                                .cols = config->hidden,
                                                .role = ROLE_FINAL_NORM,
                                                .trained = true,
                                                .copy = FILL_MODEL,
                                                .random = FILL_ONES,
                                                .stage = index,
                                                .slot = SCALE});
}

static void forward(struct queue *queue, const struct stage_run *runs, int count)
{
    for (int r = 0; r < count; r++)
        op_norm(queue, runs[r].x, stage_value(&runs[r], SCALE), runs[r].run->head->config.norm_epsilon,
                runs[r].y);
}

static void backward(struct queue *queue, const struct stage_run *runs, int count)
{
    for (int r = 0; r < count; r++)
        op_norm_grad(queue, runs[r].dy, runs[r].x, stage_value(&runs[r], SCALE),
                     runs[r].run->head->config.norm_epsilon, runs[r].dx, OP_STORE,
                     stage_gradient(&runs[r], SCALE));
}

const struct stage_kind stage_norm = {.rules = rules, .forward = forward, .backward = backward};
