/* Evaluation: what it says of trials against a plain computation from the stores, with a target and without,
 * and what a device that fails leaves. */
#include <math.h>

#include "tests/trial_bench.h"
#include "train/evaluate.h"

/* KL, agreement and loss as evaluate.h defines them, row by row and plainly. */
static struct evaluation evaluate_plainly(struct bench *bench, struct trial *trial, struct error *error)
{
    const int hidden = small_fixture.hidden, vocab = small_fixture.vocab, rows = small_fixture.rows;
    struct evaluation sum = {0};
    float *output = train_fixture_output(&small_fixture, error), *h = NULL, *teacher = NULL, *own = NULL;
    struct feed_plan plan = {.split = SPLIT_HELD_OUT, .sequences = 1, .end = 6};
    const struct feed_batch *next;
    struct feed *feed;
    const int own_place = head_parameter_count(trial->head) - 1;
    if (array_alloc(&h, rows * hidden, error) < 0 || array_alloc(&teacher, rows * hidden, error) < 0 ||
        array_alloc(&own, vocab * hidden, error) < 0)
        return sum;
    batch_plan(bench->batch, TEACH_STATES, &plan);
    if (feed_open(&bench->stores, &plan, 1, &feed, error) < 0)
        return sum;
    memcpy(own, output, (size_t)(vocab * hidden) * sizeof *own);
    if (trial->config.spec.output == OUTPUT_UNTIED)
        op_read(trial->queue, head_parameter(trial->head, own_place)->value, own);
    while (feed_next(feed, &next, error) == 0 && next) {
        if (batch_load(bench->batch, next, TEACH_STATES, error) < 0)
            break;
        const struct piece whole = {0, bench->batch->rows};
        struct stack stack;
        if (trials_forward(&trial, 1, bench->workspace, bench->batch, whole, &stack, error) < 0)
            break;
        op_read(bench->workspace->queue, stack.h, h);
        op_read(bench->workspace->queue, bench->batch->teacher, teacher);
        for (int r = 0; r < rows; r++) {
            double z[64], t[64], z_sum = 0, t_sum = 0, z_top = -INFINITY, t_top = -INFINITY;
            int z_best = 0, t_best = 0;
            for (int v = 0; v < vocab; v++) {
                z[v] = t[v] = 0;
                for (int c = 0; c < hidden; c++) {
                    z[v] += (double)h[r * hidden + c] * own[v * hidden + c];
                    t[v] += (double)teacher[r * hidden + c] * output[v * hidden + c];
                }
                z_sum += exp(z[v]);
                t_sum += exp(t[v]);
                if (z[v] > z_top)
                    z_top = z[z_best = v];
                if (t[v] > t_top)
                    t_top = t[t_best = v];
            }
            sum.loss += (log(z_sum) - z[next->labels[r]]) / (6 * rows);
            sum.agreement += (z_best == t_best) / (6.0 * rows);
            for (int v = 0; v < vocab; v++)
                sum.kl += exp(t[v]) / t_sum * (t[v] - log(t_sum) - z[v] + log(z_sum)) / (6 * rows);
        }
    }
    feed_close(feed);
    free(output);
    free(own);
    free(h);
    free(teacher);
    return sum;
}

/* Tied heads to `tolerance` of KL; others are measured against the stored states, whatever the target's
 * coding costs. */
