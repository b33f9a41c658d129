#include "common/head/half.h"

static const struct block_half *half_of(const struct head *head, int half)
{
    return &block_of(&head->config)->half[half];
}

/* The columns of product `index` of `in` in a matrix of all of them. */
static struct matrix columns_of(const struct head_run *run, const struct block_half *half, struct matrix all,
                                int index)
{
    int64_t first = 0;
    for (int i = 0; i < index; i++)
        first += role_rows(&run->head->config, half->in[i].weight);
    return matrix_cols(all, first, role_rows(&run->head->config, half->in[index].weight));
}

static void add_bias(struct queue *queue, const struct head *head, enum tensor_role role, struct matrix y)
{
    const struct matrix bias = head_value(head, role);
    if (!matrix_is_none(bias))
        op_add_bias(queue, bias, y);
}

static void add_bias_gradient(struct queue *queue, const struct head_run *run, enum tensor_role role,
                              struct matrix dy)
{
    const struct matrix gradient = head_run_gradient(run, role);
    if (!matrix_is_none(gradient))
        op_sum_rows(queue, dy, gradient);
}

static void mix(struct queue *queue, const struct head_run *run, const struct block_half *half, int first)
{
    const struct matrix projected = head_run_scratch(run, first + HALF_PROJECTED);
    switch (half->mix) {
    case MIX_SWIGLU: op_swiglu(queue, projected, head_run_scratch(run, first + HALF_MIXED)); break;
    case MIX_ATTENTION: break; /* of no kind */
    }
}

static void mix_backward(struct queue *queue, const struct head_run *run, const struct block_half *half,
                         int first)
{
    const struct matrix projected = head_run_scratch(run, first + HALF_PROJECTED);
    switch (half->mix) {
    case MIX_SWIGLU:
        op_swiglu_grad(queue, head_run_scratch(run, first + HALF_DMIXED), projected,
                       head_run_scratch(run, first + HALF_DPROJECTED));
        break;
    case MIX_ATTENTION: break; /* of no kind */
    }
}

void half_forward(struct queue *queue, const struct head_run *runs, int count, int index, int first)
{
    const struct block_half *half = half_of(runs[0].head, index);
    struct gemm in[BLOCK_STACKED * HEADS_TOGETHER] = {0}, out[HEADS_TOGETHER] = {0};
    const int products = half_products(half);
    for (int r = 0; r < count; r++) {
        const struct head *head = runs[r].head;
        const struct matrix normed = head_run_scratch(&runs[r], first + HALF_NORMED);
        const struct matrix projected = head_run_scratch(&runs[r], first + HALF_PROJECTED);
        op_norm(queue, runs[r].x, head_value(head, half->norm), head->config.norm_epsilon, normed);
        for (int i = 0; i < products; i++)
            in[r * products + i] = (struct gemm){.a = normed,
                                                 .b = head_value(head, half->in[i].weight),
                                                 .transpose_b = true,
                                                 .c = columns_of(&runs[r], half, projected, i),
                                                 .mode = OP_STORE};
    }
    op_gemm_group(queue, in, count * products);
    for (int r = 0; r < count; r++) {
        const struct matrix y = head_run_scratch(&runs[r], first + HALF_Y);
        for (int i = 0; i < products; i++)
            add_bias(queue, runs[r].head, half->in[i].bias, in[r * products + i].c);
        mix(queue, &runs[r], half, first);
        op_copy(queue, runs[r].x, y);
        out[r] = (struct gemm){.a = head_run_scratch(&runs[r], first + HALF_MIXED),
                               .b = head_value(runs[r].head, half->out.weight),
                               .transpose_b = true,
                               .c = y,
                               .mode = OP_ADD};
    }
    op_gemm_group(queue, out, count);
    for (int r = 0; r < count; r++)
        add_bias(queue, runs[r].head, half->out.bias, out[r].c);
}

/* Of the product `out`: its weight's gradient, and that of what it multiplied. */
static void out_backward(struct queue *queue, const struct head_run *runs, int count,
                         const struct block_half *half, int first)
{
    struct gemm weight[HEADS_TOGETHER] = {0}, input[HEADS_TOGETHER] = {0};
    for (int r = 0; r < count; r++) {
        const struct matrix dy = head_run_scratch(&runs[r], first + HALF_DY);
        weight[r] = (struct gemm){.a = dy,
                                  .transpose_a = true,
                                  .b = head_run_scratch(&runs[r], first + HALF_MIXED),
                                  .c = head_run_gradient(&runs[r], half->out.weight),
                                  .mode = OP_ADD};
        input[r] = (struct gemm){.a = dy,
                                 .b = head_value(runs[r].head, half->out.weight),
                                 .c = head_run_scratch(&runs[r], first + HALF_DMIXED),
                                 .mode = OP_STORE};
    }
    op_gemm_group(queue, weight, count);
    op_gemm_group(queue, input, count);
}

void half_backward(struct queue *queue, const struct head_run *runs, int count, int index, int first)
{
    const struct block_half *half = half_of(runs[0].head, index);
    struct gemm in[BLOCK_STACKED * HEADS_TOGETHER] = {0};
    const int products = half_products(half);
    out_backward(queue, runs, count, half, first);
    for (int r = 0; r < count; r++) {
        const struct matrix projected = head_run_scratch(&runs[r], first + HALF_DPROJECTED);
        mix_backward(queue, &runs[r], half, first);
        for (int i = 0; i < products; i++)
            in[r * products + i] = (struct gemm){.a = columns_of(&runs[r], half, projected, i),
                                                 .transpose_a = true,
                                                 .b = head_run_scratch(&runs[r], first + HALF_NORMED),
                                                 .c = head_run_gradient(&runs[r], half->in[i].weight),
                                                 .mode = OP_ADD};
    }
    op_gemm_group(queue, in, count * products);
    for (int r = 0; r < count; r++) {
        for (int i = 0; i < products; i++)
            add_bias_gradient(queue, &runs[r], half->in[i].bias, in[r * products + i].a);
        add_bias_gradient(queue, &runs[r], half->out.bias, head_run_scratch(&runs[r], first + HALF_DY));
    }
}
