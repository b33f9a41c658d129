/* optimizer.c: Adam on every backend. Tolerance: a dozen roundings of 2^-24, division and root among
 * them. */
#include "tests/op_case.h"

/* shape: cols, number of the settings */
static void run_adam(struct op_run *run, const int64_t *shape)
{
    static const struct adam settings[] = {
        {.rate = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .decay = 0, .clip = 1, .step = 1},
        {.rate = 0.25f,
         .beta1 = 0.8f,
         .beta2 = 0.95f,
         .epsilon = 1e-3f,
         .decay = 0.1f,
         .clip = 0.3f,
         .step = 7},
        {.rate = 0.01f,
         .beta1 = 0.9f,
         .beta2 = 0.95f,
         .epsilon = 1e-8f,
         .decay = 0.01f,
         .clip = 1,
         .step = 100000},
    };
    struct matrix gradient = row_output(run, DTYPE_F32, run->batch, shape[0]);
    struct matrix value = row_output(run, DTYPE_F32, run->batch, shape[0]);
    struct matrix first = row_output(run, DTYPE_F32, run->batch, shape[0]);
    struct matrix second = row_moment(run, run->batch, shape[0]);
    op_adam(run->queue, &settings[shape[1]], gradient, value, first, second);
}

static const struct op_case cases[] = {
    {"op_adam", run_adam, {1, 0}, .tolerance = 1e-6},
    {"op_adam", run_adam, {579, 0}, .tolerance = 1e-6},
    {"op_adam", run_adam, {579, 1}, .tolerance = 1e-6},
    {"op_adam", run_adam, {64, 2}, .tolerance = 1e-6},
};
OP_TESTS(optimizer, cases)

TEST_MAIN