static void check_evaluation(const struct train_fixture *fixture, double tolerance)
{
    struct error error = {0};
    struct bench bench;
    struct trial *trials[3];
    struct evaluation results[3], full;
    struct observed observed[3];
    bool complete;
    const int64_t tokens = small_fixture.held_out * small_fixture.rows;
    REQUIRE_OK(bench_open_store(&bench, fixture, TEACH_ALL, &error));
    for (int i = 0; i < 3; i++) {
        const struct trial_config config =
            make_config(i, i == 1 ? OUTPUT_UNTIED : OUTPUT_TIED, LOSS_DISTILLATION);
        REQUIRE_OK(bench_trial(&bench, &config, i == 2 ? INIT_COPY : INIT_RANDOM, &trials[i], &error));
        REQUIRE_OK(array_alloc(&observed[i].evidence, tokens, &error));
        REQUIRE_OK(array_alloc(&observed[i].agrees, tokens, &error));
    }
    const struct evaluation_setting setting = {&bench.stores, bench.batch, bench.workspace, SEQUENCES, 2, 4, 0};
    REQUIRE_OK(evaluate_trials(&setting, trials, 3, results, &full, observed, &complete, &error));
    CHECK(complete && full.agreement == 1 && full.kl == 0);
    CHECK(full.loss > 0.4 && full.loss < 4);
    for (int i = 0; i < 3; i++) {
        const struct evaluation expected = evaluate_plainly(&bench, trials[i], &error);
        double agreeing = 0;
        /* Sums of f32 values near 4: 3e-7 each. */
        CHECK(fabs(results[i].loss - expected.loss) < 1e-5);
        CHECK(fabs(results[i].kl - expected.kl) < (i == 1 ? 1e-5 : tolerance));
        CHECK(fabs(results[i].agreement - expected.agreement) < 1e-9);
        for (int64_t t = 0; t < tokens; t++) {
            const double confidence = observed[i].evidence[t].confidence;
            agreeing += observed[i].agrees[t];
            CHECK(confidence > 1. / 61 && confidence < 1.00001);
        }
        CHECK(fabs(agreeing / (double)tokens - expected.agreement) < 1e-9);
        free(observed[i].evidence);
        free(observed[i].agrees);
        trial_destroy(trials[i]);
    }
    bench_close(&bench);
}

static struct train_fixture fixture_with(const char *taps, const char *codec)
{
    struct train_fixture fixture = small_fixture;
    fixture.taps = taps;
    fixture.codec = codec;
    return fixture;
}

TEST(trial_evaluation)
{
    const struct train_fixture computed = fixture_with("1,2,2.mid,3,final", "lossless");
    const struct train_fixture stored = fixture_with("1,2,2.mid,3,final,target", "raw:f32");
    check_evaluation(&computed, 1e-5);
    check_evaluation(&stored, 1e-5);
    check_evaluation(&small_fixture, 1e-3); /* u and the final states are kept as bf16 */
}

/* Sums of the places [first, end) of some trials, [trial][place]. */
static int sum_places(struct bench *bench, struct trial *const *trials, int count, uint64_t first, uint64_t end,
                      int sequences, uint64_t seed, struct evaluation sums[][6], struct error *error)
{
    const struct evaluation_setting setting = {
        &bench->stores, bench->batch, bench->workspace, sequences, 2, seed, 2};
    struct evaluation *list[16], full[6];
    const struct evaluation_sums what = {.first = first, .end = end, .trial = list, .full = full};
    bool complete;
    for (int i = 0; i < count; i++)
        list[i] = sums[i];
    if (evaluate_places(&setting, trials, count, &what, &complete, error) < 0)
        return -1;
    return complete ? 0 : error_set(error, "it is not complete");
}

enum { TOGETHER = 7 };

/* Tied heads of all kinds and losses, and an untied one among them. */
static int make_seven(struct bench *bench, struct trial *trials[TOGETHER], struct error *error)
{
    for (int i = 0; i < TOGETHER; i++) {
        const struct trial_config config = make_config(i % KINDS, i == 3 ? OUTPUT_UNTIED : OUTPUT_TIED,
                                                       i < 4 ? LOSS_DISTILLATION : LOSS_CROSS_ENTROPY);
        if (bench_trial(bench, &config, i < KINDS ? INIT_RANDOM : INIT_COPY, &trials[i], error) < 0)
            return -1;
    }
    return 0;
}

