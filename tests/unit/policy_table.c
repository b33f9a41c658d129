/* Which trials become exits, and what is said of a policy. */
#include "train/policy_table.h"

#include <math.h>

#include "tests/test.h"

static const struct policy_wish standard = {.agreement = 0.95, .threshold = NAN};

TEST(policy_table_chooses_the_nearest_of_each_tap)
{
    const struct trial_config configs[] = {{.spec.tap = {12, false}}, {.spec.tap = {6, false}},
                                           {.spec.tap = {12, false}}, {.spec.tap = {12, true}},
                                           {.spec.tap = {6, false}},  {.spec.tap = {30, false}},
                                           {.spec.tap = {8, false}}};
    static const double kls[] = {0.5, 2, 0.1, 0.4, 1, 0, 3}; /* tap 8 is worse than tap 6, and later */
    enum { COUNT = sizeof configs / sizeof configs[0] };
    struct leaderboard_row rows[COUNT] = {0};
    const struct leaderboard_row *best[COUNT];
    const struct leaderboard board = {.row = rows, .count = COUNT};
    for (int i = 0; i < COUNT; i++) {
        rows[i] = (struct leaderboard_row){.config = &configs[i], .held_out.kl = kls[i], .finished = i != 4};
    }
    REQUIRE(policy_choose(&board, 30, &standard, best) == 3);
    CHECK(best[0] == &rows[1] && best[1] == &rows[3] && best[2] == &rows[2]);
    /* By name, whatever they are worth. */
    struct tap taps[] = {{6, false}, {8, false}};
    const struct policy_wish named = {.agreement = 0.95, .threshold = NAN, .exits = 2, .exit = taps};
    REQUIRE(policy_choose(&board, 30, &named, best) == 2);
    CHECK(best[0] == &rows[1] && best[1] == &rows[6]);
}

TEST(policy_table_verdict_is_plain)
{
    double rates[] = {0.25};
    struct policy_exit exit = {.rule.threshold = 0.9};
    struct policy_row rows[] = {{0.8, rates, 0.7, 20, 1.5}, {0.9, rates, 0.96, 25, 0.6}};
    struct policy policy = {
        .exits = 1, .exit = &exit, .cost_head = 0.5, .cost_output = 8, .rows = 2, .row = rows};
    char text[512];
    policy_verdict(&policy, text, sizeof text);
    CHECK_TEXT(text, "threshold is 0.9: 25.0 % of the tokens leave early, and 96.0 % of those");
    CHECK_TEXT(text, "slower than the full model, at 0.60 times its speed");
    CHECK_TEXT(text, "costs 8.5 layers.");
    double more[] = {0.25, 0};
    rows[1].exit_rate = more;
    policy.exits = 2;
    policy.exit = (struct policy_exit[]){{.rule.threshold = 0.9}, {.rule.threshold = 0.9}};
    policy_verdict(&policy, text, sizeof text);
    CHECK_TEXT(text, "costs 8.5 layers, and there are up to 2 of them.");
    rows[1].speedup = 1.25;
    policy_verdict(&policy, text, sizeof text);
    CHECK_TEXT(text, "Predicted speed: 1.25 times");
    policy.exits = 0;
    policy_verdict(&policy, text, sizeof text);
    CHECK_TEXT(text, "The policy has no exits: no head was trained");
}

TEST_MAIN
