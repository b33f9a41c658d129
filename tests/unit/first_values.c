/* What new heads begin with: a copy, random values or a regression; heads that have gone on keep what they
 * have. */
#include "tests/trial_bench.h"

#include <math.h>
#include <stdlib.h>

#include "train/first_values.h"

enum { TRIALS = 4 };

struct fixture {
    struct bench bench;
    struct run_folder run;
    struct trial_config config[TRIALS];
    struct resume_setting resume;
    struct first_values_setting first;
    struct members members;
};

/* Affine heads at tap 1, one of each start; and one more with a regression. */
static int fixture_open(struct fixture *fixture, const struct train_fixture *store, struct error *error)
{
    static const enum head_init inits[TRIALS] = {INIT_COPY, INIT_RANDOM, INIT_RIDGE, INIT_RIDGE};
    char path[4200];
    struct sweep sweep = {.trial = fixture->config, .trials = TRIALS};
    if (bench_open_store(&fixture->bench, store, TEACH_ALL, error) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/run", fixture->bench.folder);
    if (run_folder_open(path, &fixture->run, error) < 0)
        return -1;
    for (int i = 0; i < TRIALS; i++) {
        fixture->config[i] = make_config(1, OUTPUT_TIED, LOSS_DISTILLATION);
        fixture->config[i].init = inits[i];
        strcpy(fixture->config[i].tap, "1");
        snprintf(fixture->config[i].id, sizeof fixture->config[i].id, "trial%d", i);
    }
    fixture->resume = (struct resume_setting){.run = &fixture->run,
                                              .model = &fixture->bench.stores.config,
                                              .backend = fixture->bench.backend,
                                              .steps = 10};
    fixture->first = (struct first_values_setting){.stores = &fixture->bench.stores,
                                                   .backend = fixture->bench.backend,
                                                   .seed = 3,
                                                   .threads = 2,
                                                   .resume = &fixture->resume};
    return members_open(&fixture->resume, &sweep, fixture->bench.stores.fingerprint, &fixture->members, error);
}

static void fixture_close(struct fixture *fixture)
{
    members_close(&fixture->members);
    run_folder_close(&fixture->run);
    bench_close(&fixture->bench);
}

/* Those that wait are opened, as in a wave of all. */
static int begin(struct fixture *fixture, struct error *error)
{
    if (members_regress(&fixture->members, &fixture->first, error) < 0)
        return -1;
    for (int i = 0; i < TRIALS; i++) {
        struct member *member = &fixture->members.member[i];
        if (member->state == MEMBER_WAITING && member_resume(member, &fixture->resume, error) < 0)
            return -1;
    }
    return members_set_first_values(&fixture->members, &fixture->first, error);
}

/* The matrix A [H, H] of an affine head. */
static bool read_map(const struct fixture *fixture, int index, float *values)
{
    struct error error;
    const struct trial *trial = fixture->members.member[index].trial;
    for (int p = 0; trial && p < head_parameter_count(trial->head); p++) {
        const struct head_parameter *parameter = head_parameter(trial->head, p);
        if (strcmp(parameter->name, "a") == 0) {
            op_read(trial->queue, parameter->value, values);
            return queue_wait(trial->queue, &error) == 0;
        }
    }
    return false;
}

TEST(first_values_of_each_kind)
{
    struct error error = {0};
    struct fixture fixture;
    float a[TRIALS][24 * 24];
    double distance = 0, spread = 0;
    REQUIRE_OK(fixture_open(&fixture, &small_fixture, &error));
    REQUIRE_OK(begin(&fixture, &error));
    for (int i = 0; i < TRIALS; i++)
        REQUIRE(read_map(&fixture, i, a[i]));
    for (int r = 0; r < 24; r++) {
        for (int c = 0; c < 24; c++) {
            CHECK(a[0][r * 24 + c] == (r == c));
            distance += fabs(a[2][r * 24 + c] - (r == c));
            spread += fabs(a[1][r * 24 + c]);
        }
    }
    CHECK(distance > 1 && spread > 1); /* neither a copy nor zeros */
    CHECK(memcmp(a[2], a[3], sizeof a[2]) == 0); /* of one tap there is one regression */
    CHECK(memcmp(a[1], a[2], sizeof a[1]) != 0);
    fixture_close(&fixture);
}

TEST(first_values_are_for_new_members)
{
    struct error error = {0}, reason = {0};
    struct fixture fixture;
    float before[24 * 24], after[24 * 24];
    REQUIRE_OK(fixture_open(&fixture, &small_fixture, &error));
    REQUIRE_OK(begin(&fixture, &error));
    struct member *member = fixture.members.member;
    CHECK(member[2].saved == 0 && member[3].saved == 0); /* they had to wait with what they begin with */
    for (int i = 0; i < 2; i++) /* another wave; nobody reads the split again for it */
        REQUIRE_OK(member_park(&member[i], &error));
    fixture.bench.stores.sequences[SPLIT_TRAIN] = 0;
    REQUIRE(read_map(&fixture, 2, before));
    error_set(&reason, "a test");
    REQUIRE_OK(member_fail(&member[3], &reason, &error));
    fixture.first.seed = 4;
    REQUIRE_OK(begin(&fixture, &error));
    REQUIRE(read_map(&fixture, 2, after));
    CHECK(memcmp(before, after, sizeof before) == 0);
    CHECK(member[0].state == MEMBER_TRAINING && member[3].state == MEMBER_FAILED);
    fixture_close(&fixture);
}

/* A state that is not a number makes the regression of its tap impossible: its members fail, the others do
 * not. */
TEST(first_values_without_a_solution)
{
    struct error error = {0};
    struct fixture fixture;
    struct train_fixture broken = small_fixture;
    broken.broken = "1";
    broken.codec = "raw:f32";
    REQUIRE_OK(fixture_open(&fixture, &broken, &error));
    REQUIRE_OK(begin(&fixture, &error));
    CHECK(fixture.members.member[0].state == MEMBER_TRAINING);
    CHECK(fixture.members.member[1].state == MEMBER_TRAINING);
    CHECK(fixture.members.member[2].state == MEMBER_FAILED);
    CHECK(fixture.members.member[3].state == MEMBER_FAILED);
    fixture_close(&fixture);
}

TEST_MAIN
