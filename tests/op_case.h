/* op_case.h: ops with their operands, run alike on any backend. For tests/ops.
 *
 *     static void run_norm(struct op_run *run, const int64_t *shape)
 *     {
 *         struct matrix x = row_input(run, run->batch, shape[0]);
 *         op_norm(run->queue, x, shared_input(run, 1, shape[1], 1), 1e-5f,
 *                 row_output(run, DTYPE_F32, run->batch, shape[0]));
 *     }
 *     static const struct op_case cases[] = {{"norm", run_norm, {48, 48}, .tolerance = 1e-6}, ...};
 *     OP_TESTS(norm, cases)
 *
 * An input's values depend only on which operand of the case it is and on the row: two backends get the
 * same inputs. Outputs start with random values. Values outside the views, and inputs, must not change.
 * A run can be made again by calls of some of its rows: `run` gets views of the operands that are there.
 */
#ifndef OFFRAMP_TESTS_OP_CASE_H
#define OFFRAMP_TESTS_OP_CASE_H

#include "kernels/ops.h"
#include "tests/test.h"

enum { OP_OPERANDS = 16, OP_DIMENSIONS = 8, OP_BATCHES = 5 };

struct op_run;

struct op_case {
    const char *op;
    void (*run)(struct op_run *run, const int64_t *shape);
    int64_t shape[OP_DIMENSIONS]; /* what `run` makes of it; the batch comes on top */
    int64_t batches[OP_BATCHES]; /* rows (of attention: sequences); none: 1, 7, 9 and 70 */
    double tolerance; /* largest error of a value, relative to its size plus the output's root mean square */
    double bf16_tolerance; /* the same under MATH_BF16; 0: no product, `tolerance` holds */
    bool mixes_rows; /* its row outputs depend on the other rows of the call */
    bool few; /* batches of at most MATMUL_FEW_ROWS run another kernel (ops.h) */
    int64_t many; /* the batch whose rows are computed in groups, too, above MATMUL_FEW_ROWS; 0: 300 */
};

struct op_operand {
    struct matrix view;
    size_t bytes; /* of the buffer */
    void *before, *after; /* the whole buffer on the host */
    bool is_output, is_per_row;
};

struct op_run {
    struct backend *backend;
    struct queue *queue;
    int64_t gap; /* values between rows, before the first, and behind the last */
    int64_t batch;
    int count;
    struct op_operand operand[OP_OPERANDS];
    struct weight *weight[OP_OPERANDS];
    void *weight_data[OP_OPERANDS];
    int weights;
    bool again; /* operands and weights are those that are there, in the order they were made */
    int64_t first; /* of the batch, in the batch of before */
    int count_again, weights_again;
};

/* Operands, made in the same order by every run of a case. Per row: `rows` is a multiple of the
 * batch, and neighbouring rows / batch rows belong together. */
struct matrix row_input(struct op_run *run, int64_t rows, int64_t cols); /* f32, normal */
struct matrix row_integers(struct op_run *run, int64_t rows, int32_t low, int32_t high); /* uniform */
struct matrix row_output(struct op_run *run, enum dtype type, int64_t rows, int64_t cols);
struct matrix row_moment(struct op_run *run, int64_t rows, int64_t cols); /* an f32 output, >= 0 at first */
struct matrix shared_input(struct op_run *run, int64_t rows, int64_t cols, double deviation);
struct matrix shared_integers(struct op_run *run, int64_t rows, int32_t low, int32_t high); /* uniform */
struct matrix shared_output(struct op_run *run, enum dtype type, int64_t rows, int64_t cols);
/* [rows, cols] of about 1 / sqrt(cols), in two parts when rows > 1. */
const struct weight *shared_weight(struct op_run *run, enum dtype type, int64_t rows, int64_t cols, bool bias,
                                   unsigned uses);

/* `rows` random rows of such a weight, gathered by this run; some are there twice. */
const struct weight *shared_subset(struct op_run *run, enum dtype type, int64_t rows, int64_t cols);

/* The tests every family has, in every math mode. */
void check_against_ref(enum math math, const struct op_case *cases, size_t count);
void check_threads(enum math math, const struct op_case *cases, size_t count);
void check_row_independence(enum math math, const struct op_case *cases, size_t count);

#define OP_TESTS_IN(mode, math, family, cases)                                                                 \
    TEST(family##_match_ref_in_##mode)                                                                         \
    {                                                                                                          \
        check_against_ref(math, cases, sizeof(cases) / sizeof *(cases));                                       \
    }                                                                                                          \
    TEST(family##_same_bytes_with_any_number_of_threads_in_##mode)                                             \
    {                                                                                                          \
        check_threads(math, cases, sizeof(cases) / sizeof *(cases));                                           \
    }                                                                                                          \
    TEST(family##_rows_do_not_depend_on_each_other_in_##mode)                                                  \
    {                                                                                                          \
        check_row_independence(math, cases, sizeof(cases) / sizeof *(cases));                                  \
    }
#define OP_TESTS(family, cases)                                                                                \
    OP_TESTS_IN(f32, MATH_F32, family, cases)                                                                  \
    OP_TESTS_IN(bf16, MATH_BF16, family, cases)

#endif