/* What a trial is worth has the same bits alone and among others, and whatever is read together. */
static void check_together(const char *device)
{
    struct error error = {0};
    struct bench bench;
    struct trial *trials[TOGETHER];
    struct evaluation together[TOGETHER][6], alone[1][6], parts[TOGETHER][6];
    REQUIRE_OK(bench_open_on(&bench, device, MATH_F32, &small_fixture, TEACH_ALL, &error));
    REQUIRE_OK(make_seven(&bench, trials, &error));
    REQUIRE(bench.workspace->trials > TOGETHER);
    REQUIRE_OK(sum_places(&bench, trials, TOGETHER, 0, 6, SEQUENCES, 4, together, &error));
    REQUIRE_OK(sum_places(&bench, trials, TOGETHER, 2, 6, SEQUENCES, 4, parts, &error));
    REQUIRE_OK(sum_places(&bench, trials, TOGETHER, 0, 2, 1, 4, parts, &error));
    for (int i = 0; i < TOGETHER; i++) {
        CHECK(!memcmp(together[i], parts[i], sizeof parts[i]));
        REQUIRE_OK(sum_places(&bench, &trials[i], 1, 0, 6, SEQUENCES, 4, alone, &error));
        CHECK(!memcmp(together[i], alone[0], sizeof alone[0]));
        CHECK(i == 0 || memcmp(together[i], together[0], sizeof together[0]));
    }
    /* Fewer at a time, as where memory is short. */
    bench.workspace->trials = 3;
    REQUIRE_OK(sum_places(&bench, trials, TOGETHER, 0, 6, SEQUENCES, 4, parts, &error));
    CHECK(!memcmp(together, parts, sizeof parts));
    for (int i = 0; i < TOGETHER; i++)
        trial_destroy(trials[i]);
    bench_close(&bench);
}

TEST(trial_evaluation_together)
{
    check_together("ref");
    check_together("cpu");
}

/* The first places are the sample: the seed decides which sequences those are, each place is another one. */
TEST(trial_evaluation_of_a_sample)
{
    struct error error = {0};
    struct bench bench;
    struct trial *trials[TOGETHER];
    struct evaluation sums[TOGETHER][6], other[TOGETHER][6];
    int same = 0, moved = 0;
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(make_seven(&bench, trials, &error));
    REQUIRE_OK(sum_places(&bench, trials, 1, 0, 6, SEQUENCES, 4, sums, &error));
    REQUIRE_OK(sum_places(&bench, trials, 1, 0, 6, SEQUENCES, 5, other, &error));
    for (int p = 0; p < 6; p++) {
        for (int q = 0; q < 6; q++)
            same += !memcmp(&sums[0][p], &other[0][q], sizeof sums[0][p]);
        moved += memcmp(&sums[0][p], &other[0][p], sizeof sums[0][p]) != 0;
    }
    CHECK(same == 6 && moved > 0);
    struct evaluation_setting setting = {&bench.stores, bench.batch, bench.workspace, SEQUENCES, 2, 4, 2};
    CHECK(evaluation_split(&setting) == 6 && evaluation_sample(&setting) == 2);
    const struct evaluation mean = evaluation_mean(&setting, sums[0], 2);
    CHECK(mean.kl == (sums[0][0].kl + sums[0][1].kl) / (2 * small_fixture.rows));
    setting.sample = 0;
    CHECK(evaluation_sample(&setting) == 6);
    setting.sample = 7;
    CHECK(evaluation_sample(&setting) == 6);
    for (int i = 0; i < TOGETHER; i++)
        trial_destroy(trials[i]);
    bench_close(&bench);
}

/* The queue fails while the first trial is evaluated: neither is marked, and an evaluation after it has a new
 * one. */
