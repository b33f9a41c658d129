/* draft_run.c: the steps of a draft (draft.h), and their gradients. */
#include <math.h>

#include "common/head/draft_parts.h"

static const enum draft_parameter projections[] = {DRAFT_Q, DRAFT_K, DRAFT_V};
enum { PROJECTIONS = sizeof projections / sizeof projections[0] };

static struct matrix gradient_of(const struct draft_run *run, enum draft_parameter parameter)
{
    return run->gradients[parameter];
}

static float epsilon_of(const struct draft_run *run)
{
    return run->head->config.norm_epsilon;
}

/* The columns of projection p in a matrix of q | k | v. */
static struct matrix projected_part(const struct draft_run *run, struct matrix projected, int p)
{
    return p == 0   ? draft_queries(run, projected)
           : p == 1 ? draft_keys(run, projected)
                    : draft_values(run, projected);
}

struct attention draft_attention(const struct draft_run *run)
{
    const struct model_config *config = &run->head->config;
    return (struct attention){.heads = config->attention_heads,
                              .kv_heads = config->kv_heads,
                              .head_size = config->head_size,
                              .scale = (float)(1 / sqrt((double)config->head_size))};
}

const struct attention_span *draft_spans(const struct draft_run *run, int step, bool gradients)
{
    struct draft_scratch *scratch = run->scratch;
    struct attention_span *spans = gradients ? scratch->dspans : scratch->spans;
    const int64_t length = scratch->size.length, width = draft_value(run, DRAFT_K).rows;
    const struct matrix first = draft_matrix(run, PROJECTED, 0);
    const struct matrix k = gradients ? draft_matrix(run, D_KEYS, 0) : draft_keys(run, first);
    const struct matrix v = gradients ? draft_matrix(run, D_VALUES, 0) : draft_values(run, first);
    const struct matrix own_k = draft_matrix(run, gradients ? D_OWN_KEYS : OWN_KEYS, 0);
    const struct matrix own_v = draft_matrix(run, gradients ? D_OWN_VALUES : OWN_VALUES, 0);
    for (int64_t s = 0; s < run->sequences; s++) {
        spans[s] = (struct attention_span){.queries = length,
                                           .k = draft_sequence(run, k, s, 0, length),
                                           .v = draft_sequence(run, v, s, 0, length)};
        if (step == 0)
            continue;
        spans[s].own_k = matrix_cols(draft_sequence(run, own_k, s, 0, length), 0, step * width);
        spans[s].own_v = matrix_cols(draft_sequence(run, own_v, s, 0, length), 0, step * width);
    }
    return spans;
}

/* The columns of a step's own keys or values, from step 1 on. */
static struct matrix own_part(const struct draft_run *run, enum draft_matrix which, int step)
{
    const int64_t width = draft_value(run, DRAFT_K).rows;
    return matrix_cols(draft_matrix(run, which, 0), (step - 1) * width, width);
}

/* ---- forward ---- */

void draft_begin(struct queue *queue, const struct draft_run *run)
{
    const struct matrix given = draft_matrix(run, GIVEN, 0), embedded = draft_matrix(run, EMBEDDED, 0);
    const struct matrix projected = draft_matrix(run, EMBEDDED_PROJECTED, 0), fc = draft_value(run, DRAFT_FC);
    struct gemm products[PROJECTIONS];
    for (int64_t t = 0; t < fc.cols / fc.rows; t++)
        op_gemm(queue, run->states[t], false, matrix_cols(fc, t * fc.rows, fc.rows), true, given,
                t > 0 ? OP_ADD : OP_STORE);
    op_norm(queue, run->embedded, draft_value(run, DRAFT_INPUT_NORM), epsilon_of(run), embedded);
    for (int p = 0; p < PROJECTIONS; p++)
        products[p] = (struct gemm){.a = embedded,
                                    .b = draft_half(run, draft_value(run, projections[p]), false),
                                    .transpose_b = true,
                                    .c = projected_part(run, projected, p),
                                    .mode = OP_STORE};
    op_gemm_group(queue, products, PROJECTIONS);
}

/* What the embeddings of a step's tokens come to, before n is added. A row without a token takes its own: something
 * finite, which nobody sees. */
