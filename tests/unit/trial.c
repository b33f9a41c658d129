/* Trials: every kind of head with every output and loss: its gradient against finite differences of its
 * loss, and that training lowers the loss; the optimizer's arithmetic; trials that fail; groups. */
#include "tests/trial_bench.h"

#include <glob.h>
#include <math.h>

#include "common/head/kind.h"
#include "tests/interrupted.h"
#include "tests/mode.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"

/* The loss of the loaded batch as the trial stands: a step whose learning rate is 0 changes no parameter. */
static double loss_now(struct bench *bench, struct trial *trial)
{
    struct trial_result result = {0};
    struct error error = {0};
    if (take_step(bench, trial, 10, &result, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    return result.loss;
}

static double loss_at(struct bench *bench, struct trial *trial, struct matrix value, float *values, int64_t at,
                      float moved)
{
    const float kept = values[at];
    values[at] = moved;
    op_write(trial->queue, value, values);
    const double loss = loss_now(bench, trial);
    values[at] = kept;
    op_write(trial->queue, value, values);
    return loss;
}

/* Compares some of a parameter's gradient with central differences; returns the largest error, in units
 * of the largest gradient. */
static double gradient_error(struct bench *bench, struct trial *trial, int parameter, const float *gradient)
{
    const struct matrix value = head_parameter(trial->head, parameter)->value;
    const int64_t count = value.rows * value.cols, stride = count > 40 ? count / 40 : 1;
    const float step = 4e-3f;
    struct error error;
    double worst = 0, largest = 0;
    float *values;
    if (array_alloc(&values, count, &error) < 0)
        return INFINITY;
    op_read(trial->queue, value, values);
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(gradient[i]));
    for (int64_t i = 0; i < count; i += stride) {
        const float up = values[i] + step, down = values[i] - step;
        const double difference =
            (loss_at(bench, trial, value, values, i, up) - loss_at(bench, trial, value, values, i, down)) /
            ((double)up - down);
        worst = fmax(worst, fabs(difference - gradient[i]));
    }
    free(values);
    return worst / largest;
}

static void check_gradient(struct bench *bench, int kind, enum head_output output, enum trial_loss loss,
                           double temperature)
{
    struct error error = {0};
    struct trial_config config = make_config(kind, output, loss);
    struct trial *trial;
    config.temperature = temperature;
    config.share = 0.3;
    config.rate = 0;
    config.clip = 0;
    config.beta1 = 0.5; /* after one step the first moment is half the gradient */
    REQUIRE_OK(bench_trial(bench, &config, kind == 1 ? INIT_RANDOM : INIT_COPY, &trial, &error));
    loss_now(bench, trial);
    float **gradients;
    REQUIRE_OK(array_alloc(&gradients, head_parameter_count(trial->head), &error));
    for (int i = 0; i < head_parameter_count(trial->head); i++) {
        const struct matrix moment = trial_first_moment(trial, i);
        if (matrix_is_none(moment))
            continue;
        REQUIRE_OK(array_alloc(&gradients[i], moment.rows * moment.cols, &error));
        op_read(trial->queue, moment, gradients[i]);
        REQUIRE_OK(queue_wait(trial->queue, &error));
        for (int64_t v = 0; v < moment.rows * moment.cols; v++)
            gradients[i][v] *= 2;
    }
    for (int i = 0; i < head_parameter_count(trial->head); i++) {
        /* Losses are means of 64 f32 values near 4, exact to 3e-8; over 8e-3 that is 4e-6, against
         * gradients whose largest is 1e-3 or more; the curvature adds as much. */
        const double worst = gradients[i] ? gradient_error(bench, trial, i, gradients[i]) : 0;
        if (!(worst < 0.02))
            test_fail(__FILE__, __LINE__, "%s: the gradient of %s is off by %g", config.id,
                      head_parameter(trial->head, i)->name, worst);
        free(gradients[i]);
    }
    free(gradients);
    trial_destroy(trial);
}

TEST(trial_gradients)
{
    struct error error = {0};
    struct bench bench;
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    for (int kind = 0; kind < KINDS; kind++) {
        for (int output = OUTPUT_TIED; output <= OUTPUT_UNTIED; output++) {
            check_gradient(&bench, kind, (enum head_output)output, LOSS_CROSS_ENTROPY, 1);
            check_gradient(&bench, kind, (enum head_output)output, LOSS_DISTILLATION, 1);
            check_gradient(&bench, kind, (enum head_output)output, LOSS_MIX, 1);
            check_gradient(&bench, kind, (enum head_output)output, LOSS_MIX, 2);
        }
    }
    bench_close(&bench);
}

TEST(trial_loss_goes_down)
{
    struct error error = {0};
    struct bench bench;
    struct trial_result result;
    REQUIRE_OK(bench_open(&bench, &error));
    for (int i = 0; i < KINDS * 4; i++) {
        const struct trial_config config =
            make_config(i / 4, (enum head_output)(i / 2 % 2), (enum trial_loss)(i % 2));
        struct trial *trial;
        double first = 0, last = 0;
        REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trial, &error));
        for (int step = 1; step <= 30; step++) {
            REQUIRE_OK(bench_load(&bench, &error));
            REQUIRE_OK(take_step(&bench, trial, 30, &result, &error));
            first += step <= 5 ? result.loss / 5 : 0;
            last += step > 25 ? result.loss / 5 : 0;
        }
        CHECK(trial->step == 30);
        if (!(last < first - 0.005))
            test_fail(__FILE__, __LINE__, "%s: loss %g, later %g", config.id, first, last);
        trial_destroy(trial);
    }
    bench_close(&bench);
}

