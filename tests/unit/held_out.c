/* When the members of a run are measured, on what, and what becomes of them: on the sample while they are trained;
 * on the whole split at their end, as their kept heads are, and nothing of it twice. */
#include "tests/trial_bench.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "train/held_out.h"

enum { TRIALS = 2, STEPS = 2, SPLIT = 6, SAMPLE = 2 };

/* Two trials, each at a tap of its own; the rate of the second is far too high, so its head is that of before its
 * first step. */
struct fixture {
    struct bench bench;
    struct run_folder run;
    struct trial_config config[TRIALS];
    struct sweep sweep;
    struct resume_setting resume;
    struct members members;
    struct schedule schedule;
    struct observations seen;
    struct evaluation_setting evaluation;
    struct held_out held_out;
};

static void make_configs(struct fixture *fixture)
{
    for (int i = 0; i < TRIALS; i++) {
        struct trial_config *config = &fixture->config[i];
        *config = make_config(i == 0 ? 1 : 2, OUTPUT_TIED, LOSS_DISTILLATION);
        strcpy(config->tap, i == 0 ? "1" : "2.mid");
        snprintf(config->id, sizeof config->id, "trial-%d", i);
        config->warmup = 0;
        config->rate = i == 0 ? 3e-3 : 9;
    }
    fixture->sweep = (struct sweep){.trial = fixture->config, .trials = TRIALS};
}

/* Opens the members; those that are new begin with random values. */
static int open_members(struct fixture *fixture, struct error *error)
{
    const struct head_source source = stores_head_source(&fixture->bench.stores);
    if (members_open(&fixture->resume, &fixture->sweep, fixture->bench.stores.fingerprint, &fixture->members,
                     error) < 0)
        return -1;
    for (int i = 0; i < TRIALS; i++) {
        struct member *member = &fixture->members.member[i];
        if (member->state != MEMBER_WAITING)
            continue;
        if (member_resume(member, &fixture->resume, error) < 0 ||
            (member->saved < 0 && head_initialise(member->trial->head, INIT_COPY, 5, &source, error) < 0))
            return -1;
    }
    return members_save(&fixture->members, error);
}

