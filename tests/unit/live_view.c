/* What is seen of a run while it trains. */
#include "tests/screen.h"
#include "tests/test.h"

#include <math.h>

#include "common/base/cli.h"
#include "train/live_view.h"

enum { TRIALS = 14 };

static struct trial_config configs[TRIALS];
static struct trial trials[TRIALS];
static struct member list[TRIALS];
static const struct schedule schedule = {.steps = 500};

/* Trial i has the KL (5 i mod 14) / 10: 0, 3, 6, 9, 12, 1 ... are the best. Trials 12 and 13 are not known. */
static struct members make_members(void)
{
    struct error ignored;
    for (int i = 0; i < TRIALS; i++) {
        struct trial_config *config = &configs[i];
        *config = (struct trial_config){.spec = {.kind = head_kind_find(i % 2 ? "mlp" : "affine", &ignored)}};
        snprintf(config->id, sizeof config->id, "trial-%d", i);
        snprintf(config->tap, sizeof config->tap, "%d", i);
        trials[i] = (struct trial){.step = 100};
        list[i] = (struct member){.state = MEMBER_TRAINING, .config = config, .trial = &trials[i]};
        list[i].best = (struct evaluation){.kl = i * 5 % 14 / 10.0, .agreement = 0.5};
        list[i].best_step = 100 + i;
    }
    list[12].best.kl = list[13].best.kl = INFINITY;
    list[13].state = MEMBER_WAITING;
    list[13].trial = NULL;
    list[13].saved = schedule.steps; /* nothing is left of it */
    list[11].state = MEMBER_DONE;
    list[9].state = MEMBER_FAILED; /* its KL is 0.3: it is among the best no more */
    return (struct members){.member = list, .count = TRIALS};
}

/* As if so much time had gone by, and the live trials had come to `step`. */
static void draw_later(struct live_view *view, double seconds, int64_t step)
{
    for (int i = 0; i < TRIALS; i++)
        trials[i].step = step;
    view->progress.started -= seconds;
    view->progress.printed -= seconds;
    live_view_update(view);
}

TEST(view_shows_the_ten_best)
{
    const struct members members = make_members();
    struct live_view view;
    struct screen screen;
    REQUIRE(screen_open(&screen, 24, 80) == 0);
    live_view_start(&view, &members, &schedule, &(struct live_work){.step = 10});
    draw_later(&view, 100, 200);
    screen_look(&screen);
    CHECK_TEXT(screen_row(&screen, 0), "train [#######.......................]  25 %");
    CHECK_TEXT(screen_row(&screen, 0), "min 00 s left");
    CHECK(!strcmp(screen_row(&screen, 1), "14 trials: 11 live, 1 waiting, 1 done, 1 failed; step 200 of 500"));
    CHECK(!strcmp(screen_row(&screen, 2), "      KL  agreement    step  tap    head   trial"));
    CHECK(!strcmp(screen_row(&screen, 3), "  0.0000     50.0 %     100  0      affine trial-0"));
    CHECK(!strcmp(screen_row(&screen, 4), "  0.1000     50.0 %     103  3      mlp    trial-3"));
    CHECK_TEXT(screen_row(&screen, 5), "0.2000");
    CHECK_TEXT(screen_row(&screen, 6), "0.5000");
    CHECK(screen_used(&screen) == 13 && screen_has(&screen, "50.0 %") == 10 && screen.bold == 1);
    CHECK(screen.row == 0 && screen.column == 0 && !screen.wrapped && !screen.unknown);
    /* A message comes above, and everything is drawn again below. */
    cli_say("trial-9: failed: a test; the other trials go on");
    list[3].best.kl = -1;
    draw_later(&view, 100, 300);
    screen_look(&screen);
    CHECK_TEXT(screen_row(&screen, 0), "trial-9: failed: a test; the other trials go on");
    CHECK_TEXT(screen_row(&screen, 1), " 50 %");
    CHECK_TEXT(screen_row(&screen, 4), "trial-3");
    CHECK(screen_used(&screen) == 14 && screen.row == 1);
    /* The end: only the bar is left, and what comes next is below it. */
    live_view_finish(&view);
    screen_look(&screen);
    screen_close(&screen);
    CHECK(screen_used(&screen) == 2 && screen.row == 2 && screen.column == 0);
    CHECK_TEXT(screen_row(&screen, 1), "train [");
}

/* Of whatever size the terminal is, and whenever it changes, nothing wraps or scrolls the other lines away. */
TEST(view_fits_the_terminal)
{
    const struct members members = make_members();
    for (int columns = 12; columns < 100; columns += 29) {
        for (int rows = 2; rows < 20; rows += rows < 7 ? 1 : 6) {
            struct live_view view;
            struct screen screen;
            REQUIRE(screen_open(&screen, rows, columns) == 0);
            live_view_start(&view, &members, &schedule, &(struct live_work){.step = 10});
            draw_later(&view, 100, 200);
            draw_later(&view, 100, 300);
            screen_look(&screen);
            /* Names of columns only where a trial fits below them. */
            const int room = rows - 1, wanted = room >= 13 ? 13 : room >= 4 ? room : room >= 2 ? 2 : 1;
            const int used = screen_used(&screen);
            if (screen.wrapped || screen.unknown || used != wanted || screen.row != 0)
                test_fail(__FILE__, __LINE__, "%d rows, %d columns: %d are used", rows, columns, used);
            screen_resize(&screen, 25 - rows, 120 - columns);
            screen_clear(&screen);
            draw_later(&view, 100, 400);
            screen_look(&screen);
            CHECK(!screen.wrapped && screen_has(&screen, "train") == 1);
            screen_close(&screen);
        }
    }
}

