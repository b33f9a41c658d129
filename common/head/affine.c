/* affine.c: the head norm(x A + b), with states x as rows. */
#include "common/head/kind.h"

enum { A, B, SCALE, PARAMETERS };
enum {
    Y, /* x A + b */
    DY,
    SCRATCHES
};

static const struct parameter_rule rules[PARAMETERS] = {
    [A] = {"a", FORM_SQUARE, ROLE_NONE, true, FILL_IDENTITY, FILL_NORMAL},
    [B] = {"b", FORM_VECTOR, ROLE_NONE, true, FILL_ZEROS, FILL_ZEROS},
    [SCALE] = {"scale", FORM_ROLE, ROLE_FINAL_NORM, true, FILL_MODEL, FILL_ONES},
};

static const struct scratch_rule scratches[SCRATCHES] = {
    [Y] = {.columns = COLUMNS_HIDDEN},
    [DY] = {.columns = COLUMNS_HIDDEN, .backward = true},
};

static void forward(struct queue *queue, const struct head_run *runs, int count)
{
    struct gemm products[HEADS_TOGETHER] = {0};
    for (int r = 0; r < count; r++)
        products[r] = (struct gemm){.a = runs[r].x,
                                    .b = runs[r].head->parameter[A].value,
                                    .c = head_run_scratch(&runs[r], Y),
                                    .mode = OP_STORE};
    op_gemm_group(queue, products, count);
    for (int r = 0; r < count; r++) {
        const struct head *head = runs[r].head;
        op_add_bias(queue, head->parameter[B].value, products[r].c);
        op_norm(queue, products[r].c, head->parameter[SCALE].value, head->config.norm_epsilon, runs[r].h);
    }
}

static void backward(struct queue *queue, const struct head_run *runs, int count)
{
    struct gemm products[HEADS_TOGETHER] = {0};
    for (int r = 0; r < count; r++) {
        const struct head_run *run = &runs[r];
        const struct matrix dy = head_run_scratch(run, DY);
        op_norm_grad(queue, run->dh, head_run_scratch(run, Y), run->head->parameter[SCALE].value,
                     run->head->config.norm_epsilon, dy, OP_STORE, run->gradients[SCALE]);
        products[r] =
            (struct gemm){.a = run->x, .transpose_a = true, .b = dy, .c = run->gradients[A], .mode = OP_ADD};
    }
    op_gemm_group(queue, products, count);
    for (int r = 0; r < count; r++)
        op_sum_rows(queue, products[r].b, runs[r].gradients[B]);
}

const struct head_kind head_kind_affine = {
    .name = "affine",
    .by_row = true,
    .has_ridge = true,
    .rules = PARAMETERS,
    .rule = rules,
    .scratches = SCRATCHES,
    .scratch = scratches,
    .forward = forward,
    .backward = backward,
};