/* The first Adam step moves every value by the rate against the sign of its gradient, however large,
 * while epsilon is small beside it. */
TEST(trial_first_step_is_the_rate)
{
    struct error error = {0};
    struct bench bench;
    struct trial_config config = make_config(0, OUTPUT_TIED, LOSS_CROSS_ENTROPY);
    struct trial *trial;
    struct trial_result result;
    float before[24], after[24];
    config.epsilon = 1e-12;
    config.warmup = 3;
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trial, &error));
    op_read(trial->queue, head_parameter(trial->head, 0)->value, before);
    REQUIRE_OK(take_step(&bench, trial, 30, &result, &error));
    op_read(trial->queue, head_parameter(trial->head, 0)->value, after);
    REQUIRE_OK(queue_wait(trial->queue, &error));
    CHECK(fabs(result.rate - 1e-3) < 1e-12); /* a third of 3e-3 */
    for (int i = 0; i < 24; i++)
        CHECK(fabs(fabs(after[i] - before[i]) - 1e-3) < 1e-6);
    trial_destroy(trial);
    bench_close(&bench);
}

/* Clipping scales the gradient: Adam's first moment shows it. */
TEST(trial_clips_the_norm)
{
    struct error error = {0};
    struct bench bench;
    struct trial_config config = make_config(0, OUTPUT_TIED, LOSS_CROSS_ENTROPY);
    struct trial *trial;
    struct trial_result result;
    float moment[24];
    double squares = 0;
    config.clip = 1e-3;
    config.beta1 = 0;
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trial, &error));
    REQUIRE_OK(take_step(&bench, trial, 30, &result, &error));
    CHECK(result.norm > 1e-3);
    op_read(trial->queue, trial_first_moment(trial, 0), moment);
    REQUIRE_OK(queue_wait(trial->queue, &error));
    for (int i = 0; i < 24; i++)
        squares += (double)moment[i] * moment[i];
    CHECK(fabs(sqrt(squares) / 1e-3 - 1) < 1e-4);
    trial_destroy(trial);
    bench_close(&bench);
}

static void read_scale(struct trial *trial, float scale[24])
{
    op_read(trial->queue, head_parameter(trial->head, head_parameter_count(trial->head) - 1)->value, scale);
}

TEST(trial_that_fails_leaves_the_others_alone)
{
    struct error error = {0};
    struct bench bench;
    const struct trial_config good = make_config(1, OUTPUT_TIED, LOSS_CROSS_ENTROPY);
    const struct trial_config bad = make_config(2, OUTPUT_TIED, LOSS_DISTILLATION);
    struct trial *alone, *beside, *broken;
    struct trial_result result;
    float nothing[24], expected[24], found[24];
    for (int i = 0; i < 24; i++)
        nothing[i] = NAN;
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    REQUIRE_OK(bench_trial(&bench, &good, INIT_COPY, &alone, &error));
    REQUIRE_OK(bench_trial(&bench, &good, INIT_COPY, &beside, &error));
    REQUIRE_OK(bench_trial(&bench, &bad, INIT_COPY, &broken, &error));
    REQUIRE_OK(take_step(&bench, alone, 30, &result, &error));
    op_write(broken->queue, head_parameter(broken->head, 3)->value, nothing);
    CHECK(take_step(&bench, broken, 30, &result, &error) < 0);
    CHECK_TEXT(error.text, "the loss of step 1 is not a number");
    CHECK(broken->step == 0);
    REQUIRE_OK(take_step(&bench, beside, 30, &result, &error));
    read_scale(alone, expected);
    read_scale(beside, found);
    CHECK(!memcmp(expected, found, sizeof found));
    trial_destroy(alone);
    trial_destroy(beside);
    trial_destroy(broken);
    bench_close(&bench);
}

