/* optimizer.c: Adam on every backend. Tolerance: a dozen roundings of 2^-24, division and root among
 * them. */
#include "tests/op_case.h"

static const struct adam settings[] = {
    {.rate = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .decay = 0, .clip = 1, .step = 1},
    {.rate = 0.25f, .beta1 = 0.8f, .beta2 = 0.95f, .epsilon = 1e-3f, .decay = 0.1f, .clip = 0.3f, .step = 7},
    {.rate = 0.01f, .beta1 = 0.9f, .beta2 = 0.95f, .epsilon = 1e-8f, .decay = 0.01f, .clip = 1, .step = 100000},
};

static struct adam_update make_update(struct op_run *run, int setting, int64_t cols)
{
    return (struct adam_update){.adam = settings[setting],
                                .gradient = row_output(run, DTYPE_F32, run->batch, cols),
                                .value = row_output(run, DTYPE_F32, run->batch, cols),
                                .first = row_output(run, DTYPE_F32, run->batch, cols),
                                .second = row_moment(run, run->batch, cols)};
}

/* shape: cols, number of the settings */
static void run_adam(struct op_run *run, const int64_t *shape)
{
    const struct adam_update update = make_update(run, (int)shape[1], shape[0]);
    op_adam(run->queue, &update, 1);
}

/* shape: cols of each of three parameters, each with settings of its own */
static void run_adam_of_three(struct op_run *run, const int64_t *shape)
{
    const struct adam_update updates[3] = {make_update(run, 0, shape[0]), make_update(run, 1, shape[1]),
                                           make_update(run, 2, shape[2])};
    op_adam(run->queue, updates, 3);
}

static const struct op_case cases[] = {
    {"op_adam", run_adam, {1, 0}, .tolerance = 1e-6},
    {"op_adam", run_adam, {579, 0}, .tolerance = 1e-6},
    {"op_adam", run_adam, {579, 1}, .tolerance = 1e-6},
    {"op_adam", run_adam, {64, 2}, .tolerance = 1e-6},
    {"op_adam", run_adam_of_three, {64, 1, 579}, .tolerance = 1e-6},
    {"op_adam", run_adam_of_three, {579, 300, 7}, .tolerance = 1e-6},
};
OP_TESTS(optimizer, cases)

TEST_MAIN