TEST(view_is_redrawn_a_few_times_a_second)
{
    const struct members members = make_members();
    struct live_view view;
    struct screen screen;
    REQUIRE(screen_open(&screen, 24, 80) == 0);
    live_view_start(&view, &members, &schedule, &(struct live_work){.step = 10});
    draw_later(&view, 100, 101);
    screen_look(&screen);
    const size_t once = screen.bytes;
    for (int i = 0; i < 100; i++)
        live_view_update(&view);
    screen_look(&screen);
    screen_close(&screen);
    CHECK(once > 100 && screen.bytes < 5 * once);
}

/* What is left to do, with rungs before it: of three trials one goes on. */
TEST(view_counts_those_that_will_stop)
{
    const struct members members = make_members();
    const struct schedule halving = schedule_create(90, 3, 100);
    struct live_view view;
    REQUIRE(halving.rungs == 2 && halving.rung[0] == 10 && halving.rung[1] == 30);
    for (int i = 0; i < TRIALS; i++)
        trials[i].step = 0;
    list[13].saved = 30;
    live_view_start(&view, &members, &halving, &(struct live_work){.step = 9});
    /* 10 + 20 / 3 + 60 / 9 of each live one, and 60 of the waiting one. */
    CHECK(view.progress.total == 11 * (90 + 60 + 60) + 9 * 60);
    for (int i = 0; i < TRIALS; i++)
        trials[i].step = 20;
    for (int i = 0; i < 8; i++)
        list[i].state = MEMBER_STOPPED;
    view.progress.printed -= 20;
    FILE *const kept = stderr;
    stderr = fopen("/dev/null", "w");
    live_view_update(&view);
    fclose(stderr);
    stderr = kept;
    CHECK(view.progress.done == view.progress.total - (3 * (90 + 180) + 9 * 60));
}

/* A terminal that cannot move its cursor, and a file. */
TEST(view_is_plain_lines_elsewhere)
{
    const struct members members = make_members();
    struct live_view view;
    struct screen screen;
    REQUIRE(screen_open(&screen, 24, 120) == 0);
    setenv("TERM", "dumb", 1);
    live_view_start(&view, &members, &schedule, &(struct live_work){.step = 10});
    draw_later(&view, 5, 110); /* too soon */
    draw_later(&view, 5, 200);
    draw_later(&view, 1, 210);
    list[0].best.kl = list[3].best.kl = 7;
    draw_later(&view, 10, 300);
    live_view_finish(&view);
    screen_look(&screen);
    screen_close(&screen);
    CHECK(screen_used(&screen) == 2 && screen.row == 2 && screen.bold == 0 && screen.unknown == 0);
    CHECK_TEXT(screen_row(&screen, 0), "train: 11000 of 44000 tokens, ");
    CHECK_TEXT(screen_row(&screen, 0), " left; best so far: trial-0, KL 0.0000");
    CHECK_TEXT(screen_row(&screen, 1), "; best so far: trial-6, KL 0.2000");
    setenv("TERM", "xterm", 1);
}

/* Evaluations are work, too: those behind steps and at rungs, and the one at the end. */
TEST(view_counts_evaluations)
{
    struct members members = make_members();
    const struct schedule plain = {.steps = 100},
                          halving = {.steps = 100, .halving = 2, .rung = {50}, .rungs = 1};
    const struct live_work work = {.step = 10, .every = 20, .sample = 3, .end = 7};
    struct live_view view;
    members.count = 1;
    members.member[0].evaluated = -1;
    trials[0].step = 0; /* 1000 of steps; before the first, after 20, 40, 60, 80 and 100; the end */
    live_view_start(&view, &members, &plain, &work);
    CHECK(view.progress.total == 1000 + 6 * 3 + 7);
    /* One more at the rung; half of the trials go on from there. */
    live_view_start(&view, &members, &halving, &work);
    CHECK(view.progress.total == 500 + 4 * 3 + (500 + 3 * 3 + 7) / 2);
    members.member[0].evaluated = 0;
    trials[0].step = 60;
    live_view_start(&view, &members, &plain, &work);
    CHECK(view.progress.total == 400 + 2 * 3 + 7);
    trials[0].step = 100; /* evaluated, and not yet ended */
    live_view_start(&view, &members, &plain, &work);
    CHECK(view.progress.total == 7);
    /* Without evaluations between: the first and the last. */
    const struct live_work few = {.step = 10, .sample = 3, .end = 7};
    members.member[0].evaluated = -1;
    trials[0].step = 0;
    live_view_start(&view, &members, &plain, &few);
    CHECK(view.progress.total == 1000 + 2 * 3 + 7);
}

TEST_MAIN