static void shift_embedded(struct queue *queue, const struct draft_run *run, int step, struct matrix projected)
{
    const struct matrix all = draft_matrix(run, EMBEDDED_PROJECTED, 0);
    const int64_t length = run->scratch->size.length, shift = step < length ? step : length;
    for (int64_t s = 0; s < run->sequences; s++) {
        if (shift < length)
            op_copy(queue, draft_sequence(run, all, s, shift, length - shift),
                    draft_sequence(run, projected, s, 0, length - shift));
        if (shift > 0)
            op_copy(queue, draft_sequence(run, all, s, length - shift, shift),
                    draft_sequence(run, projected, s, length - shift, shift));
    }
}

static void attend(struct queue *queue, const struct draft_run *run, int step)
{
    const struct matrix given = draft_matrix(run, GIVEN, step), normed = draft_matrix(run, NORMED, step);
    const struct matrix projected = draft_matrix(run, PROJECTED, step);
    const struct matrix middle = draft_matrix(run, MIDDLE, step), mixed = draft_matrix(run, ATTENDED, step);
    const struct attention attention = draft_attention(run);
    const int64_t rotated = draft_value(run, DRAFT_Q).rows + draft_value(run, DRAFT_K).rows;
    struct gemm products[PROJECTIONS];
    op_norm(queue, given, draft_value(run, DRAFT_HIDDEN_NORM), epsilon_of(run), normed);
    shift_embedded(queue, run, step, projected);
    for (int p = 0; p < PROJECTIONS; p++)
        products[p] = (struct gemm){.a = normed,
                                    .b = draft_half(run, draft_value(run, projections[p]), true),
                                    .transpose_b = true,
                                    .c = projected_part(run, projected, p),
                                    .mode = OP_ADD};
    op_gemm_group(queue, products, PROJECTIONS);
    op_rope(queue, matrix_cols(projected, 0, rotated), draft_positions(run, step), draft_table(run),
            ROPE_HALVES);
    if (step > 0) {
        op_copy(queue, draft_keys(run, projected), own_part(run, OWN_KEYS, step));
        op_copy(queue, draft_values(run, projected), own_part(run, OWN_VALUES, step));
    }
    op_attention(queue, &attention, draft_queries(run, projected), draft_spans(run, step, false),
                 (int)run->sequences, mixed);
    op_copy(queue, given, middle);
    op_gemm(queue, mixed, false, draft_value(run, DRAFT_O), true, middle, OP_ADD);
}

void draft_step(struct queue *queue, const struct draft_run *run, int step)
{
    const struct matrix middle = draft_matrix(run, MIDDLE, step), normed = draft_matrix(run, MLP_NORMED, step);
    const struct matrix gate_up = draft_matrix(run, GATE_UP, step), gated = draft_matrix(run, GATED, step);
    const struct matrix result = draft_matrix(run, GIVEN, step + 1);
    const int64_t inner = gated.cols;
    attend(queue, run, step);
    op_norm(queue, middle, draft_value(run, DRAFT_MLP_NORM), epsilon_of(run), normed);
    const struct gemm products[] = {
        {normed, false, draft_value(run, DRAFT_GATE), true, matrix_cols(gate_up, 0, inner), OP_STORE},
        {normed, false, draft_value(run, DRAFT_UP), true, matrix_cols(gate_up, inner, inner), OP_STORE}};
    op_gemm_group(queue, products, 2);
    op_swiglu(queue, gate_up, gated);
    op_copy(queue, middle, result);
    op_gemm(queue, gated, false, draft_value(run, DRAFT_DOWN), true, result, OP_ADD);
    op_norm(queue, result, draft_value(run, DRAFT_SCALE), epsilon_of(run), draft_matrix(run, OUTPUT, step));
}

/* ---- backward ---- */

static void clear(struct queue *queue, const struct draft_run *run, struct matrix matrix)
{
    const struct matrix zeros = draft_matrix(run, ZEROS, 0);
    op_copy(queue, matrix_cols(matrix_rows(zeros, 0, matrix.rows), 0, matrix.cols), matrix);
}

