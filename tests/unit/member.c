/* A trial and its files: in which order they are written, which state they say it is in, what is made of them
 * again. */
#include "tests/trial_bench.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "train/members.h"

enum { STEPS = 4 };

/* A run of one trial of bench's store. */
struct fixture {
    struct bench bench;
    struct run_folder run;
    struct trial_config config;
    struct resume_setting setting;
    struct member member;
};

static int fixture_open(struct fixture *fixture, struct error *error)
{
    char path[4200];
    if (bench_open(&fixture->bench, error) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/run", fixture->bench.folder);
    if (run_folder_open(path, &fixture->run, error) < 0 ||
        run_folder_note(&fixture->run, "steps", json_integer(STEPS), error) < 0)
        return -1;
    fixture->config = make_config(1, OUTPUT_TIED, LOSS_DISTILLATION);
    strcpy(fixture->config.tap, "1");
    fixture->setting = (struct resume_setting){.run = &fixture->run,
                                               .model = &fixture->bench.stores.config,
                                               .backend = fixture->bench.backend,
                                               .steps = STEPS};
    fixture->member = (struct member){0};
    return 0;
}

/* As another process would find it. */
static int reopen(struct fixture *fixture, struct error *error)
{
    member_close(&fixture->member);
    if (member_open(&fixture->run, &fixture->config, fixture->bench.stores.fingerprint, &fixture->member,
                    error) < 0)
        return -1;
    if (member_look(&fixture->member, &fixture->setting, error) < 0)
        return -1;
    return fixture->member.state == MEMBER_WAITING ? member_resume(&fixture->member, &fixture->setting, error)
                                                   : 0;
}

static void fixture_close(struct fixture *fixture)
{
    member_close(&fixture->member);
    run_folder_close(&fixture->run);
    bench_close(&fixture->bench);
}

static int resume_all(struct members *members, const struct resume_setting *setting, struct error *error)
{
    for (int i = 0; i < members->count; i++) {
        if (members->member[i].state == MEMBER_WAITING &&
            member_resume(&members->member[i], setting, error) < 0)
            return -1;
    }
    return 0;
}

static int step(struct fixture *fixture, struct error *error)
{
    struct trial_result result;
    if (bench_load(&fixture->bench, error) < 0 ||
        take_step(&fixture->bench, fixture->member.trial, STEPS, &result, error) < 0)
        return -1;
    return member_keep_step(&fixture->member, &result, 64 * fixture->member.trial->step, 64, error);
}

static int evaluate(struct fixture *fixture, double kl, struct error *error)
{
    const struct evaluation held_out = {.loss = kl + 1, .kl = kl, .agreement = 0.5};
    return member_keep_evaluation(&fixture->member, &held_out, 6, 64 * fixture->member.trial->step, 96, error);
}

static int64_t best_step(const struct fixture *fixture)
{
    struct error error;
    struct metrics metrics;
    if (metrics_read(fixture->member.metrics_path, &metrics, &error) < 0)
        return -1;
    const struct metrics_point *best = metrics_best_evaluation(&metrics);
    const int64_t found = best ? best->step : -1;
    metrics_free(&metrics);
    return found;
}

TEST(member_keeps_the_best_head)
{
    struct error error = {0};
    struct fixture fixture;
    char *first = NULL, *later = NULL;
    size_t first_size, later_size;
    REQUIRE_OK(fixture_open(&fixture, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    const struct member *member = &fixture.member;
    REQUIRE(member->state == MEMBER_TRAINING && member->trial && member->saved == -1);
    REQUIRE_OK(evaluate(&fixture, 2, &error));
    CHECK(file_exists(member->head) && member->saved == 0); /* the checkpoint is there before the head is */
    REQUIRE_OK(step(&fixture, &error));
    REQUIRE_OK(evaluate(&fixture, 1, &error));
    CHECK(member->saved == 1 && best_step(&fixture) == 1);
    REQUIRE_OK(file_read(member->head, &first, &first_size, &error));
    REQUIRE_OK(step(&fixture, &error));
    REQUIRE_OK(evaluate(&fixture, 1.5, &error)); /* worse: the kept head stays */
    CHECK(member->saved == 1 && member->best.kl == 1 && member->best_step == 1 && member->evaluated == 2);
    REQUIRE_OK(file_read(member->head, &later, &later_size, &error));
    CHECK(first_size == later_size && !memcmp(first, later, first_size));
    free(first);
    free(later);
    fixture_close(&fixture);
}

TEST(member_goes_on_from_its_checkpoint)
{
    struct error error = {0};
    struct fixture fixture;
    REQUIRE_OK(fixture_open(&fixture, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    REQUIRE_OK(evaluate(&fixture, 2, &error));
    REQUIRE_OK(step(&fixture, &error));
    REQUIRE_OK(evaluate(&fixture, 1, &error));
    REQUIRE_OK(member_save(&fixture.member, &error));
    REQUIRE_OK(step(&fixture, &error)); /* this one is lost: no checkpoint has it */
    REQUIRE_OK(reopen(&fixture, &error));
    const struct member *member = &fixture.member;
    CHECK(member->state == MEMBER_TRAINING && member->saved == 1 && member->trial->step == 1);
    CHECK(member->best.kl == 1 && member->evaluated == 1);
    /* A deleted head is made of the checkpoint, which is of the step that was best. */
    CHECK(unlink(member->head) == 0);
    REQUIRE_OK(reopen(&fixture, &error));
    CHECK(file_exists(member->head) && member->trial->step == 1);
    /* Without a checkpoint there is nothing to go on from. */
    CHECK(unlink(member->checkpoint) == 0);
    REQUIRE_OK(reopen(&fixture, &error));
    CHECK(member->state == MEMBER_TRAINING && member->saved == -1 && member->trial->step == 0);
    CHECK(!file_exists(member->head) && best_step(&fixture) == -1);
    fixture_close(&fixture);
}

/* What was done for a trial is in the next line of its metrics, and is not counted again. */
TEST(member_counts_what_it_takes)
{
    struct error error = {0};
    struct fixture fixture;
    struct metrics metrics;
    REQUIRE_OK(fixture_open(&fixture, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    struct member *member = &fixture.member;
    member->cost = (struct trial_cost){.own = 5, .shared = 3, .stalled = 1};
    REQUIRE_OK(evaluate(&fixture, 2, &error)); /* which writes a checkpoint and a head */
    CHECK(member->cost.own < 1 && member->cost.shared == 0 && member->cost.stalled == 0);
    REQUIRE_OK(step(&fixture, &error));
    REQUIRE_OK(member_save(member, &error));
    CHECK(member->cost.own > 0);
    member->cost.shared = 2;
    REQUIRE_OK(step(&fixture, &error));
    CHECK(member->cost.shared == 0);
    REQUIRE_OK(metrics_read(member->metrics_path, &metrics, &error));
    CHECK(metrics.cost.own > 5 && metrics.cost.own < 20);
    CHECK(metrics.cost.shared == 5 && metrics.cost.stalled == 1);
    metrics_free(&metrics);
    /* Another process counts on; the line that no checkpoint has is trained again. */
    REQUIRE_OK(reopen(&fixture, &error));
    member->cost.shared = 4;
    REQUIRE_OK(step(&fixture, &error));
    REQUIRE_OK(metrics_read(member->metrics_path, &metrics, &error));
    CHECK(metrics.cost.shared == 7 && metrics.cost.stalled == 1);
    metrics_free(&metrics);
    fixture_close(&fixture);
}

TEST(members_share_what_is_done_for_several)
{
    struct error error = {0};
    struct fixture fixture;
    struct members members;
    struct trial_config config[3];
    REQUIRE_OK(fixture_open(&fixture, &error));
    for (int i = 0; i < 3; i++) {
        config[i] = fixture.config;
        snprintf(config[i].id, sizeof config[i].id, "trial%d", i);
    }
    const struct sweep sweep = {.trial = config, .trials = 3};
    REQUIRE_OK(members_open(&fixture.setting, &sweep, fixture.bench.stores.fingerprint, &members, &error));
    REQUIRE_OK(resume_all(&members, &fixture.setting, &error));
    members.member[2].trial->step = 1;
    members_charge(&members, 0, 6, 2);
    members_charge(&members, -1, 3, 0);
    members_charge(&members, 5, 100, 100); /* nobody is there */
    CHECK(members.member[0].cost.shared == 4 && members.member[1].cost.shared == 4);
    CHECK(members.member[2].cost.shared == 1 && members.member[2].cost.stalled == 0);
    CHECK(members.member[0].cost.stalled == 1 && members.member[0].cost.own == 0);
    members_close(&members);
    fixture_close(&fixture);
}

static int train_to_the_end(struct fixture *fixture, struct error *error)
{
    if (reopen(fixture, error) < 0 || evaluate(fixture, 3, error) < 0)
        return -1;
    while (fixture->member.trial->step < STEPS) {
        if (step(fixture, error) < 0)
            return -1;
    }
    return evaluate(fixture, 2, error);
}

static int end(struct fixture *fixture, double kl, struct error *error)
{
    const struct evaluation held_out = {.loss = kl + 1, .kl = kl, .agreement = 0.5};
    return member_end(&fixture->member, &held_out, 60, 64 * STEPS, 960, error);
}

TEST(member_that_has_ended_is_done)
{
    struct error error = {0};
    struct fixture fixture;
    REQUIRE_OK(fixture_open(&fixture, &error));
    REQUIRE_OK(train_to_the_end(&fixture, &error));
    const struct member *member = &fixture.member;
    /* The evaluation after the last step does not end it: it is of the sample. */
    REQUIRE_OK(reopen(&fixture, &error));
    CHECK(member->state == MEMBER_TRAINING && member->trial->step == STEPS && member->evaluated == STEPS);
    REQUIRE_OK(end(&fixture, 2.25, &error));
    CHECK(member->state == MEMBER_DONE && !member->trial && !file_exists(member->checkpoint));
    /* A kill before the checkpoint is gone. */
    REQUIRE_OK(file_write(member->checkpoint, "?", 1, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    CHECK(member->state == MEMBER_DONE && !member->trial && !member->metrics);
    REQUIRE_OK(member_save(&fixture.member, &error));
    REQUIRE_OK(member_sync(member, &error));
    CHECK(!file_exists(member->checkpoint));
    /* The run is given more steps: it goes on from the kept head. */
    json_t *before = json_pack("[i]", STEPS);
    REQUIRE_OK(run_folder_note(&fixture.run, "steps_before", before, &error));
    REQUIRE_OK(run_folder_note(&fixture.run, "steps", json_integer(STEPS + 3), &error));
    fixture.setting.steps = STEPS + 3;
    REQUIRE_OK(reopen(&fixture, &error));
    CHECK(member->state == MEMBER_TRAINING && member->saved == STEPS);
    CHECK(member->trial->step == STEPS && member->trial->optimizer_start == STEPS && member->best.kl == 2);
    fixture_close(&fixture);
}

TEST(member_that_fails_stays_failed)
{
    struct error error = {0}, reason = {0};
    struct fixture fixture;
    REQUIRE_OK(fixture_open(&fixture, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    REQUIRE_OK(evaluate(&fixture, 2, &error));
    error_set(&reason, "the loss is not a number");
    REQUIRE_OK(member_fail(&fixture.member, &reason, &error));
    const struct member *member = &fixture.member;
    CHECK(member->state == MEMBER_FAILED && !member->trial && !file_exists(member->head));
    REQUIRE_OK(member_save(&fixture.member, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    CHECK(member->state == MEMBER_FAILED && !member->trial);
    fixture_close(&fixture);
}

TEST(member_of_other_settings_is_refused)
{
    struct error error = {0};
    struct fixture fixture;
    REQUIRE_OK(fixture_open(&fixture, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    fixture.config.rate *= 2;
    CHECK(reopen(&fixture, &error) < 0);
    CHECK_TEXT(error.text, "\"rate\" differs");
    fixture_close(&fixture);
}

TEST(members_wait_for_those_behind)
{
    struct error error = {0};
    struct fixture fixture;
    struct members members;
    struct trial_config config[2];
    struct trial *trials[2];
    REQUIRE_OK(fixture_open(&fixture, &error));
    config[0] = fixture.config;
    config[1] = make_config(0, OUTPUT_UNTIED, LOSS_DISTILLATION);
    strcpy(config[1].tap, "1");
    const struct sweep sweep = {.trial = config, .trials = 2};
    REQUIRE_OK(members_open(&fixture.setting, &sweep, fixture.bench.stores.fingerprint, &members, &error));
    REQUIRE_OK(resume_all(&members, &fixture.setting, &error));
    CHECK(members.count == 2 && members_step(&members) == 0 && members_trials(&members, trials) == 2);
    CHECK(members_teaching(&members, -1) == (TEACH_U | TEACH_STATES));
    members.member[0].trial->step = 3;
    CHECK(members_step(&members) == 0);
    error_set(&error, "a test");
    const struct error reason = error;
    REQUIRE_OK(member_fail(&members.member[1], &reason, &error));
    CHECK(members_step(&members) == 3 && members_trials(&members, trials) == 1);
    CHECK(members_teaching(&members, -1) == TEACH_U && trials[0] == members.member[0].trial);
    REQUIRE_OK(member_fail(&members.member[0], &reason, &error));
    CHECK(members_step(&members) == -1);
    members_close(&members);
    fixture_close(&fixture);
}

/* Put away and opened again, as often as there are waves. */
TEST(member_waits_between_waves)
{
    struct error error = {0};
    struct fixture fixture;
    REQUIRE_OK(fixture_open(&fixture, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    struct member *member = &fixture.member;
    REQUIRE_OK(evaluate(&fixture, 3, &error));
    REQUIRE_OK(step(&fixture, &error));
    REQUIRE_OK(evaluate(&fixture, 2, &error));
    REQUIRE_OK(step(&fixture, &error));
    REQUIRE_OK(evaluate(&fixture, 2.5, &error));
    REQUIRE_OK(member_park(member, &error));
    for (int round = 0; round < 2; round++) { /* in this process, and in another one */
        CHECK(member->state == MEMBER_WAITING && !member->trial && !member->metrics);
        CHECK(member_step(member) == 2 && member->best_step == 1 && member->evaluated == 2);
        CHECK(member_kl_at(member, 0) == 3 && member_kl_at(member, 2) == 2.5 && isnan(member_kl_at(member, 3)));
        CHECK(member_has_stalled(member, 1) && !member_has_stalled(member, 2) &&
              !member_has_stalled(member, 0));
        REQUIRE_OK(member_resume(member, &fixture.setting, &error));
        CHECK(member->state == MEMBER_TRAINING && member->trial->step == 2 && member_step(member) == 2);
        if (round == 0) {
            REQUIRE_OK(member_park(member, &error));
            member_close(member);
            REQUIRE_OK(
                member_open(&fixture.run, &fixture.config, fixture.bench.stores.fingerprint, member, &error));
            REQUIRE_OK(member_look(member, &fixture.setting, &error));
        }
    }
    REQUIRE_OK(step(&fixture, &error));
    CHECK(best_step(&fixture) == 1); /* its lines are still there */
    fixture_close(&fixture);
}

/* Whoever is stopped while its kept head is evaluated goes on from the step it was at. */
TEST(member_with_its_kept_head_can_be_stopped)
{
    struct error error = {0};
    struct fixture fixture;
    REQUIRE_OK(fixture_open(&fixture, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    REQUIRE_OK(evaluate(&fixture, 2, &error));
    REQUIRE_OK(step(&fixture, &error));
    REQUIRE_OK(evaluate(&fixture, 3, &error));
    REQUIRE_OK(member_restore_head(&fixture.member, fixture.setting.model, fixture.setting.backend, &error));
    REQUIRE_OK(member_save(&fixture.member, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    CHECK(fixture.member.state == MEMBER_TRAINING && fixture.member.trial->step == 1);
    REQUIRE_OK(step(&fixture, &error));
    fixture_close(&fixture);
}

/* It keeps its head, whether it is open or waits; a head that is gone is trained again. */
TEST(member_that_is_stopped_stays_so)
{
    struct error error = {0};
    struct fixture fixture;
    struct metrics metrics;
    REQUIRE_OK(fixture_open(&fixture, &error));
    struct member *member = &fixture.member;
    for (int waiting = 0; waiting < 2; waiting++) {
        REQUIRE_OK(reopen(&fixture, &error));
        REQUIRE_OK(evaluate(&fixture, 3, &error));
        REQUIRE_OK(step(&fixture, &error));
        REQUIRE_OK(evaluate(&fixture, 2, &error));
        if (waiting)
            REQUIRE_OK(member_park(member, &error));
        char *checkpoint;
        size_t size;
        REQUIRE_OK(member_save(member, &error));
        REQUIRE_OK(file_read(member->checkpoint, &checkpoint, &size, &error));
        REQUIRE_OK(member_stop(member, "a test", &error));
        CHECK(!file_exists(member->checkpoint));
        if (waiting) /* as if it had been killed before this one was gone */
            REQUIRE_OK(file_write(member->checkpoint, checkpoint, size, &error));
        free(checkpoint);
        REQUIRE_OK(reopen(&fixture, &error));
        CHECK(member->state == MEMBER_STOPPED && !file_exists(member->checkpoint) && file_exists(member->head));
        REQUIRE_OK(reopen(&fixture, &error));
        CHECK(member->state == MEMBER_STOPPED && !member->trial && member_kl_at(member, 1) == 2);
        REQUIRE_OK(metrics_read(member->metrics_path, &metrics, &error));
        CHECK(!strcmp(metrics.stopped, "a test") && metrics.count == 2);
        metrics_free(&metrics);
        fixture.setting.steps = STEPS + 1; /* more steps do not call it back */
        REQUIRE_OK(reopen(&fixture, &error));
        CHECK(member->state == MEMBER_STOPPED);
        fixture.setting.steps = STEPS;
        CHECK(unlink(member->head) == 0);
        REQUIRE_OK(reopen(&fixture, &error));
        CHECK(member->state == MEMBER_TRAINING && member->trial->step == 0 && member->scores == 0);
    }
    fixture_close(&fixture);
}

/* Out of patience it has ended, however many steps there are. */
TEST(member_out_of_patience_is_done)
{
    struct error error = {0};
    struct fixture fixture;
    const struct evaluation whole = {.loss = 3, .kl = 2.1, .agreement = 0.5};
    REQUIRE_OK(fixture_open(&fixture, &error));
    REQUIRE_OK(run_folder_note(&fixture.run, "patience", json_integer(1), &error));
    REQUIRE_OK(reopen(&fixture, &error));
    REQUIRE_OK(evaluate(&fixture, 2, &error));
    REQUIRE_OK(step(&fixture, &error));
    REQUIRE_OK(evaluate(&fixture, 3, &error));
    REQUIRE_OK(member_end(&fixture.member, &whole, 6, 64, 96, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    CHECK(fixture.member.state == MEMBER_DONE);
    REQUIRE_OK(run_folder_note(&fixture.run, "steps_before", json_pack("[i]", STEPS), &error));
    REQUIRE_OK(run_folder_note(&fixture.run, "steps", json_integer(STEPS + 3), &error));
    fixture.setting.steps = STEPS + 3;
    REQUIRE_OK(reopen(&fixture, &error));
    CHECK(fixture.member.state == MEMBER_DONE);
    fixture_close(&fixture);
}

TEST_MAIN
