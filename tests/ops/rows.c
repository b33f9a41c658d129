/* rows.c: element-wise ops, norms, activations and rope, on every backend.
 *
 * Tolerances: some roundings of 2^-24 = 6e-8 each; a sum over n rows adds about sqrt(n) of them. */
#include "tests/op_case.h"

/* shape: cols, type */
static void run_copy(struct op_run *run, const int64_t *shape)
{
    struct matrix x =
        shape[1] == DTYPE_I32 ? row_integers(run, run->batch, -9, 9) : row_input(run, run->batch, shape[0]);
    op_copy(run->queue, x, row_output(run, x.type, x.rows, x.cols));
}

/* shape: cols */
static void run_axpy(struct op_run *run, const int64_t *shape)
{
    struct matrix x = row_input(run, run->batch, shape[0]);
    op_axpy(run->queue, -0.75f, x, row_output(run, DTYPE_F32, x.rows, x.cols));
}

static void run_add_bias(struct op_run *run, const int64_t *shape)
{
    struct matrix b = shared_input(run, 1, shape[0], 1);
    op_add_bias(run->queue, b, row_output(run, DTYPE_F32, run->batch, shape[0]));
}

static void run_sum_rows(struct op_run *run, const int64_t *shape)
{
    struct matrix x = row_input(run, run->batch, shape[0]);
    op_sum_rows(run->queue, x, shared_output(run, DTYPE_F32, 1, shape[0]));
}

static void run_sum_squares(struct op_run *run, const int64_t *shape)
{
    struct matrix x = row_input(run, run->batch, shape[0]);
    op_sum_squares(run->queue, &(struct square_sum){x, shared_output(run, DTYPE_F64, 1, 1)}, 1);
}

/* shape: cols. Two sums, with matrices of several sizes by turns. */
static void run_sum_squares_of_many(struct op_run *run, const int64_t *shape)
{
    const struct matrix s[2] = {shared_output(run, DTYPE_F64, 1, 1), shared_output(run, DTYPE_F64, 1, 1)};
    struct square_sum sums[7];
    for (int i = 0; i < 7; i++)
        sums[i] = (struct square_sum){row_input(run, run->batch, i % 3 ? shape[0] : 1 + i), s[i == 1 || i > 4]};
    op_sum_squares(run->queue, sums, 7);
}

static void run_mean_square(struct op_run *run, const int64_t *shape)
{
    struct matrix x = row_input(run, run->batch, shape[0]);
    op_mean_square(run->queue, x, row_output(run, DTYPE_F32, run->batch, 1));
}

/* shape: cols, group, epsilon in thousandths */
static void run_norm(struct op_run *run, const int64_t *shape)
{
    struct matrix x = row_input(run, run->batch, shape[0]), scale = shared_input(run, 1, shape[1], 1);
    op_norm(run->queue, x, scale, (float)shape[2] / 1000, row_output(run, DTYPE_F32, x.rows, x.cols));
}

static void run_norm_in_place(struct op_run *run, const int64_t *shape)
{
    struct matrix scale = shared_input(run, 1, shape[1], 1);
    struct matrix x = row_output(run, DTYPE_F32, run->batch, shape[0]);
    op_norm(run->queue, x, scale, (float)shape[2] / 1000, x);
}

/* shape: cols, group, mode, whether dscale is wanted */
static void run_norm_grad(struct op_run *run, const int64_t *shape)
{
    struct matrix dy = row_input(run, run->batch, shape[0]), x = row_input(run, run->batch, shape[0]);
    struct matrix scale = shared_input(run, 1, shape[1], 1), dx = row_output(run, DTYPE_F32, x.rows, x.cols);
    struct matrix dscale = shape[3] ? shared_output(run, DTYPE_F32, 1, shape[1]) : matrix_none();
    op_norm_grad(run->queue, dy, x, scale, 1e-5f, dx, (enum op_mode)shape[2], dscale);
}

/* shape: intermediate size */
static void run_swiglu(struct op_run *run, const int64_t *shape)
{
    struct matrix x = row_input(run, run->batch, 2 * shape[0]);
    op_swiglu(run->queue, x, row_output(run, DTYPE_F32, run->batch, shape[0]));
}

static void run_swiglu_grad(struct op_run *run, const int64_t *shape)
{
    struct matrix dy = row_input(run, run->batch, shape[0]), x = row_input(run, run->batch, 2 * shape[0]);
    op_swiglu_grad(run->queue, dy, x, row_output(run, DTYPE_F32, x.rows, x.cols));
}