TEST(trial_evaluation_fails_with_the_device)
{
    const struct trial_config config = make_config(1, OUTPUT_TIED, LOSS_DISTILLATION);
    struct error error = {0};
    struct bench bench;
    struct trial *trials[2];
    struct evaluation results[2], full;
    bool complete;
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(bench_load(&bench, &error));
    for (int i = 0; i < 2; i++)
        REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trials[i], &error));
    op_copy(bench.workspace->queue, bench.batch->u, bench.batch->labels);
    const struct evaluation_setting setting = {&bench.stores, bench.batch, bench.workspace, SEQUENCES, 1, 4, 0};
    CHECK(evaluate_trials(&setting, trials, 2, results, &full, NULL, &complete, &error) == -1);
    CHECK_TEXT(error.text, "op_copy");
    CHECK(!trials[0]->failed && !trials[1]->failed && !complete);
    REQUIRE_OK(evaluate_trials(&setting, trials, 2, results, &full, NULL, &complete, &error));
    CHECK(results[1].kl > 0.01 && results[1].kl < 10);
    trial_destroy(trials[0]);
    trial_destroy(trials[1]);
    bench_close(&bench);
}

/* With a target, heads that share the model's output weight need no final states. */
TEST(trial_without_final_states)
{
    const struct train_fixture fixture = fixture_with("1,2,2.mid,3,target", "raw:f32");
    struct error error = {0};
    struct bench bench;
    struct trial *trial;
    struct evaluation result, full;
    struct trial_result step;
    const struct feed_batch *next;
    bool complete;
    const struct trial_config config = make_config(1, OUTPUT_TIED, LOSS_DISTILLATION);
    REQUIRE_OK(bench_open_store(&bench, &fixture, TEACH_U | TEACH_OUTCOME, &error));
    CHECK(!bench.batch->reads_final && bench.batch->taps == 3);
    REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trial, &error));
    const struct evaluation_setting setting = {&bench.stores, bench.batch, bench.workspace, SEQUENCES, 1, 4, 0};
    REQUIRE_OK(evaluate_trials(&setting, &trial, 1, &result, &full, NULL, &complete, &error));
    CHECK(result.kl > 0.01 && result.kl < 10 && full.loss > 0.4);
    REQUIRE_OK(feed_next(bench.feed, &next, &error));
    REQUIRE_OK(batch_load(bench.batch, next, TEACH_U, &error));
    REQUIRE_OK(take_step(&bench, trial, 10, &step, &error));
    trial_destroy(trial);
    bench_close(&bench);
}

static void check_full_model(const struct train_fixture *fixture)
{
    struct error error = {0};
    struct bench bench;
    struct trial_config config = make_config(0, OUTPUT_TIED, LOSS_DISTILLATION);
    struct trial *trial;
    struct evaluation result, full;
    bool complete;
    config.spec.tap = (struct tap){.layer = 4};
    REQUIRE_OK(bench_open_store(&bench, fixture, TEACH_ALL, &error));
    REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trial, &error));
    const struct evaluation_setting setting = {&bench.stores, bench.batch, bench.workspace, SEQUENCES, 1, 4, 0};
    REQUIRE_OK(evaluate_trials(&setting, &trial, 1, &result, &full, NULL, &complete, &error));
    CHECK(fabs(result.kl) < 1e-6 && result.agreement == 1 && fabs(result.loss - full.loss) < 1e-6);
    struct trial_result step;
    REQUIRE_OK(bench_load(&bench, &error));
    REQUIRE_OK(take_step(&bench, trial, 10, &step, &error));
    CHECK(step.norm < 1e-5); /* against 0.1 and more for other heads */
    trial_destroy(trial);
    bench_close(&bench);
}

/* A head that computes what the full model does is found to, and has nothing to learn from it. */
TEST(trial_evaluation_of_the_full_model_itself)
{
    const struct train_fixture computed = fixture_with("1,2,2.mid,3,final", "lossless");
    const struct train_fixture stored = fixture_with("1,2,2.mid,3,final,target", "raw:f32");
    check_full_model(&computed);
    check_full_model(&stored);
}

TEST_MAIN