static int fixture_open(struct fixture *fixture, int64_t sample, struct error *error)
{
    char path[4200];
    *fixture = (struct fixture){0};
    if (bench_open(&fixture->bench, error) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/run", fixture->bench.folder);
    if (run_folder_open(path, &fixture->run, error) < 0 ||
        run_folder_note(&fixture->run, "steps", json_integer(STEPS), error) < 0)
        return -1;
    make_configs(fixture);
    fixture->resume = (struct resume_setting){.run = &fixture->run,
                                              .model = &fixture->bench.stores.config,
                                              .backend = fixture->bench.backend,
                                              .steps = STEPS};
    fixture->schedule = schedule_create(STEPS, 0, TRIALS);
    fixture->evaluation = (struct evaluation_setting){
        &fixture->bench.stores, fixture->bench.batch, fixture->bench.workspace, SEQUENCES, 1, 4, sample};
    fixture->held_out = (struct held_out){.evaluation = &fixture->evaluation,
                                          .run = &fixture->run,
                                          .members = &fixture->members,
                                          .steps = STEPS,
                                          .schedule = &fixture->schedule,
                                          .tokens = SEQUENCES * small_fixture.rows,
                                          .seen = &fixture->seen};
    return open_members(fixture, error);
}

static void fixture_close(struct fixture *fixture)
{
    members_close(&fixture->members);
    observations_free(&fixture->seen);
    run_folder_close(&fixture->run);
    bench_close(&fixture->bench);
}

/* A step of both, and an evaluation behind the last one. */
static int train(struct fixture *fixture, struct error *error)
{
    if (held_out_measure(&fixture->held_out, 0, error) < 0)
        return -1;
    for (int64_t step = 1; step <= STEPS; step++) {
        if (bench_load(&fixture->bench, error) < 0)
            return -1;
        for (int i = 0; i < TRIALS; i++) {
            struct trial_result result;
            struct member *member = &fixture->members.member[i];
            if (take_step(&fixture->bench, member->trial, STEPS, &result, error) < 0 ||
                member_keep_step(member, &result, step * fixture->held_out.tokens, 1, error) < 0)
                return -1;
        }
    }
    return members_save(&fixture->members, error);
}

static struct metrics metrics_of(const struct fixture *fixture, int trial)
{
    struct metrics metrics;
    struct error error;
    if (metrics_read(fixture->members.member[trial].metrics_path, &metrics, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    return metrics;
}

/* The tokens that the last line says were read. */
static double last_read(const struct fixture *fixture, int trial)
{
    struct error error;
    char *text;
    size_t size;
    if (file_read(fixture->members.member[trial].metrics_path, &text, &size, &error) < 0)
        return -1;
    const char *rate = text + size, *seconds;
    while (rate > text && strncmp(rate, "\"tokens_per_second\": ", 21) != 0)
        rate--;
    seconds = strstr(rate, "\"seconds\": ");
    const double read = seconds ? strtod(rate + 21, NULL) * strtod(seconds + 11, NULL) : -1;
    free(text);
    return read;
}

/* What the head in a member's folder is on the whole split. */
static struct evaluation measure_kept(struct fixture *fixture, int trial, struct error *error)
{
    struct evaluation result = {0}, full;
    struct trial *kept;
    bool complete;
    if (trial_open_head(&fixture->config[trial], fixture->members.member[trial].head,
                        &fixture->bench.stores.config, fixture->bench.stores.fingerprint,
                        fixture->bench.backend, &kept, error) < 0)
        return result;
    if (evaluate_trials(&fixture->evaluation, &kept, 1, &result, &full, NULL, &complete, error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error->text);
    trial_destroy(kept);
    return metrics_as_read(&result);
}

static void check_ended(struct fixture *fixture, int trial, int64_t of_step, double read)
{
    struct error error = {0};
    const struct member *member = &fixture->members.member[trial];
    struct metrics metrics = metrics_of(fixture, trial);
    const struct evaluation kept = measure_kept(fixture, trial, &error);
    CHECK(member->state == MEMBER_DONE && !member->trial && !file_exists(member->checkpoint));
    CHECK(metrics.ended && metrics.whole.step == STEPS && metrics.whole.of_step == of_step);
    CHECK(metrics.whole.sequences == SPLIT && fabs(last_read(fixture, trial) - read) < 1e-3 * read + 1e-9);
    CHECK(metrics.whole.held_out.kl == kept.kl && metrics.whole.held_out.loss == kept.loss);
    metrics_free(&metrics);
}

TEST(held_out_sample_then_whole)
{
    struct error error = {0};
    struct fixture fixture;
    REQUIRE_OK(fixture_open(&fixture, SAMPLE, &error));
    REQUIRE_OK(train(&fixture, &error));
    CHECK(json_object_get(fixture.run.facts, "sample_full_loss"));
    CHECK(!json_object_get(fixture.run.facts, "full_loss") && fixture.seen.count == 0);
    REQUIRE_OK(held_out_measure(&fixture.held_out, STEPS, &error));
    CHECK(json_object_get(fixture.run.facts, "full_loss"));
    for (int i = 0; i < TRIALS; i++) {
        struct metrics metrics = metrics_of(&fixture, i);
        REQUIRE(metrics.count == STEPS + 1);
        CHECK(metrics.point[0].evaluated && !metrics.point[1].evaluated && metrics.point[STEPS].evaluated);
        CHECK(metrics.point[0].sequences == SAMPLE && metrics.point[STEPS].sequences == SAMPLE);
        metrics_free(&metrics);
    }
    /* Of the first the sample was known; the head of the second is another one than the sample was read for last. */
    check_ended(&fixture, 0, STEPS, (SPLIT - SAMPLE) * small_fixture.rows);
    check_ended(&fixture, 1, 0, SPLIT * small_fixture.rows);
    CHECK(observations_find(&fixture.seen, "trial-0") && observations_find(&fixture.seen, "trial-1"));
    REQUIRE_OK(held_out_measure(&fixture.held_out, STEPS, &error)); /* nothing is left */
    fixture_close(&fixture);
}

/* Killed between the evaluation of the sample and the end: the same lines, and the sample is read again. */
TEST(held_out_goes_on_after_the_sample)
{
    struct error error = {0};
    struct fixture fixture;
    REQUIRE_OK(fixture_open(&fixture, SAMPLE, &error));
    REQUIRE_OK(train(&fixture, &error));
    for (int i = 0; i < TRIALS; i++) {
        struct member *member = &fixture.members.member[i];
        struct evaluation sums[SPLIT], *list = sums, full[SPLIT];
        const struct evaluation_sums what = {.end = SAMPLE, .trial = &list, .full = full};
        bool complete;
        REQUIRE_OK(evaluate_places(&fixture.evaluation, &member->trial, 1, &what, &complete, &error));
        const struct evaluation mean = evaluation_mean(&fixture.evaluation, sums, SAMPLE);
        REQUIRE_OK(member_keep_evaluation(member, &mean, SAMPLE, 128, 32, &error));
    }
    members_close(&fixture.members);
    REQUIRE_OK(open_members(&fixture, &error));
    REQUIRE(fixture.members.member[0].state == MEMBER_TRAINING && members_step(&fixture.members) == STEPS);
    REQUIRE_OK(held_out_measure(&fixture.held_out, STEPS, &error));
    check_ended(&fixture, 0, STEPS, SPLIT * small_fixture.rows);
    check_ended(&fixture, 1, 0, SPLIT * small_fixture.rows);
    fixture_close(&fixture);
}

/* Where the sample is the split, the best evaluation says it all, and nothing is read. */
TEST(held_out_sample_is_the_split)
{
    struct error error = {0};
    struct fixture fixture;
    REQUIRE_OK(fixture_open(&fixture, 0, &error));
    REQUIRE_OK(train(&fixture, &error));
    REQUIRE_OK(held_out_measure(&fixture.held_out, STEPS, &error));
    check_ended(&fixture, 0, STEPS, 0);
    check_ended(&fixture, 1, 0, 0);
    CHECK(!json_object_get(fixture.run.facts, "sample_full_loss"));
    /* What was seen of the second is not of its kept head. */
    CHECK(fixture.seen.count == 1 && observations_find(&fixture.seen, "trial-0"));
    fixture_close(&fixture);
}

TEST_MAIN
