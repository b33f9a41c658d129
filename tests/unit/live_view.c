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

/* Trial i has the KL (5 i mod 14) / 10: 0, 3, 6, 9, 12, 1 ... are the best. Trials 12 and 13 are not known. */
static struct members make_members(void)
{
    struct error ignored;
    for (int i = 0; i < TRIALS; i++) {
        struct trial_config *config = &configs[i];
        *config = (struct trial_config){.spec = {.kind = head_kind_find(i % 2 ? "mlp" : "affine", &ignored)}};
        snprintf(config->id, sizeof config->id, "trial-%d", i);
        snprintf(config->tap, sizeof config->tap, "%d", i);
        trials[i] = (struct trial){.step = 120};
        list[i] = (struct member){.state = MEMBER_TRAINING, .config = config, .trial = &trials[i]};
        list[i].best = (struct evaluation){.kl = i * 5 % 14 / 10.0, .agreement = 0.5};
        list[i].best_step = 100 + i;
    }
    list[12].best.kl = list[13].best.kl = INFINITY;
    list[13].state = MEMBER_OPENED;
    list[11].state = MEMBER_DONE;
    list[9].state = MEMBER_FAILED; /* its KL is 0.3: it is among the best no more */
    return (struct members){.member = list, .count = TRIALS};
}

/* As if so much time had gone by. */
static void draw_later(struct live_view *view, double seconds, uint64_t done)
{
    view->progress.started -= seconds;
    view->progress.printed -= seconds;
    live_view_update(view, done);
}

TEST(view_shows_the_ten_best)
{
    const struct members members = make_members();
    struct live_view view;
    struct screen screen;
    REQUIRE(screen_open(&screen, 24, 80) == 0);
    live_view_start(&view, &members, 500, 1000);
    draw_later(&view, 100, 250);
    screen_look(&screen);
    CHECK_TEXT(screen_row(&screen, 0), "train [#######.......................]  25 %");
    CHECK_TEXT(screen_row(&screen, 0), "min 00 s left");
    CHECK(!strcmp(screen_row(&screen, 1), "14 trials: 11 live, 1 queued, 1 done, 1 failed; step 120 of 500"));
    CHECK(!strcmp(screen_row(&screen, 2), "        KL  agreement    step  tap     head    trial"));
    CHECK(!strcmp(screen_row(&screen, 3), "    0.0000     50.0 %     100  0       affine  trial-0"));
    CHECK(!strcmp(screen_row(&screen, 4), "    0.1000     50.0 %     103  3       mlp     trial-3"));
    CHECK_TEXT(screen_row(&screen, 5), "0.2000");
    CHECK_TEXT(screen_row(&screen, 6), "0.5000");
    CHECK(screen_used(&screen) == 13 && screen_has(&screen, "50.0 %") == 10 && screen.bold == 1);
    CHECK(screen.row == 0 && screen.column == 0 && !screen.wrapped && !screen.unknown);
    /* A message comes above, and everything is drawn again below. */
    cli_say("trial-9: failed: a test; the other trials go on");
    list[3].best.kl = -1;
    draw_later(&view, 100, 500);
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
    for (int columns = 12; columns < 100; columns += 7) {
        for (int rows = 2; rows < 20; rows++) {
            struct live_view view;
            struct screen screen;
            REQUIRE(screen_open(&screen, rows, columns) == 0);
            live_view_start(&view, &members, 500, 1000);
            draw_later(&view, 100, 250);
            draw_later(&view, 100, 500);
            screen_look(&screen);
            /* Names of columns only where a trial fits below them. */
            const int room = rows - 1, wanted = room >= 13 ? 13 : room >= 4 ? room : room >= 2 ? 2 : 1;
            const int used = screen_used(&screen);
            if (screen.wrapped || screen.unknown || used != wanted || screen.row != 0)
                test_fail(__FILE__, __LINE__, "%d rows, %d columns: %d are used", rows, columns, used);
            screen_resize(&screen, 25 - rows, 120 - columns);
            screen_clear(&screen);
            draw_later(&view, 100, 750);
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
    live_view_start(&view, &members, 500, 1000);
    draw_later(&view, 100, 1);
    screen_look(&screen);
    const size_t once = screen.bytes;
    for (int i = 0; i < 100; i++)
        live_view_update(&view, (uint64_t)i);
    screen_look(&screen);
    screen_close(&screen);
    CHECK(once > 100 && screen.bytes < 5 * once);
}

/* A terminal that cannot move its cursor, and a file. */
TEST(view_is_plain_lines_elsewhere)
{
    const struct members members = make_members();
    struct live_view view;
    struct screen screen;
    REQUIRE(screen_open(&screen, 24, 120) == 0);
    setenv("TERM", "dumb", 1);
    live_view_start(&view, &members, 500, 1000);
    draw_later(&view, 5, 100); /* too soon */
    draw_later(&view, 5, 250);
    draw_later(&view, 1, 300);
    list[0].best.kl = list[3].best.kl = 7;
    draw_later(&view, 10, 500);
    live_view_finish(&view);
    screen_look(&screen);
    screen_close(&screen);
    CHECK(screen_used(&screen) == 2 && screen.row == 2 && screen.bold == 0 && screen.unknown == 0);
    CHECK_TEXT(screen_row(&screen, 0), "train: 250 of 1000 tokens, ");
    CHECK_TEXT(screen_row(&screen, 0), " left; best so far: trial-0, KL 0.0000");
    CHECK_TEXT(screen_row(&screen, 1), "; best so far: trial-6, KL 0.2000");
    setenv("TERM", "xterm", 1);
}

TEST_MAIN