/* The gradient of the step's result becomes that of its middle, in D_GIVEN. */
static void mlp_backward(struct queue *queue, const struct draft_run *run, int step)
{
    const struct matrix given = draft_matrix(run, D_GIVEN, 0), normed = draft_matrix(run, MLP_NORMED, step);
    const struct matrix dgated = draft_matrix(run, D_GATED, 0), dgate_up = draft_matrix(run, D_GATE_UP, 0);
    const struct matrix dnormed = draft_matrix(run, D_NORMED, 0);
    const int64_t inner = dgated.cols;
    const struct matrix dgate = matrix_cols(dgate_up, 0, inner), dup = matrix_cols(dgate_up, inner, inner);
    op_gemm(queue, given, true, draft_matrix(run, GATED, step), false, gradient_of(run, DRAFT_DOWN), OP_ADD);
    op_gemm(queue, given, false, draft_value(run, DRAFT_DOWN), false, dgated, OP_STORE);
    op_swiglu_grad(queue, dgated, draft_matrix(run, GATE_UP, step), dgate_up);
    const struct gemm weights[] = {{dgate, true, normed, false, gradient_of(run, DRAFT_GATE), OP_ADD},
                                   {dup, true, normed, false, gradient_of(run, DRAFT_UP), OP_ADD}};
    op_gemm_group(queue, weights, 2);
    op_gemm(queue, dgate, false, draft_value(run, DRAFT_GATE), false, dnormed, OP_STORE);
    op_gemm(queue, dup, false, draft_value(run, DRAFT_UP), false, dnormed, OP_ADD);
    op_norm_grad(queue, dnormed, draft_matrix(run, MIDDLE, step), draft_value(run, DRAFT_MLP_NORM),
                 epsilon_of(run), given, OP_ADD, gradient_of(run, DRAFT_MLP_NORM));
}

/* D_PROJECTED from the gradient of the middle. The step's keys and values are seen by later steps too, whose part is
 * in the sums already. */
static void attention_backward(struct queue *queue, const struct draft_run *run, int step)
{
    const struct matrix given = draft_matrix(run, D_GIVEN, 0), dmixed = draft_matrix(run, D_ATTENDED, 0);
    const struct matrix dprojected = draft_matrix(run, D_PROJECTED, 0);
    const struct matrix mixed = draft_matrix(run, ATTENDED, step);
    const struct attention attention = draft_attention(run);
    const int64_t rotated = draft_value(run, DRAFT_Q).rows + draft_value(run, DRAFT_K).rows;
    op_gemm(queue, given, true, mixed, false, gradient_of(run, DRAFT_O), OP_ADD);
    op_gemm(queue, given, false, draft_value(run, DRAFT_O), false, dmixed, OP_STORE);
    op_attention_grad(queue, &attention, draft_queries(run, draft_matrix(run, PROJECTED, step)),
                      draft_spans(run, step, false), (int)run->sequences, mixed, dmixed,
                      draft_queries(run, dprojected), draft_spans(run, step, true));
    op_copy(queue, step > 0 ? own_part(run, D_OWN_KEYS, step) : draft_matrix(run, D_KEYS, 0),
            draft_keys(run, dprojected));
    op_copy(queue, step > 0 ? own_part(run, D_OWN_VALUES, step) : draft_matrix(run, D_VALUES, 0),
            draft_values(run, dprojected));
    op_rope_grad(queue, matrix_cols(dprojected, 0, rotated), draft_positions(run, step), draft_table(run),
                 ROPE_HALVES);
}