/* shape: heads, head size, pairs */
static void run_rope(struct op_run *run, const int64_t *shape)
{
    struct matrix positions = row_integers(run, run->batch, 0, 40), table = shared_input(run, 41, shape[1], 1);
    struct matrix x = row_output(run, DTYPE_F32, run->batch, shape[0] * shape[1]);
    op_rope(run->queue, x, positions, table, (enum rope_pairs)shape[2]);
}

static void run_rope_grad(struct op_run *run, const int64_t *shape)
{
    struct matrix positions = row_integers(run, run->batch, 0, 40), table = shared_input(run, 41, shape[1], 1);
    struct matrix x = row_output(run, DTYPE_F32, run->batch, shape[0] * shape[1]);
    op_rope_grad(run->queue, x, positions, table, (enum rope_pairs)shape[2]);
}

#define EXACT      .tolerance = 0
#define ROUNDINGS  .tolerance = 5e-7
#define DIFFERENCE .tolerance = 2e-6 /* of two terms of about the result's size */
#define SUM        .tolerance = 2e-6, .mixes_rows = true
#define F64_SUM    .tolerance = 1e-12, .mixes_rows = true
static const struct op_case cases[] = {
    {"op_copy", run_copy, {37, DTYPE_F32}, EXACT},
    {"op_copy", run_copy, {1, DTYPE_I32}, EXACT},
    {"op_axpy", run_axpy, {1}, ROUNDINGS},
    {"op_axpy", run_axpy, {579}, ROUNDINGS},
    {"op_add_bias", run_add_bias, {1}, ROUNDINGS},
    {"op_add_bias", run_add_bias, {579}, ROUNDINGS},
    {"op_sum_rows", run_sum_rows, {1}, .batches = {1, 9, 1500}, SUM},
    {"op_sum_rows", run_sum_rows, {131}, .batches = {1, 7, 70, 1500}, SUM},
    {"op_sum_squares", run_sum_squares, {1}, .batches = {1, 9, 1500}, F64_SUM},
    {"op_sum_squares", run_sum_squares, {131}, .batches = {1, 7, 70, 1500}, F64_SUM},
    {"op_sum_squares", run_sum_squares_of_many, {131}, .batches = {1, 7, 70}, F64_SUM},
    {"op_mean_square", run_mean_square, {1}, ROUNDINGS},
    {"op_mean_square", run_mean_square, {579}, ROUNDINGS},
    {"op_norm", run_norm, {1, 1, 1}, ROUNDINGS},
    {"op_norm", run_norm, {579, 579, 1}, ROUNDINGS},
    {"op_norm", run_norm, {64, 16, 0}, ROUNDINGS},
    {"op_norm", run_norm, {111, 37, 500}, ROUNDINGS},
    {"op_norm in place", run_norm_in_place, {576, 64, 1}, ROUNDINGS},
    {"op_norm in place", run_norm_in_place, {35, 35, 1}, ROUNDINGS},
    {"op_norm_grad", run_norm_grad, {64, 64, OP_STORE, true}, .batches = {1, 7, 9, 700}, DIFFERENCE},
    {"op_norm_grad", run_norm_grad, {579, 579, OP_ADD, true}, DIFFERENCE},
    {"op_norm_grad", run_norm_grad, {111, 37, OP_ADD, true}, DIFFERENCE},
    {"op_norm_grad", run_norm_grad, {30, 30, OP_STORE, false}, DIFFERENCE},
    {"op_swiglu", run_swiglu, {1}, ROUNDINGS},
    {"op_swiglu", run_swiglu, {195}, ROUNDINGS},
    {"op_swiglu_grad", run_swiglu_grad, {1}, ROUNDINGS},
    {"op_swiglu_grad", run_swiglu_grad, {195}, ROUNDINGS},
    {"op_rope", run_rope, {3, 64, ROPE_ADJACENT}, ROUNDINGS},
    {"op_rope", run_rope, {3, 64, ROPE_HALVES}, ROUNDINGS},
    {"op_rope", run_rope, {1, 2, ROPE_ADJACENT}, ROUNDINGS},
    {"op_rope", run_rope, {5, 14, ROPE_HALVES}, ROUNDINGS},
    {"op_rope", run_rope, {5, 14, ROPE_ADJACENT}, ROUNDINGS},
    {"op_rope_grad", run_rope_grad, {3, 64, ROPE_HALVES}, ROUNDINGS},
    {"op_rope_grad", run_rope_grad, {5, 14, ROPE_ADJACENT}, ROUNDINGS},
};
OP_TESTS(rows, cases)

TEST_MAIN
