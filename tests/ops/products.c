/* products.c: products with prepared weights and of buffers, on every backend.
 *
 * Tolerances: an f32 sum of K terms rounds K times, which grows like sqrt(K) 2^-24 of the result's
 * rms (2e-6 at K = 1100), and the largest of many is some times that. Under bf16 both factors round to
 * 8 bits, together 2.3e-3 of the rms; the largest of 10^5 such errors is seen at 1.3e-2. */
#include "tests/op_case.h"

#define F32_PRODUCT  5e-6
#define BF16_PRODUCT 2e-2

/* shape: N, K, type of the weight, bias, mode */
static void run_matmul(struct op_run *run, const int64_t *shape)
{
    struct matrix x = row_input(run, run->batch, shape[1]);
    struct matrix y = row_output(run, DTYPE_F32, run->batch, shape[0]);
    const struct weight *weight =
        shared_weight(run, (enum dtype)shape[2], shape[0], shape[1], shape[3], WEIGHT_FORWARD | WEIGHT_ROWS);
    op_matmul(run->queue, x, weight, y, (enum op_mode)shape[4]);
}

/* shape: N, K, type, mode */
static void run_matmul_grad(struct op_run *run, const int64_t *shape)
{
    struct matrix dy = row_input(run, run->batch, shape[0]);
    struct matrix dx = row_output(run, DTYPE_F32, run->batch, shape[1]);
    const struct weight *weight =
        shared_weight(run, (enum dtype)shape[2], shape[0], shape[1], false, WEIGHT_BACKWARD);
    op_matmul_grad(run->queue, dy, weight, dx, (enum op_mode)shape[3]);
}

/* shape: N, K, type */
static void run_embed(struct op_run *run, const int64_t *shape)
{
    struct matrix ids = row_integers(run, run->batch, 0, (int32_t)shape[0] - 1);
    struct matrix y = row_output(run, DTYPE_F32, run->batch, shape[1]);
    const struct weight *weight =
        shared_weight(run, (enum dtype)shape[2], shape[0], shape[1], false, WEIGHT_ROWS);
    op_embed(run->queue, weight, ids, y);
}

/* Products with gathered rows, and the rows themselves. shape: N, K, type */
static void run_gather(struct op_run *run, const int64_t *shape)
{
    const int64_t rows = shape[0], cols = shape[1], batch = run->batch;
    const struct weight *subset = shared_subset(run, (enum dtype)shape[2], rows, cols);
    op_embed(run->queue, subset, row_integers(run, batch, 0, (int32_t)rows - 1),
             row_output(run, DTYPE_F32, batch, cols));
    op_matmul(run->queue, row_input(run, batch, cols), subset, row_output(run, DTYPE_F32, batch, rows),
              OP_STORE);
    op_matmul_grad(run->queue, row_input(run, batch, rows), subset, row_output(run, DTYPE_F32, batch, cols),
                   OP_ADD);
}

/* shape: N, K, b transposed, mode. The batch is a's rows. */
static void run_gemm(struct op_run *run, const int64_t *shape)
{
    struct matrix a = row_input(run, run->batch, shape[1]);
    struct matrix b =
        shape[2] ? shared_input(run, shape[0], shape[1], 1) : shared_input(run, shape[1], shape[0], 1);
    struct matrix c = row_output(run, DTYPE_F32, run->batch, shape[0]);
    op_gemm(run->queue, a, false, b, shape[2], c, (enum op_mode)shape[3]);
}

/* shape: M, N, b transposed, mode. The batch is what the sum runs over. */
static void run_gemm_transposed(struct op_run *run, const int64_t *shape)
{
    struct matrix a = row_input(run, run->batch, shape[0]);
    struct matrix b =
        shape[2] ? shared_input(run, shape[1], run->batch, 1) : row_input(run, run->batch, shape[1]);
    struct matrix c = shared_output(run, DTYPE_F32, shape[0], shape[1]);
    op_gemm(run->queue, a, true, b, shape[2], c, (enum op_mode)shape[3]);
}

/* Three alike, of which two share a, and one with b transposed behind them. shape: N, K, mode. The batch is a's
 * rows. */
static void run_gemm_group(struct op_run *run, const int64_t *shape)
{
    struct matrix a = row_input(run, run->batch, shape[1]), other = row_input(run, run->batch, shape[1]);
    struct gemm gemms[4];
    for (int i = 0; i < 4; i++) {
        const bool transposed = i == 3;
        gemms[i] = (struct gemm){i < 2 ? a : other,
                                 false,
                                 transposed ? shared_input(run, shape[0], shape[1], 1)
                                            : shared_input(run, shape[1], shape[0], 1),
                                 transposed,
                                 row_output(run, DTYPE_F32, run->batch, shape[0]),
                                 (enum op_mode)shape[2]};
    }
    op_gemm_group(run->queue, gemms, 4);
}

/* Sums over the batch. shape: M, N, mode */
static void run_gemm_group_transposed(struct op_run *run, const int64_t *shape)
{
    struct matrix a = row_input(run, run->batch, shape[0]);
    struct gemm gemms[2];
    for (int i = 0; i < 2; i++)
        gemms[i] = (struct gemm){a,
                                 true,
                                 row_input(run, run->batch, shape[1]),
                                 false,
                                 shared_output(run, DTYPE_F32, shape[0], shape[1]),
                                 (enum op_mode)shape[2]};
    op_gemm_group(run->queue, gemms, 2);
}

/* shape: K, N */
static void run_gram(struct op_run *run, const int64_t *shape)
{
    struct matrix x = row_input(run, run->batch, shape[0]), y = row_input(run, run->batch, shape[1]);
    struct matrix w = row_input(run, run->batch, 1);
    op_gram(run->queue, x, y, w, shared_output(run, DTYPE_F64, shape[0], shape[1]));
}