/* From D_PROJECTED to the weights, to what the embeddings of the step's tokens came to, and to g. */
static void projection_backward(struct queue *queue, const struct draft_run *run, int step)
{
    const struct matrix dprojected = draft_matrix(run, D_PROJECTED, 0);
    const struct matrix dembedded = draft_matrix(run, D_EMBEDDED_PROJECTED, 0);
    const struct matrix normed = draft_matrix(run, NORMED, step), dnormed = draft_matrix(run, D_NORMED, 0);
    const int64_t rows = draft_rows(run, step);
    struct gemm weights[PROJECTIONS];
    for (int64_t s = 0; s < run->sequences && rows > 0; s++)
        op_axpy(queue, 1, draft_sequence(run, dprojected, s, 0, rows),
                draft_sequence(run, dembedded, s, step, rows));
    for (int p = 0; p < PROJECTIONS; p++)
        weights[p] = (struct gemm){.a = projected_part(run, dprojected, p),
                                   .transpose_a = true,
                                   .b = normed,
                                   .c = draft_half(run, gradient_of(run, projections[p]), true),
                                   .mode = OP_ADD};
    op_gemm_group(queue, weights, PROJECTIONS);
    for (int p = 0; p < PROJECTIONS; p++)
        op_gemm(queue, projected_part(run, dprojected, p), false,
                draft_half(run, draft_value(run, projections[p]), true), false, dnormed,
                p > 0 ? OP_ADD : OP_STORE);
    op_norm_grad(queue, dnormed, draft_matrix(run, GIVEN, step), draft_value(run, DRAFT_HIDDEN_NORM),
                 epsilon_of(run), draft_matrix(run, D_GIVEN, 0), OP_ADD, gradient_of(run, DRAFT_HIDDEN_NORM));
}

/* What draft_begin made: the gradients of fc, of the columns of e, and of its norm. */
static void begin_backward(struct queue *queue, const struct draft_run *run)
{
    const struct matrix dprojected = draft_matrix(run, D_EMBEDDED_PROJECTED, 0);
    const struct matrix embedded = draft_matrix(run, EMBEDDED, 0), dembedded = draft_matrix(run, D_NORMED, 0);
    const struct matrix given = draft_matrix(run, D_GIVEN, 0), fc = gradient_of(run, DRAFT_FC);
    struct gemm weights[PROJECTIONS];
    for (int p = 0; p < PROJECTIONS; p++) {
        weights[p] = (struct gemm){.a = projected_part(run, dprojected, p),
                                   .transpose_a = true,
                                   .b = embedded,
                                   .c = draft_half(run, gradient_of(run, projections[p]), false),
                                   .mode = OP_ADD};
        op_gemm(queue, weights[p].a, false, draft_half(run, draft_value(run, projections[p]), false), false,
                dembedded, p > 0 ? OP_ADD : OP_STORE);
    }
    op_gemm_group(queue, weights, PROJECTIONS);
    for (int64_t t = 0; t < fc.cols / fc.rows; t++)
        op_gemm(queue, given, true, run->states[t], false, matrix_cols(fc, t * fc.rows, fc.rows), OP_ADD);
    /* The embedding is frozen: nobody reads what it gets. */
    op_norm_grad(queue, dembedded, run->embedded, draft_value(run, DRAFT_INPUT_NORM), epsilon_of(run), given,
                 OP_STORE, gradient_of(run, DRAFT_INPUT_NORM));
}

void draft_backward(struct queue *queue, const struct draft_run *run, int steps)
{
    const struct matrix given = draft_matrix(run, D_GIVEN, 0);
    const int64_t length = run->scratch->size.length;
    clear(queue, run, draft_matrix(run, D_KEYS, 0));
    clear(queue, run, draft_matrix(run, D_VALUES, 0));
    clear(queue, run, draft_matrix(run, D_OWN_KEYS, 0));
    clear(queue, run, draft_matrix(run, D_OWN_VALUES, 0));
    clear(queue, run, draft_matrix(run, D_EMBEDDED_PROJECTED, 0));
    for (int step = steps - 1; step >= 0; step--) {
        const struct matrix doutput = draft_matrix(run, D_OUTPUT, step);
        const int64_t rows = draft_rows(run, step);
        for (int64_t s = 0; s < run->sequences; s++)
            clear(queue, run, draft_sequence(run, doutput, s, rows, length - rows));
        op_norm_grad(queue, doutput, draft_matrix(run, GIVEN, step + 1), draft_value(run, DRAFT_SCALE),
                     epsilon_of(run), given, step < steps - 1 ? OP_ADD : OP_STORE,
                     gradient_of(run, DRAFT_SCALE));
        mlp_backward(queue, run, step);
        attention_backward(queue, run, step);
        projection_backward(queue, run, step);
    }
    begin_backward(queue, run);
}
