/* Which trials go on, on made curves: the best of each tap, at a part of the steps, whatever is live at a time and
 * wherever a process was killed. */
#include "train/schedule.h"

#include <math.h>
#include <string.h>

#include "tests/test.h"

enum { MOST = 32 };

/* A run as its files have it. */
struct run {
    struct schedule schedule;
    struct standing standing[MOST];
    double final[MOST], start[MOST]; /* of each curve */
    int count;
    int64_t trained; /* steps of all trials */
    int live; /* the most of them in a wave */
};

static double curve(const struct run *run, int trial, int64_t step)
{
    return run->final[trial] + run->start[trial] * exp(-8.0 * (double)step / (double)(run->schedule.steps + 1));
}

static void add_trial(struct run *run, int layer, double final, double start)
{
    struct standing *standing = &run->standing[run->count];
    *standing = (struct standing){.tap = {.layer = layer}};
    for (int r = 0; r < RUNGS_MAX; r++)
        standing->kl[r] = NAN;
    run->final[run->count] = final;
    run->start[run->count++] = start;
}

/* `trials` of them at each of two taps; the trial that is best in the end is not the best at first. */
static struct run make_run(int64_t steps, int halving, int most, int trials)
{
    struct run run = {.schedule = schedule_create(steps, halving, most)};
    for (int i = 0; i < trials; i++) {
        const int place = i * 5 % trials;
        add_trial(&run, 6, 3 + 0.1 * place, 1 - 0.02 * place);
        add_trial(&run, 12, 1 + 0.1 * ((place + 3) % trials), 1);
    }
    return run;
}

/* To `step`, as the wave says. */
static void train(struct run *run, int trial, int64_t step)
{
    struct standing *standing = &run->standing[trial];
    const struct schedule *schedule = &run->schedule;
    run->trained += step - standing->step;
    standing->step = step;
    for (int r = 0; r < schedule->rungs; r++) {
        if (schedule->rung[r] == step)
            standing->kl[r] = curve(run, trial, step);
    }
    if (step == schedule->steps)
        standing->state = STANDING_ENDED;
}

/* One wave, of which only so many trials get to their step before the process is killed. False: nothing was
 * left. */