/* A state's products with itself: x and y are one view. shape: K */
static void run_gram_own(struct op_run *run, const int64_t *shape)
{
    struct matrix x = row_input(run, run->batch, shape[0]), w = row_input(run, run->batch, 1);
    op_gram(run->queue, x, x, w, shared_output(run, DTYPE_F64, shape[0], shape[0]));
}

#define EXACT   .tolerance = 0
#define PRODUCT .tolerance = F32_PRODUCT, .bf16_tolerance = BF16_PRODUCT
#define MATMUL  PRODUCT, .few = true
#define SUM     PRODUCT, .mixes_rows = true
#define F32_SUM .tolerance = F32_PRODUCT, .mixes_rows = true
static const struct op_case cases[] = {
    {"op_matmul", run_matmul, {96, 64, DTYPE_F32, false, OP_STORE}, MATMUL},
    {"op_matmul", run_matmul, {1, 1, DTYPE_F32, true, OP_ADD}, MATMUL},
    {"op_matmul", run_matmul, {51, 37, DTYPE_F32, true, OP_ADD}, .batches = {1, 7, 9, 130}, MATMUL},
    {"op_matmul", run_matmul, {77, 45, DTYPE_F16, false, OP_ADD}, MATMUL},
    {"op_matmul", run_matmul, {33, 100, DTYPE_BF16, true, OP_STORE}, MATMUL},
    {"op_matmul", run_matmul, {67, 96, DTYPE_Q8_0, true, OP_ADD}, MATMUL},
    {"op_matmul", run_matmul, {50, 64, DTYPE_Q4_0, false, OP_STORE}, MATMUL},
    {"op_matmul", run_matmul, {40, 576, DTYPE_Q4_1, false, OP_STORE}, MATMUL},
    {"op_matmul", run_matmul, {40, 1050, DTYPE_BF16, true, OP_ADD}, MATMUL}, /* long sums, in slices */
    {"op_matmul", run_matmul, {5197, 32, DTYPE_Q8_0, false, OP_STORE}, MATMUL},
    {"op_matmul_grad", run_matmul_grad, {96, 64, DTYPE_F32, OP_STORE}, PRODUCT},
    {"op_matmul_grad", run_matmul_grad, {51, 37, DTYPE_BF16, OP_ADD}, PRODUCT},
    {"op_matmul_grad", run_matmul_grad, {67, 96, DTYPE_Q4_1, OP_ADD}, PRODUCT},
    {"op_matmul_grad", run_matmul_grad, {5197, 32, DTYPE_Q8_0, OP_STORE}, PRODUCT},
    /* An embedding is a conversion, exact but for d q + m, which may be rounded once or twice. */
    {"op_embed", run_embed, {130, 37, DTYPE_F32}, EXACT},
    {"op_embed", run_embed, {130, 37, DTYPE_F16}, EXACT},
    {"op_embed", run_embed, {130, 37, DTYPE_BF16}, EXACT},
    {"op_embed", run_embed, {130, 96, DTYPE_Q8_0}, EXACT},
    {"op_embed", run_embed, {130, 96, DTYPE_Q4_0}, EXACT},
    {"op_embed", run_embed, {130, 96, DTYPE_Q4_1}, .tolerance = 3e-7},
    {"op_gather", run_gather, {51, 37, DTYPE_F32}, MATMUL},
    {"op_gather", run_gather, {130, 96, DTYPE_F16}, MATMUL},
    {"op_gather", run_gather, {1, 64, DTYPE_Q4_0}, MATMUL},
    {"op_gather", run_gather, {530, 64, DTYPE_Q8_0}, MATMUL},
    {"op_gather", run_gather, {300, 1050, DTYPE_BF16}, MATMUL},
    {"op_gather", run_gather, {33, 576, DTYPE_Q4_1}, MATMUL},
    {"op_gemm", run_gemm, {64, 64, false, OP_STORE}, PRODUCT},
    {"op_gemm", run_gemm, {51, 37, false, OP_ADD}, .batches = {1, 7, 9, 130}, PRODUCT},
    {"op_gemm", run_gemm, {51, 37, true, OP_STORE}, PRODUCT},
    {"op_gemm", run_gemm, {1, 130, true, OP_ADD}, PRODUCT},
    {"op_gemm", run_gemm, {1100, 20, false, OP_STORE}, PRODUCT},
    {"op_gemm_group", run_gemm_group, {51, 37, OP_STORE}, PRODUCT},
    {"op_gemm_group", run_gemm_group, {24, 130, OP_ADD}, PRODUCT},
    {"op_gemm_group a^T", run_gemm_group_transposed, {37, 51, OP_ADD}, .batches = {1, 9, 600}, SUM},
    {"op_gemm a^T", run_gemm_transposed, {64, 48, false, OP_STORE}, .batches = {1, 9, 512, 1100}, SUM},
    {"op_gemm a^T", run_gemm_transposed, {70, 51, false, OP_ADD}, .batches = {7, 511, 513}, SUM},
    {"op_gemm a^T", run_gemm_transposed, {37, 51, true, OP_ADD}, .batches = {1, 9, 600}, SUM},
    {"op_gram", run_gram, {48, 64}, .batches = {1, 9, 512, 1100}, F32_SUM},
    {"op_gram", run_gram, {70, 1}, .batches = {7, 511, 513}, F32_SUM},
    {"op_gram", run_gram_own, {37}, .batches = {1, 70, 1100}, F32_SUM},
};
OP_TESTS(products, cases)

TEST_MAIN
