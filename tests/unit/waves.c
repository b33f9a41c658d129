/* Which members are open, put away or stopped in each wave, by what their files say; the same in another process. */
#include "tests/trial_bench.h"

#include <math.h>

#include "train/waves.h"

enum { STEPS = 8, TRIALS = 3 };

/* A run of three trials of one tap, H = 2: rungs at 1, 2 and 4. */
struct fixture {
    struct bench bench;
    struct run_folder run;
    struct trial_config config[TRIALS];
    struct resume_setting resume;
    struct members members;
    struct waves waves;
    int most; /* trials at a time */
    int patience;
};

/* What the members have come to, as another process finds them. */
static int reopen(struct fixture *fixture, struct error *error)
{
    const struct sweep sweep = {.trial = fixture->config, .trials = TRIALS};
    const struct waves_setting setting = {.schedule = schedule_create(STEPS, 2, fixture->most),
                                          .members = &fixture->members,
                                          .resume = &fixture->resume,
                                          .patience = fixture->patience};
    waves_close(&fixture->waves);
    members_close(&fixture->members);
    if (members_open(&fixture->resume, &sweep, fixture->bench.stores.fingerprint, &fixture->members, error) < 0)
        return -1;
    return waves_open(&setting, &fixture->waves, error);
}

static int fixture_open(struct fixture *fixture, int most, int patience, struct error *error)
{
    char path[4200];
    *fixture = (struct fixture){.most = most, .patience = patience};
    if (bench_open(&fixture->bench, error) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/run", fixture->bench.folder);
    if (run_folder_open(path, &fixture->run, error) < 0 ||
        run_folder_note(&fixture->run, "steps", json_integer(STEPS), error) < 0)
        return -1;
    for (int i = 0; i < TRIALS; i++) {
        fixture->config[i] = make_config(0, OUTPUT_TIED, LOSS_DISTILLATION);
        strcpy(fixture->config[i].tap, "1");
        snprintf(fixture->config[i].id, sizeof fixture->config[i].id, "trial%d", i);
    }
    fixture->resume = (struct resume_setting){.run = &fixture->run,
                                              .model = &fixture->bench.stores.config,
                                              .backend = fixture->bench.backend,
                                              .steps = STEPS};
    return reopen(fixture, error);
}

static void fixture_close(struct fixture *fixture)
{
    waves_close(&fixture->waves);
    members_close(&fixture->members);
    run_folder_close(&fixture->run);
    bench_close(&fixture->bench);
}

/* A member to `step`, where its KL is found to be kl. */
static int train(struct fixture *fixture, int index, int64_t step, double kl, struct error *error)
{
    const struct evaluation held_out = {.loss = kl + 1, .kl = kl, .agreement = 0.5};
    struct member *member = &fixture->members.member[index];
    struct trial_result result;
    while (member->trial->step < step) {
        if (bench_load(&fixture->bench, error) < 0 ||
            take_step(&fixture->bench, member->trial, STEPS, &result, error) < 0 ||
            member_keep_step(member, &result, 64 * member->trial->step, 64, error) < 0)
            return -1;
    }
    return member_keep_evaluation(member, &held_out, 6, 64 * step, 96, error);
}

/* The members' states, a letter each. */
static const char *states(const struct fixture *fixture)
{
    static const char letters[] = {[MEMBER_OPENED] = 'o', [MEMBER_WAITING] = 'w', [MEMBER_TRAINING] = 't',
                                   [MEMBER_DONE] = 'd',   [MEMBER_STOPPED] = 's', [MEMBER_FAILED] = 'f'};
    static char text[TRIALS + 1];
    for (int i = 0; i < TRIALS; i++)
        text[i] = letters[fixture->members.member[i].state];
    return text;
}

TEST(waves_open_some_and_put_others_away)
{
    struct error error = {0};
    struct fixture fixture;
    struct wave wave;
    REQUIRE_OK(fixture_open(&fixture, 2, 0, &error));
    REQUIRE_OK(waves_next(&fixture.waves, &wave, &error));
    CHECK(wave.count == 2 && wave.step == 1);
    CHECK_TEXT(states(&fixture), "ttw");
    REQUIRE_OK(train(&fixture, 0, 1, 3, &error));
    REQUIRE_OK(train(&fixture, 1, 1, 1, &error));
    REQUIRE_OK(waves_next(&fixture.waves, &wave, &error));
    CHECK(wave.count == 1 && wave.step == 1);
    CHECK_TEXT(states(&fixture), "wwt");
    REQUIRE_OK(train(&fixture, 2, 1, 2, &error));
    /* Of three two go on; another process finds the same, but for what it has not saved. */
    REQUIRE_OK(members_save(&fixture.members, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    CHECK_TEXT(states(&fixture), "www");
    REQUIRE_OK(waves_next(&fixture.waves, &wave, &error));
    CHECK(wave.count == 2 && wave.step == 2);
    CHECK_TEXT(states(&fixture), "stt");
    REQUIRE_OK(train(&fixture, 1, 2, 1, &error));
    REQUIRE_OK(train(&fixture, 2, 2, 0.5, &error));
    /* The one that stays open is not closed for it. */
    const struct trial *trial = fixture.members.member[2].trial;
    REQUIRE_OK(waves_next(&fixture.waves, &wave, &error));
    CHECK(wave.count == 1 && wave.step == 4 && fixture.members.member[2].trial == trial);
    CHECK_TEXT(states(&fixture), "sst");
    fixture_close(&fixture);
}

/* Killed between its last evaluation and its end, a trial without patience ends all the same: it does not stop at the
 * rung where it is. Once it has ended it counts there, and at later rungs, by its lowest KL. */
TEST(waves_end_who_has_no_patience_left)
{
    struct error error = {0};
    struct fixture fixture;
    struct wave wave;
    const struct evaluation whole = {.loss = 6, .kl = 5, .agreement = 0.5};
    REQUIRE_OK(fixture_open(&fixture, TRIALS, 1, &error));
    REQUIRE_OK(run_folder_note(&fixture.run, "patience", json_integer(1), &error));
    REQUIRE_OK(waves_next(&fixture.waves, &wave, &error));
    REQUIRE_OK(train(&fixture, 0, 0, 5, &error));
    REQUIRE_OK(train(&fixture, 0, 1, 9, &error));
    REQUIRE_OK(train(&fixture, 1, 1, 3, &error));
    REQUIRE_OK(train(&fixture, 2, 1, 2, &error));
    REQUIRE_OK(members_save(&fixture.members, &error));
    REQUIRE_OK(reopen(&fixture, &error));
    REQUIRE_OK(waves_next(&fixture.waves, &wave, &error));
    CHECK(wave.count == 1 && wave.step == 1);
    CHECK_TEXT(states(&fixture), "tww");
    REQUIRE_OK(member_end(&fixture.members.member[0], &whole, 6, 64, 96, &error));
    REQUIRE_OK(waves_next(&fixture.waves, &wave, &error)); /* 2, 3, 9: two of three */
    CHECK_TEXT(states(&fixture), "dtt");
    REQUIRE_OK(train(&fixture, 1, 2, 1.6, &error));
    REQUIRE_OK(train(&fixture, 2, 2, 1.5, &error));
    REQUIRE_OK(waves_next(&fixture.waves, &wave, &error)); /* 1.5, 1.6, 5: two of three */
    CHECK(wave.count == 2 && wave.step == 4);
    CHECK_TEXT(states(&fixture), "dtt");
    fixture_close(&fixture);
}

TEST_MAIN
