/* stage_affine.c: an affine map, with states x as rows:
 *
 *     y = x A + b                 of full rank
 *     y = x + x U V + b           of rank r: U [H, r], V [r, H]
 *
 * It is the first stage of its kinds: x is a tap's, and has no gradient. */
#include "common/head/kind.h"

enum { A, B, U, V };
enum { INNER }; /* of rank r: x U */

static void rules(const struct stage *stage, int index, const struct model_config *config,
                  struct head_plan *plan)
{
    const int64_t hidden = config->hidden, rank = stage->rank;
    const struct parameter_rule
        a = {"a",           hidden, hidden, .trained = true, .copy = FILL_IDENTITY, .random = FILL_NORMAL,
             .stage = index},
        b = {"b", 1, hidden, .trained = true, .stage = index, .slot = B},
        /* Of a copy only U is not zero: the map is the identity, and V has a gradient. */
        u = {"u",
             hidden,
             rank,
             .trained = true,
             .copy = FILL_NORMAL,
             .random = FILL_NORMAL,
             .stage = index,
             .slot = U},
        v = {"v", rank, hidden, .trained = true, .random = FILL_NORMAL, .stage = index, .slot = V};
    if (rank > 0) {
        plan_add_rule(plan, u);
        plan_add_rule(plan, v);
        plan_add_scratch(plan, rank);
        plan_need_temporary(plan, TEMPORARY_INNER, rank);
    } else {
        plan_add_rule(plan, a);
    }
    plan_add_rule(plan, b);
}

/* y = x A. */
static void multiply(struct queue *queue, const struct stage_run *runs, int count)
{
    struct gemm products[HEADS_TOGETHER] = {0};
    for (int r = 0; r < count; r++)
        products[r] =
            (struct gemm){.a = runs[r].x, .b = stage_value(&runs[r], A), .c = runs[r].y, .mode = OP_STORE};
    op_gemm_group(queue, products, count);
}

/* y = x + x U V. */
static void add_low_rank(struct queue *queue, const struct stage_run *runs, int count)
{
    struct gemm in[HEADS_TOGETHER] = {0}, out[HEADS_TOGETHER] = {0};
    for (int r = 0; r < count; r++) {
        const struct matrix inner = stage_scratch(&runs[r], INNER);
        in[r] = (struct gemm){.a = runs[r].x, .b = stage_value(&runs[r], U), .c = inner, .mode = OP_STORE};
        out[r] = (struct gemm){.a = inner, .b = stage_value(&runs[r], V), .c = runs[r].y, .mode = OP_ADD};
        op_copy(queue, runs[r].x, runs[r].y);
    }
    op_gemm_group(queue, in, count);
    op_gemm_group(queue, out, count);
}

static void forward(struct queue *queue, const struct stage_run *runs, int count)
{
    if (runs[0].stage->rank > 0)
        add_low_rank(queue, runs, count);
    else
        multiply(queue, runs, count);
    for (int r = 0; r < count; r++)
        op_add_bias(queue, stage_value(&runs[r], B), runs[r].y);
}

static void multiply_backward(struct queue *queue, const struct stage_run *runs, int count)
{
    struct gemm products[HEADS_TOGETHER] = {0};
    for (int r = 0; r < count; r++)
        products[r] = (struct gemm){.a = runs[r].x,
                                    .transpose_a = true,
                                    .b = runs[r].dy,
                                    .c = stage_gradient(&runs[r], A),
                                    .mode = OP_ADD};
    op_gemm_group(queue, products, count);
}

static void low_rank_backward(struct queue *queue, const struct stage_run *runs, int count)
{
    struct gemm v[HEADS_TOGETHER] = {0}, inner[HEADS_TOGETHER] = {0}, u[HEADS_TOGETHER] = {0};
    for (int r = 0; r < count; r++) {
        const struct matrix dinner = stage_temporary(&runs[r], TEMPORARY_INNER, runs[r].stage->rank);
        v[r] = (struct gemm){.a = stage_scratch(&runs[r], INNER),
                             .transpose_a = true,
                             .b = runs[r].dy,
                             .c = stage_gradient(&runs[r], V),
                             .mode = OP_ADD};
        inner[r] = (struct gemm){
            .a = runs[r].dy, .b = stage_value(&runs[r], V), .transpose_b = true, .c = dinner, .mode = OP_STORE};
        u[r] = (struct gemm){
            .a = runs[r].x, .transpose_a = true, .b = dinner, .c = stage_gradient(&runs[r], U), .mode = OP_ADD};
    }
    op_gemm_group(queue, v, count);
    op_gemm_group(queue, inner, count);
    op_gemm_group(queue, u, count);
}

static void backward(struct queue *queue, const struct stage_run *runs, int count)
{
    if (runs[0].stage->rank > 0)
        low_rank_backward(queue, runs, count);
    else
        multiply_backward(queue, runs, count);
    for (int r = 0; r < count; r++)
        op_sum_rows(queue, runs[r].dy, stage_gradient(&runs[r], B));
}

const struct stage_kind stage_affine = {.rules = rules, .forward = forward, .backward = backward};