TEST(trial_goes_on_from_a_checkpoint)
{
    struct error error = {0};
    struct bench bench;
    struct trial_config config = make_config(2, OUTPUT_UNTIED, LOSS_DISTILLATION), other;
    struct trial *first, *second;
    struct trial_result result;
    char path[4200];
    float expected[24], found[24];
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    snprintf(path, sizeof path, "%s/last.ckpt", bench.folder);
    REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &first, &error));
    REQUIRE_OK(bench_trial(&bench, &config, INIT_RANDOM, &second, &error));
    for (int i = 0; i < 2; i++)
        REQUIRE_OK(take_step(&bench, first, 30, &result, &error));
    REQUIRE_OK(checkpoint_write(first, path, "0123456789abcdef", &error));
    REQUIRE_OK(take_step(&bench, first, 30, &result, &error));
    REQUIRE_OK(checkpoint_read(second, path, "0123456789abcdef", &error));
    CHECK(second->step == 2);
    REQUIRE_OK(take_step(&bench, second, 30, &result, &error));
    for (int i = 0; i < head_parameter_count(first->head); i++) {
        const struct matrix value = head_parameter(first->head, i)->value;
        if (value.cols != 24 || value.rows != 1)
            continue;
        op_read(first->queue, value, expected);
        op_read(second->queue, head_parameter(second->head, i)->value, found);
        CHECK(!memcmp(expected, found, sizeof found));
    }

    CHECK(checkpoint_read(second, path, "fedcba9876543210", &error) < 0);
    CHECK_TEXT(error.text, "is a checkpoint for model 0123456789abcdef");
    trial_destroy(second);
    other = config;
    strcpy(other.id, "other");
    REQUIRE_OK(bench_trial(&bench, &other, INIT_COPY, &second, &error));
    CHECK(checkpoint_read(second, path, "0123456789abcdef", &error) < 0);
    CHECK_TEXT(error.text, "is a checkpoint of trial mlp-untied-distillation, not of other");

    FILE *file = fopen(path, "r+b");
    REQUIRE(file);
    fseek(file, -100, SEEK_END);
    const int byte = fgetc(file);
    fseek(file, -100, SEEK_END);
    fputc(byte ^ 4, file);
    fclose(file);
    CHECK(checkpoint_read(first, path, "0123456789abcdef", &error) < 0);
    CHECK_TEXT(error.text, "damaged");
    CHECK(first->step == 3);
    trial_destroy(first);
    trial_destroy(second);
    bench_close(&bench);
}

/* As if it began there: the first update of an optimizer that begins moves each value by the rate, at any
 * step. */
TEST(trial_restarts_from_a_head)
{
    struct error error = {0};
    struct bench bench;
    struct trial_config config = make_config(0, OUTPUT_TIED, LOSS_DISTILLATION);
    struct trial *first, *second, *third;
    struct trial_result result;
    char path[4200], checkpoint[4200];
    float before[24], after[24], resumed[24];
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    snprintf(path, sizeof path, "%s/head.safetensors", bench.folder);
    snprintf(checkpoint, sizeof checkpoint, "%s/last.ckpt", bench.folder);
    REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &first, &error));
    for (int i = 0; i < 2; i++)
        REQUIRE_OK(take_step(&bench, first, 30, &result, &error));
    REQUIRE_OK(head_save(first->head, first->queue, path, "0123456789abcdef", &error));
    REQUIRE_OK(trial_restart(&config, path, &bench.stores.config, "0123456789abcdef", 20, bench.backend,
                             &second, &error));
    CHECK(second->step == 20 && second->trained == first->trained && second->values == first->values);
    REQUIRE_OK(checkpoint_write(second, checkpoint, "0123456789abcdef", &error));
    REQUIRE_OK(bench_trial(&bench, &config, INIT_RANDOM, &third, &error));
    REQUIRE_OK(checkpoint_read(third, checkpoint, "0123456789abcdef", &error));
    CHECK(third->step == 20 && third->optimizer_start == 20);
    REQUIRE(head_parameter_count(first->head) == 1); /* the scale */
    op_read(second->queue, head_parameter(second->head, 0)->value, before);
    REQUIRE_OK(queue_wait(second->queue, &error));
    REQUIRE_OK(take_step(&bench, second, 30, &result, &error));
    REQUIRE_OK(take_step(&bench, third, 30, &result, &error));
    op_read(second->queue, head_parameter(second->head, 0)->value, after);
    REQUIRE_OK(queue_wait(second->queue, &error));
    op_read(third->queue, head_parameter(third->head, 0)->value, resumed);
    REQUIRE_OK(queue_wait(third->queue, &error));
    CHECK(!memcmp(after, resumed, sizeof after));
    for (int i = 0; i < 24; i++)
        CHECK(fabs(fabs((double)after[i] - (double)before[i]) - result.rate) < 0.01 * result.rate);
    trial_destroy(first);
    trial_destroy(second);
    trial_destroy(third);
    bench_close(&bench);
}

/* ---- groups ---- */

static const struct mode {
    const char *device;
    enum math math;
    double tolerance; /* of a loss, as step.h states it; 0: the same bytes */
} modes[] = {{"ref", MATH_F32, 0},
             {"cpu", MATH_F32, 0},
             {"cpu", MATH_BF16, 0},
             {"cuda", MATH_F32, 1e-4},
             {"cuda", MATH_BF16, 1e-2}};
enum { MODES = sizeof modes / sizeof modes[0] };