static bool go_on(struct run *run, int trials)
{
    struct verdict verdicts[MOST];
    struct wave wave;
    struct error error = {0};
    int live = 0;
    if (schedule_next(&run->schedule, run->standing, run->count, verdicts, &wave, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    bool more = wave.count > 0;
    for (int i = 0; i < run->count; i++) {
        more = more || verdicts[i].kind == VERDICT_STOP;
        if (verdicts[i].kind == VERDICT_STOP && trials-- > 0)
            run->standing[i].state = STANDING_STOPPED;
    }
    for (int i = 0; i < run->count; i++) {
        if (verdicts[i].kind == VERDICT_LIVE && ++live && trials-- > 0)
            train(run, i, wave.step);
    }
    CHECK(live == wave.count && live <= run->schedule.most);
    run->live = live > run->live ? live : run->live;
    return more;
}

static void finish(struct run *run)
{
    int waves = 0;
    while (go_on(run, MOST) && waves < 1000)
        waves++;
    CHECK(waves < 1000);
    for (int i = 0; i < run->count; i++)
        CHECK(run->standing[i].state != STANDING_OPEN);
}

static int count_state(const struct run *run, enum standing_state state, int layer)
{
    int count = 0;
    for (int i = 0; i < run->count; i++)
        count += run->standing[i].state == state && run->standing[i].tap.layer == layer;
    return count;
}

/* The trial of a tap that is best in the end. */
static int best_of(const struct run *run, int layer)
{
    int best = -1;
    for (int i = 0; i < run->count; i++) {
        if (run->standing[i].tap.layer == layer && (best < 0 || run->final[i] < run->final[best]))
            best = i;
    }
    return best;
}

static bool has_rungs(int64_t steps, int halving, const int64_t *rung, int rungs)
{
    const struct schedule schedule = schedule_create(steps, halving, 1);
    return schedule.rungs == rungs &&
           (rungs == 0 || memcmp(schedule.rung, rung, (size_t)rungs * sizeof *rung) == 0);
}

TEST(schedule_rungs_by_steps_and_halving)
{
    CHECK(has_rungs(60, 0, NULL, 0));
    CHECK(has_rungs(160, 2, (const int64_t[]){10, 20, 40, 80}, 4));
    CHECK(has_rungs(60, 3, (const int64_t[]){7, 20}, 2));
    CHECK(has_rungs(60, 4, (const int64_t[]){4, 15}, 2));
    CHECK(has_rungs(60, 5, (const int64_t[]){12}, 1));
    CHECK(has_rungs(60, 40, (const int64_t[]){2}, 1));
    CHECK(has_rungs(3, 2, (const int64_t[]){1, 2}, 2)); /* each step once */
    CHECK(has_rungs(1, 2, NULL, 0));
    CHECK(has_rungs(0, 2, NULL, 0));
    const struct schedule schedule = schedule_create(60, 4, 1);
    CHECK(schedule_is_rung(&schedule, 15) && !schedule_is_rung(&schedule, 60) &&
          !schedule_is_rung(&schedule, 0));
}

TEST(schedule_without_halving_trains_all)
{
    for (int most = 1; most <= 13; most += 3) {
        struct run run = make_run(60, 0, most, 6);
        finish(&run);
        CHECK(run.trained == 12 * 60 && run.live == (most < 12 ? most : 12));
        CHECK(count_state(&run, STANDING_ENDED, 6) == 6 && count_state(&run, STANDING_ENDED, 12) == 6);
    }
}

TEST(schedule_halving_keeps_the_best_of_each_tap)
{
    for (int halving = 2; halving <= 5; halving++) {
        struct run run = make_run(160, halving, MOST, 12);
        finish(&run);
        CHECK(run.standing[best_of(&run, 6)].state == STANDING_ENDED);
        CHECK(run.standing[best_of(&run, 12)].state == STANDING_ENDED);
        CHECK(count_state(&run, STANDING_ENDED, 6) == count_state(&run, STANDING_ENDED, 12));
        CHECK(3 * run.trained <= 24 * 160 * (halving == 5 ? 2 : 1));
    }
    struct run run = make_run(160, 4, MOST, 12); /* 12, then 3, then 1 */
    finish(&run);
    CHECK(count_state(&run, STANDING_ENDED, 6) == 1 && run.trained == 2 * (12 * 10 + 3 * 30 + 1 * 120));
}

/* The same trials end, with the same steps, however many are live at a time. */
TEST(schedule_waves_change_nothing)
{
    struct run all = make_run(160, 3, MOST, 7);
    finish(&all);
    for (int most = 1; most < 14; most++) {
        struct run run = make_run(160, 3, most, 7);
        finish(&run);
        CHECK(run.live == most && run.trained == all.trained);
        for (int i = 0; i < run.count; i++)
            CHECK(run.standing[i].state == all.standing[i].state &&
                  run.standing[i].step == all.standing[i].step);
    }
}

TEST(schedule_goes_on_where_it_was_killed)
{
    struct run all = make_run(160, 3, 5, 7);
    finish(&all);
    for (int reach = 1; reach < 6; reach++) { /* trials that a process gets done */
        struct run run = make_run(160, 3, 5, 7);
        for (int waves = 0; go_on(&run, reach) && waves < 1000;)
            waves++;
        CHECK(run.trained == all.trained);
        for (int i = 0; i < run.count; i++)
            CHECK(run.standing[i].state == all.standing[i].state &&
                  run.standing[i].step == all.standing[i].step);
    }
}

/* Killed between its steps and their evaluation. */
TEST(schedule_waits_for_the_evaluation_at_a_rung)
{
    struct run run = {.schedule = schedule_create(16, 4, MOST)};
    add_trial(&run, 6, 1, 0);
    add_trial(&run, 6, 2, 0);
    run.standing[0].step = 1;
    train(&run, 1, 1);
    REQUIRE(go_on(&run, MOST));
    CHECK(!isnan(run.standing[0].kl[0]) && run.trained == 1 && run.standing[1].state == STANDING_OPEN);
    finish(&run);
    CHECK(run.standing[0].state == STANDING_ENDED && run.standing[1].state == STANDING_STOPPED);
}

/* It is the worst where it failed, and holds no place of those that go on later. */
TEST(schedule_failed_trials_count_as_the_worst)
{
    struct run run = {.schedule = schedule_create(16, 4, MOST)};
    for (int i = 0; i < 5; i++)
        add_trial(&run, 6, 1 + i, 0);
    run.standing[0].state = run.standing[1].state = run.standing[2].state = STANDING_FAILED;
    REQUIRE(go_on(&run, MOST)); /* to step 1 */
    REQUIRE(go_on(&run, MOST)); /* both are among the best 2 of 5 */
    CHECK(run.standing[3].step == 4 && run.standing[4].step == 4);
    finish(&run); /* there they are only two, of whom one goes on */
    CHECK(run.standing[3].state == STANDING_ENDED && run.standing[4].state == STANDING_STOPPED);
}

TEST(schedule_ties_go_by_the_order)
{
    struct run run = {.schedule = schedule_create(16, 2, MOST)};
    for (int i = 0; i < 4; i++)
        add_trial(&run, 6, 1, 1);
    finish(&run);
    CHECK(run.standing[0].state == STANDING_ENDED && count_state(&run, STANDING_STOPPED, 6) == 3);
}

TEST(schedule_says_why_with_numbers)
{
    struct verdict verdicts[MOST];
    struct wave wave;
    struct error error = {0};
    struct run run = {.schedule = schedule_create(16, 4, MOST)};
    add_trial(&run, 6, 2.5, 0);
    add_trial(&run, 6, 1, 0);
    REQUIRE(go_on(&run, MOST));
    REQUIRE_OK(schedule_next(&run.schedule, run.standing, run.count, verdicts, &wave, &error));
    CHECK(verdicts[0].kind == VERDICT_STOP && verdicts[1].kind == VERDICT_LIVE && wave.step == 4);
    CHECK_TEXT(verdicts[0].reason,
               "after step 1 its KL is 2.500000, number 2 of the 2 trials at its tap; the best 1");
}

/* Those that come later are compared with all that came before; nobody is called back. */
TEST(schedule_trials_may_be_added)
{
    struct run run = {.schedule = schedule_create(16, 4, 2)};
    for (int i = 0; i < 8; i++)
        add_trial(&run, 6, 2 + 0.1 * i, 0);
    finish(&run);
    CHECK(run.standing[0].state == STANDING_ENDED && run.standing[1].step == 4 && run.standing[2].step == 1);
    const int64_t before = run.trained;
    add_trial(&run, 6, 1, 0); /* better than all */
    add_trial(&run, 6, 2.05, 0); /* among the best 3 of 11, but not of the 4 that came to the second rung */
    add_trial(&run, 6, 9, 0);
    finish(&run);
    CHECK(run.trained - before == 16 + 4 + 1);
    CHECK(run.standing[8].state == STANDING_ENDED && run.standing[9].state == STANDING_STOPPED);
    CHECK(run.standing[0].state == STANDING_ENDED && run.standing[9].step == 4 && run.standing[10].step == 1);
}

/* The run got more steps: what lies behind a rung without an evaluation has passed it. */
TEST(schedule_passed_rungs_are_not_gone_back_to)
{
    struct run run = {.schedule = schedule_create(64, 4, MOST)};
    add_trial(&run, 6, 3, 0);
    add_trial(&run, 6, 1, 0);
    run.standing[0].step = 30; /* rungs at 4 and 16 */
    finish(&run);
    CHECK(run.standing[0].state == STANDING_ENDED && run.standing[1].state == STANDING_ENDED);
    CHECK(run.trained == 34 + 64);
}

/* Waves of few taps: those that are ahead, then tap by tap. */
TEST(schedule_waves_read_few_taps)
{
    struct verdict verdicts[MOST];
    struct wave wave;
    struct error error = {0};
    struct run run = make_run(60, 0, 3, 4);
    run.standing[7].step = 20; /* at tap 12 */
    REQUIRE_OK(schedule_next(&run.schedule, run.standing, run.count, verdicts, &wave, &error));
    CHECK(wave.count == 3 && wave.step == 60 && verdicts[7].kind == VERDICT_LIVE);
    CHECK(verdicts[0].kind == VERDICT_LIVE && verdicts[2].kind == VERDICT_LIVE);
    CHECK(verdicts[1].kind == VERDICT_WAIT);
}

TEST_MAIN