static int bench_open_in(struct bench *bench, const struct mode *mode, struct error *error)
{
    return bench_open_on(bench, mode->device, mode->math, &small_fixture, TEACH_ALL, error);
}

/* Runs a check in one math mode, wherever this run of the tests wants. */
static void in_modes(void (*check)(const struct mode *mode), enum math math)
{
    for (int m = 0; m < MODES; m++) {
        if (modes[m].math == math && test_wants_mode(modes[m].device, math))
            check(&modes[m]);
    }
}

#define TEST_IN_MODES(name, check)                                                                             \
    TEST(name)                                                                                                 \
    {                                                                                                          \
        in_modes(check, MATH_F32);                                                                             \
    }                                                                                                          \
    TEST(name##_in_bf16)                                                                                       \
    {                                                                                                          \
        in_modes(check, MATH_BF16);                                                                            \
    }

enum { MEMBERS = 16, GROUP_STEPS = 3 };

/* Trials of one loss, of all kinds, each with a rate of its own. A mix has all that a loss may have. */
static int make_members(struct bench *bench, enum trial_loss loss, struct trial **trials, struct error *error)
{
    for (int i = 0; i < MEMBERS; i++) {
        struct trial_config config = make_config(i % KINDS, OUTPUT_TIED, loss);
        config.rate = 1e-3 * (i + 1);
        config.temperature = loss == LOSS_MIX ? 2 : 1;
        config.weighting = loss == LOSS_MIX ? WEIGHTING_CONFIDENCE : WEIGHTING_NONE;
        if (bench_trial(bench, &config, i % 2 ? INIT_RANDOM : INIT_COPY, &trials[i], error) < 0)
            return -1;
    }
    return 0;
}

static void destroy_members(struct trial **trials)
{
    for (int i = 0; i < MEMBERS; i++)
        trial_destroy(trials[i]);
}

/* A step of all that have not failed, in groups of `size`. */
static void step_members(struct bench *bench, struct trial *const *trials, int size,
                         struct trial_result *results)
{
    struct trial *group[TRIALS_TOGETHER];
    struct error error = {0};
    int count = 0;
    for (int i = 0; i <= MEMBERS; i++) {
        if (count == size || (i == MEMBERS && count > 0)) {
            REQUIRE_OK(trials_step(group, count, bench->workspace, bench->batch, 30, results, &error));
            results += count;
            count = 0;
        }
        if (i < MEMBERS && !trials[i]->failed)
            group[count++] = trials[i];
    }
}

/* Whether both have the same bytes in every parameter and moment, after as many steps. */
static bool same_trials(struct trial *a, struct trial *b)
{
    bool same = a->step == b->step && a->failed == b->failed;
    for (int i = 0; i < head_parameter_count(a->head) && same; i++) {
        const struct matrix of_a[] = {head_parameter(a->head, i)->value, trial_first_moment(a, i)};
        const struct matrix of_b[] = {head_parameter(b->head, i)->value, trial_first_moment(b, i)};
        for (int m = 0; m < 2 && !matrix_is_none(of_a[m]); m++) {
            const int64_t values = of_a[m].rows * of_a[m].cols;
            struct error error;
            float *left, *right;
            if (array_alloc(&left, values, &error) < 0 || array_alloc(&right, values, &error) < 0)
                return false;
            op_read(a->queue, of_a[m], left);
            op_read(b->queue, of_b[m], right);
            same = queue_wait(a->queue, &error) == 0 && queue_wait(b->queue, &error) == 0 && same &&
                   !memcmp(left, right, (size_t)values * sizeof *left);
            free(left);
            free(right);
        }
    }
    return same;
}

/* 16 trials alone, two by two, six by six and all at once. */
static void check_groups(const struct mode *mode, enum trial_loss loss)
{
    static const int sizes[] = {2, 6, 16};
    struct error error = {0};
    struct bench bench;
    struct trial *alone[MEMBERS], *grouped[MEMBERS];
    struct trial_result expected[GROUP_STEPS][MEMBERS], found[MEMBERS];
    REQUIRE_OK(bench_open_in(&bench, mode, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    CHECK(bench.workspace->trials == MEMBERS);
    REQUIRE_OK(make_members(&bench, loss, alone, &error));
    for (int step = 0; step < GROUP_STEPS; step++)
        step_members(&bench, alone, 1, expected[step]);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        REQUIRE_OK(make_members(&bench, loss, grouped, &error));
        for (int step = 0; step < GROUP_STEPS; step++) {
            step_members(&bench, grouped, sizes[s], found);
            for (int i = 0; i < MEMBERS; i++)
                CHECK(fabs(found[i].loss / expected[step][i].loss - 1) <= mode->tolerance);
        }
        for (int i = 0; i < MEMBERS; i++) {
            CHECK(grouped[i]->step == GROUP_STEPS);
            if (mode->tolerance == 0 && !same_trials(alone[i], grouped[i]))
                test_fail(__FILE__, __LINE__, "%s, %s %d in a group of %d differs from itself alone",
                          mode->device, grouped[i]->config.id, i, sizes[s]);
        }
        destroy_members(grouped);
    }
    destroy_members(alone);
    bench_close(&bench);
}

static void check_all_groups(const struct mode *mode)
{
    check_groups(mode, LOSS_CROSS_ENTROPY);
    check_groups(mode, LOSS_DISTILLATION);
    check_groups(mode, LOSS_MIX);
}

TEST_IN_MODES(groups_give_what_trials_give_alone, check_all_groups)

/* The third of a group has a NaN in a parameter: the others take the step, and the next ones, as without it. */
static void check_failure(const struct mode *mode)
{
    struct error error = {0};
    struct bench bench;
    struct trial *alone[MEMBERS], *grouped[MEMBERS];
    struct trial_result results[MEMBERS];
    float nothing[24];
    for (int i = 0; i < 24; i++)
        nothing[i] = NAN;
    REQUIRE_OK(bench_open_in(&bench, mode, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    REQUIRE_OK(make_members(&bench, LOSS_DISTILLATION, alone, &error));
    REQUIRE_OK(make_members(&bench, LOSS_DISTILLATION, grouped, &error));
    struct trial *broken = grouped[2];
    op_write(broken->queue, head_parameter(broken->head, 3)->value, nothing);
    REQUIRE_OK(queue_wait(broken->queue, &error));
    for (int step = 0; step < 2; step++) {
        step_members(&bench, grouped, MEMBERS, results);
        step_members(&bench, alone, MEMBERS, results);
    }
    CHECK(broken->failed && broken->step == 0);
    CHECK_TEXT(broken->reason.text, "the loss of step 1 is not a number");
    for (int i = 0; i < MEMBERS; i++) {
        if (i != 2)
            CHECK(!grouped[i]->failed && grouped[i]->step == 2);
        if (i != 2 && mode->tolerance == 0)
            CHECK(same_trials(alone[i], grouped[i]));
    }
    destroy_members(alone);
    destroy_members(grouped);
    bench_close(&bench);
}

TEST_IN_MODES(groups_go_on_without_a_trial_that_fails, check_failure)

/* From checkpoints after two steps to the bytes of the third, in the same groups. */
static void check_resume(const struct mode *mode)
{
    struct error error = {0};
    struct bench bench;
    struct trial *whole[MEMBERS], *resumed[MEMBERS];
    struct trial_result results[MEMBERS];
    char path[4200];
    REQUIRE_OK(bench_open_in(&bench, mode, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    REQUIRE_OK(make_members(&bench, LOSS_CROSS_ENTROPY, whole, &error));
    REQUIRE_OK(make_members(&bench, LOSS_CROSS_ENTROPY, resumed, &error));
    for (int step = 0; step < GROUP_STEPS; step++) {
        for (int i = 0; step == 2 && i < MEMBERS; i++) {
            snprintf(path, sizeof path, "%s/%d.ckpt", bench.folder, i);
            REQUIRE_OK(checkpoint_write(whole[i], path, "0123456789abcdef", &error));
            REQUIRE_OK(checkpoint_read(resumed[i], path, "0123456789abcdef", &error));
        }
        step_members(&bench, whole, 6, results);
    }
    step_members(&bench, resumed, 6, results);
    for (int i = 0; i < MEMBERS; i++)
        CHECK(same_trials(whole[i], resumed[i]));
    destroy_members(whole);
    destroy_members(resumed);
    bench_close(&bench);
}

TEST_IN_MODES(groups_go_on_from_checkpoints, check_resume)

/* When a device fails, no trial is at fault, and none is marked. When it works again, the next group has clean
 * gradients. */
TEST(a_device_that_fails_marks_no_trial)
{
    struct error error = {0};
    struct bench bench;
    struct trial *trials[MEMBERS], *others[MEMBERS];
    struct trial_result results[MEMBERS];
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    REQUIRE_OK(make_members(&bench, LOSS_CROSS_ENTROPY, trials, &error));
    REQUIRE_OK(make_members(&bench, LOSS_CROSS_ENTROPY, others, &error));
    op_copy(bench.workspace->queue, bench.batch->u, bench.batch->labels);
    CHECK(trials_step(trials, 6, bench.workspace, bench.batch, 30, results, &error) == -1);
    CHECK_TEXT(error.text, "op_copy");
    CHECK(error.kind == ERROR_INTERNAL);
    for (int i = 0; i < 6; i++)
        CHECK(!trials[i]->failed && !trials[i]->starved && trials[i]->step == 0);
    REQUIRE_OK(trials_step(trials + 6, 6, bench.workspace, bench.batch, 30, results, &error));
    REQUIRE_OK(trials_step(others + 6, 6, bench.workspace, bench.batch, 30, results, &error));
    for (int i = 6; i < 12; i++)
        CHECK(same_trials(trials[i], others[i]) && trials[i]->step == 1);
    destroy_members(trials);
    destroy_members(others);
    bench_close(&bench);
}

/* Groups are bounded by rows, and few rows are not stacked. */
TEST(groups_are_bounded)
{
    static const struct {
        int rows, trials, expected;
    } cases[] = {{8, 16, 1},    {9, 16, 16},   {9, 40, TRIALS_TOGETHER},
                 {256, 16, 16}, {1024, 16, 4}, {1024, 3, 3},
                 {2049, 16, 1}, {8192, 16, 1}};
    struct error error = {0};
    struct backend *backend;
    REQUIRE_OK(backend_open("ref", &(struct backend_options){.threads = 1}, &backend, &error));
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct workspace *workspace;
        REQUIRE_OK(workspace_create(backend, 1, cases[c].rows, 4, cases[c].trials, &workspace, &error));
        CHECK(workspace->trials == cases[c].expected);
        workspace_destroy(workspace);
    }
    backend_close(backend);
}

/* ---- pieces of a batch ---- */

/* The gradient of a trained parameter after a first step, as Adam's moment has it, at least as many values as
 * the parameter has. */
static float *first_gradient(struct trial *trial, int parameter, struct error *error)
{
    const struct matrix moment = trial_first_moment(trial, parameter);
    float *values;
    if (array_alloc(&values, moment.rows * moment.cols, error) < 0)
        return NULL;
    op_read(trial->queue, moment, values);
    if (queue_wait(trial->queue, error) == 0)
        return values;
    free(values);
    return NULL;
}

/* The largest difference of two trials' gradients, in units of a parameter's largest gradient. */
static double gradients_apart(struct trial *a, struct trial *b)
{
    double worst = 0;
    struct error error;
    for (int i = 0; i < head_parameter_count(a->head); i++) {
        const struct matrix moment = trial_first_moment(a, i);
        double largest = 0, apart = 0;
        if (matrix_is_none(moment))
            continue;
        float *of_a = first_gradient(a, i, &error), *of_b = first_gradient(b, i, &error);
        for (int64_t v = 0; of_a && of_b && v < moment.rows * moment.cols; v++) {
            largest = fmax(largest, fabs(of_a[v]));
            apart = fmax(apart, fabs((double)of_a[v] - of_b[v]));
        }
        worst = largest > 0 ? fmax(worst, apart / largest) : INFINITY;
        free(of_a);
        free(of_b);
    }
    return worst;
}

/* A step of each kind with the whole batch, and with it in pieces. */
static void compare_steps(struct bench *bench, struct workspace *small, const struct mode *mode)
{
    const double tolerance = mode->tolerance > 0 ? mode->tolerance : 1e-5;
    struct error error = {0};
    for (int i = 0; i < KINDS * 4; i++) {
        const struct trial_config config =
            make_config(i / 4, (enum head_output)(i / 2 % 2), (enum trial_loss)(i % 2));
        const enum head_init init = i / 4 == 1 ? INIT_RANDOM : INIT_COPY; /* with which no gradient is zero */
        struct trial *whole, *pieces;
        struct trial_result expected, found;
        REQUIRE_OK(bench_trial(bench, &config, init, &whole, &error));
        REQUIRE_OK(bench_trial(bench, &config, init, &pieces, &error));
        REQUIRE_OK(trials_step(&whole, 1, bench->workspace, bench->batch, 30, &expected, &error));
        REQUIRE_OK(trials_step(&pieces, 1, small, bench->batch, 30, &found, &error));
        CHECK(whole->step == 1 && pieces->step == 1);
        CHECK(fabs(found.loss / expected.loss - 1) <= mode->tolerance);
        CHECK(fabs(found.norm / expected.norm - 1) <= tolerance);
        if (!(gradients_apart(whole, pieces) <= tolerance))
            test_fail(__FILE__, __LINE__, "%s, %s: gradients are %g apart", mode->device, config.id,
                      gradients_apart(whole, pieces));
        trial_destroy(whole);
        trial_destroy(pieces);
    }
}

/* By a sequence at a time, and by half a sequence. */
static void check_pieces(const struct mode *mode)
{
    struct train_fixture fixture = small_fixture;
    struct error error = {0}, reason = {.kind = ERROR_NO_MEMORY};
    struct bench bench;
    struct workspace *small;
    fixture.rows = 48;
    REQUIRE_OK(bench_open_on(&bench, mode->device, mode->math, &fixture, TEACH_ALL, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    REQUIRE_OK(workspace_create(bench.backend, 1, fixture.rows, fixture.hidden, 1, &small, &error));
    CHECK(workspace_pieces(small, true, bench.batch->rows) == SEQUENCES);
    compare_steps(&bench, small, mode);
    CHECK(workspace_recover(small, true, &reason));
    CHECK(workspace_pieces(small, true, bench.batch->rows) == 2 * SEQUENCES);
    compare_steps(&bench, small, mode);
    workspace_destroy(small);
    bench_close(&bench);
}

TEST_IN_MODES(pieces_add_up_to_the_batch, check_pieces)

/* The pieces of a batch cover it, cut between sequences or into parts of one, and their spans say which rows
 * they are. */
static void check_cut(struct workspace *workspace, bool by_row, int length, int sequences)
{
    const int64_t rows = (int64_t)sequences * length;
    const struct span *spans;
    int64_t covered = 0;
    for (int64_t p = 0; p < workspace_pieces(workspace, by_row, rows); p++) {
        const struct piece piece = workspace_piece(workspace, by_row, rows, p);
        const int count = workspace_spans(workspace, piece, &spans);
        const bool whole = covered % length == 0 && piece.rows % length == 0;
        CHECK(piece.first == covered);
        CHECK(piece.rows > MATMUL_FEW_ROWS || rows <= MATMUL_FEW_ROWS);
        CHECK(whole || (by_row && count == 1 && covered / length == (covered + piece.rows - 1) / length));
        for (int i = 0; i < count; i++) {
            CHECK(spans[i].first == covered % length && !spans[i].kv);
            covered += spans[i].rows;
        }
        CHECK(covered == piece.first + piece.rows);
    }
    CHECK(covered == rows);
}

TEST(pieces_are_cut_between_sequences)
{
    struct error error = {0}, reason = {.kind = ERROR_NO_MEMORY};
    struct backend *backend;
    struct workspace *workspace;
    REQUIRE_OK(backend_open("ref", &(struct backend_options){.threads = 1}, &backend, &error));
    for (int length = 1; length <= 3 * PIECE_ROWS; length++) {
        const int sequences = 1 + 200 / length;
        for (int by_row = 0; by_row < 2; by_row++) {
            bool more = true;
            REQUIRE_OK(workspace_create(backend, sequences, length, 4, 1, &workspace, &error));
            while (more) {
                check_cut(workspace, by_row, length, sequences);
                check_cut(workspace, by_row, length, (sequences + 1) / 2); /* a split's last batch */
                check_cut(workspace, true, length, sequences);
                check_cut(workspace, false, length,
                          sequences); /* also of a workspace that other trials made small */
                const int64_t rows = workspace->rows;
                more = workspace_recover(workspace, by_row, &reason);
                CHECK(!more || workspace->rows < rows);
                if (!more)
                    CHECK(rows <= PIECE_ROWS || (!by_row && rows == length));
            }
            workspace_destroy(workspace);
        }
    }
    backend_close(backend);
}

/* ---- a kind whose rows depend on each other ---- */

static struct {
    int64_t rows, spans, longest;
} seen;

static void see_spans(struct queue *queue, const struct stage_run *runs, int count)
{
    const struct head_run *run = runs[0].run;
    int64_t rows = 0;
    for (int i = 0; i < run->span_count; i++) {
        CHECK(run->spans[i].first == 0 && !run->spans[i].kv);
        rows += run->spans[i].rows;
        seen.longest = run->spans[i].rows > seen.longest ? run->spans[i].rows : seen.longest;
    }
    CHECK(rows == run->x.rows);
    seen.rows += rows;
    seen.spans += run->span_count;
    stage_norm.forward(queue, runs, count);
}

static struct stage_kind seeing;

static void seeing_stages(const struct head_spec *spec, const struct model_config *config,
                          struct head_plan *plan)
{
    (void)spec, (void)config;
    plan_add_stage(plan, (struct stage){.kind = &seeing});
}

/* It gets whole sequences, also where memory has not held one for another trial. */
TEST(whole_sequences_for_a_kind_that_is_not_by_row)
{
    struct head_kind kind = {.name = "seeing", .stages = seeing_stages};
    struct train_fixture fixture = small_fixture;
    struct error error = {0}, reason = {.kind = ERROR_NO_MEMORY};
    struct bench bench;
    struct trial *trials[2];
    struct trial_result results[2];
    struct trial_config config = make_config(0, OUTPUT_TIED, LOSS_DISTILLATION);
    fixture.rows = 48;
    seeing = stage_norm;
    seeing.forward = see_spans;
    REQUIRE_OK(bench_open_on(&bench, "ref", MATH_F32, &fixture, TEACH_ALL, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trials[0], &error));
    config.spec.kind = &kind;
    REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trials[1], &error));
    REQUIRE_OK(trials_step(trials, 2, bench.workspace, bench.batch, 30, results, &error));
    CHECK(seen.rows == SEQUENCES * fixture.rows && seen.spans == SEQUENCES && seen.longest == fixture.rows);
    const double loss = results[1].loss;
    CHECK(loss == results[0].loss);
    while (bench.workspace->rows > PIECE_ROWS)
        REQUIRE(workspace_recover(bench.workspace, true, &reason));
    REQUIRE_OK(trials_step(trials, 1, bench.workspace, bench.batch, 30, results, &error));
    REQUIRE_OK(trials_step(trials + 1, 1, bench.workspace, bench.batch, 30, results + 1, &error));
    CHECK(seen.rows == 2 * SEQUENCES * fixture.rows && seen.spans == 2 * SEQUENCES);
    CHECK(seen.longest == fixture.rows && results[1].loss == results[0].loss && results[1].loss < loss);
    CHECK(!workspace_recover(bench.workspace, false, &reason));
    trial_destroy(trials[0]);
    trial_destroy(trials[1]);
    bench_close(&bench);
}

TEST(groups_share_loss_and_output_weight)
{
    const struct trial a = {.config = make_config(0, OUTPUT_TIED, LOSS_DISTILLATION)};
    const struct trial b = {.config = make_config(1, OUTPUT_TIED, LOSS_DISTILLATION)};
    const struct trial other_loss = {.config = make_config(0, OUTPUT_TIED, LOSS_CROSS_ENTROPY)};
    struct trial other_share = a, warm = a, weighted = a;
    other_share.config.share = 0.3;
    warm.config.temperature = 2;
    weighted.config.weighting = WEIGHTING_CONFIDENCE;
    CHECK(!trial_joins(&a, &other_share) && !trial_joins(&a, &warm) && !trial_joins(&a, &weighted));
    CHECK(trial_joins(&warm, &warm));
    const struct trial own_weight = {.config = make_config(0, OUTPUT_UNTIED, LOSS_DISTILLATION)};
    CHECK(trial_joins(&a, &b) && !trial_joins(&a, &other_loss));
    CHECK(!trial_joins(&own_weight, &a) && !trial_joins(&a, &own_weight));
    CHECK(!trial_joins(&own_weight, &own_weight));
}

/* A step or an evaluation that is interrupted does not count. Reading ends, too. The last test: see
 * interrupted.h. */
TEST(trial_interrupted)
{
    enum { VALUES = 24 * 24 };
    static float before[VALUES], after[VALUES];
    const struct trial_config config = make_config(1, OUTPUT_TIED, LOSS_DISTILLATION);
    struct error error = {0};
    struct bench bench;
    struct trial *trial;
    struct evaluation result, full;
    struct trial_result step;
    bool complete;
    REQUIRE(small_fixture.hidden * small_fixture.hidden == VALUES);
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trial, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    op_read(trial->queue, head_parameter(trial->head, 0)->value, before);
    REQUIRE_OK(queue_wait(trial->queue, &error));
    REQUIRE(be_interrupted());
    CHECK(trials_step(&trial, 1, bench.workspace, bench.batch, 10, &step, &error) < 0);
    CHECK(error.kind == ERROR_INTERRUPTED && trial->step == 0 && !trial->failed && !trial->starved);
    op_read(trial->queue, head_parameter(trial->head, 0)->value, after);
    REQUIRE_OK(queue_wait(trial->queue, &error));
    CHECK(!memcmp(before, after, sizeof before));
    const struct evaluation_setting setting = {&bench.stores, bench.batch, bench.workspace, SEQUENCES, 1, 4, 0};
    REQUIRE_OK(evaluate_trials(&setting, &trial, 1, &result, &full, NULL, &complete, &error));
    CHECK(!complete && !trial->failed);
    while (bench_load(&bench, &error) == 0)
        ;
    CHECK(error.kind == ERROR_INTERRUPTED);
    trial_destroy(trial);
    bench_close(&bench);
}

/* A checkpoint that takes longer than STOP_SECONDS gives up, and the one of before stays. */
TEST(trial_interrupted_checkpoint)
{
    struct error error = {0};
    struct bench bench;
    struct trial *trial;
    char path[4200], pattern[4300];
    glob_t left;
    REQUIRE_OK(bench_open(&bench, &error));
    const struct trial_config config = make_config(1, OUTPUT_UNTIED, LOSS_DISTILLATION);
    REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trial, &error));
    snprintf(path, sizeof path, "%s/last.ckpt", bench.folder);
    REQUIRE(be_interrupted() && cli_interrupted_for() > 0);
    unlink(path);
    if (cli_interrupted_for() < STOP_SECONDS / 2) /* a small one is kept still */
        CHECK(checkpoint_write(trial, path, "0123456789abcdef", &error) == 0);
    while (cli_interrupted_for() < STOP_SECONDS)
        usleep(10000);
    const bool there = access(path, F_OK) == 0;
    trial->step = 5;
    CHECK(checkpoint_write(trial, path, "0123456789abcdef", &error) < 0 && error.kind == ERROR_INTERRUPTED);
    CHECK_TEXT(error.text, "takes too long; the same command goes on from the one before");
    if (there) {
        int64_t step = -1;
        REQUIRE_OK(checkpoint_step(path, &step, &error));
        CHECK(step == 0);
        CHECK(checkpoint_read(trial, path, "0123456789abcdef", &error) < 0 && error.kind == ERROR_INTERRUPTED &&
              strstr(error.text, "the same command")); /* as after every stop */
        CHECK(trial->step == 5);
    }
    snprintf(pattern, sizeof pattern, "%s*.tmp*", path);
    CHECK(glob(pattern, 0, NULL, &left) == GLOB_NOMATCH);
    trial_destroy(trial);
    bench_close(&bench);
}

TEST_MAIN
