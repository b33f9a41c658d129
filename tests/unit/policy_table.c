/* What confidence exits would do: counted by hand on a few tokens; costs; which trials become exits. */
#include "train/policy_table.h"

#include <math.h>

#include "tests/test.h"

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

TEST(policy_table_costs_follow_parameters)
{
    const struct model_config config = {.family = "llama",
                                        .layers = 30,
                                        .hidden = 576,
                                        .attention_heads = 9,
                                        .kv_heads = 3,
                                        .head_size = 64,
                                        .intermediate = 1536,
                                        .vocab = 49152};
    CHECK(tap_depth(&config, (struct tap){12, false}) == 12);
    CHECK(near(tap_depth(&config, (struct tap){12, true}), 11 + 1536. / (1536 + 4608)));
    CHECK(tap_depth(&config, (struct tap){0, false}) == 0);
}

/* Two exits, at 2 and 5 of 10 layers; heads of 0.5 and 1 layers, a vocabulary product of 4. */
TEST(policy_table_counts_tokens)
{
    struct exit_cost exits[] = {{2, 0.5}, {5, 1}};
    const struct policy_costs costs = {.layers = 10, .output = 4, .exit = exits, .exits = 2};
    struct evidence first[] = {{0.9}, {0.9}, {0.1}, {0.2}, {0.75}};
    bool first_agrees[] = {true, false, true, false, true};
    struct evidence second[] = {{0.1}, {0.1}, {0.8}, {0.3}, {0.99}};
    bool second_agrees[] = {false, false, true, true, false};
    const struct observed observed[] = {{first, first_agrees}, {second, second_agrees}};
    double rates[2];
    struct policy_row row = {.exit_rate = rates};

    /* Three leave at the first exit, two of them rightly; one at the second; one goes to the end. */
    policy_count(&costs, observed, 5, 0.75, &row);
    CHECK(row.threshold == 0.75);
    CHECK(near(rates[0], 0.6) && near(rates[1], 0.2));
    CHECK(near(row.agreement, 0.75));
    CHECK(near(row.depth, (3 * 2 + 5 + 10) / 5.));
    const double checks = 4.5 + 5; /* both exits */
    CHECK(near(row.speedup, 5 * 14 / (3 * (2 + 4.5) + (5 + checks) + (10 + checks + 4))));

    /* Nobody leaves, and everybody pays. */
    policy_count(&costs, observed, 5, 0.999, &row);
    CHECK(rates[0] == 0 && rates[1] == 0 && isnan(row.agreement) && row.depth == 10);
    CHECK(near(row.speedup, 14 / (14 + checks)));

    /* Everybody leaves at once; a threshold that is met exactly counts. */
    policy_count(&costs, observed, 5, 0.1, &row);
    CHECK(rates[0] == 1 && near(row.agreement, 0.6) && row.depth == 2 && near(row.speedup, 14 / 6.5));
}

static const struct policy_wish standard = {.agreement = 0.95, .threshold = NAN};

/* The exits above and one behind them, at 8: nobody leaves at the second with less than 0.95 but wrongly, so that
 * checking it is a burden; whoever is left leaves at the third. */
TEST(policy_table_leaves_out_burdens)
{
    struct exit_cost exits[] = {{2, 0.5}, {5, 1}, {8, 0.25}};
    struct policy_costs costs = {.layers = 30, .output = 2, .exit = exits, .exits = 3};
    struct evidence first[] = {{0.999}, {0.999}, {0.1}, {0.2}, {0.1}};
    bool first_agrees[] = {true, true, true, false, true};
    struct evidence second[] = {{0.1}, {0.1}, {0.2}, {0.1}, {0.2}};
    bool second_agrees[] = {false, false, true, true, false};
    struct evidence third[] = {{0.5}, {0.5}, {0.999}, {0.999}, {0.999}};
    bool third_agrees[] = {true, true, true, true, true};
    struct observed observed[] = {{first, first_agrees}, {second, second_agrees}, {third, third_agrees}};
    struct policy_choice choice;
    struct error error = {0};
    int kept[3];
    REQUIRE_OK(policy_thin(&costs, observed, 5, &standard, kept, &choice, &error));
    CHECK(costs.exits == 2 && kept[0] == 0 && kept[1] == 2);
    CHECK(observed[0].evidence == first && observed[1].agrees == third_agrees && exits[1].depth == 8);
    CHECK(choice.agrees && choice.speedup > 1 && choice.agreement == 1);

    /* Checks that cost more than all layers: one stays to be told of, and is not predicted to pay. */
    costs.output = 100;
    costs.exit[0].head = 1;
    for (int t = 0; t < 5; t++)
        first[t].confidence = third[t].confidence = 0;
    REQUIRE_OK(policy_thin(&costs, observed, 5, &standard, kept, &choice, &error));
    CHECK(costs.exits == 1 && !choice.agrees && choice.speedup < 1);
}

/* Two exits that are a burden each as long as the other is there: a search that stops where the next step is no better
 * would keep both. */
TEST(policy_table_goes_through_what_is_no_better)
{
    struct exit_cost exits[] = {{4, 0}, {5, 0}, {6, 0}};
    struct policy_costs costs = {.layers = 10, .output = 1, .exit = exits, .exits = 3};
    struct evidence unsure[] = {{0.1}, {0.1}, {0.1}, {0.1}}, sure[] = {{0.999}, {0.999}, {0.999}, {0.999}};
    bool agrees[] = {true, true, true, true};
    struct observed observed[] = {{unsure, agrees}, {unsure, agrees}, {sure, agrees}};
    struct policy_choice choice;
    struct error error = {0};
    int kept[3];
    REQUIRE_OK(policy_thin(&costs, observed, 4, &standard, kept, &choice, &error));
    CHECK(costs.exits == 1 && kept[0] == 2);
    CHECK(near(choice.speedup, 11. / 7));
}

/* Of the thresholds that agree often enough the fastest, not the lowest; without any, the one that agrees most. */
TEST(policy_table_threshold)
{
    struct exit_cost exits[] = {{2, 0}};
    const struct policy_costs costs = {.layers = 10, .output = 1, .exit = exits, .exits = 1};
    struct evidence tokens[] = {{0.35}, {0.65}, {0.75}, {0.92}};
    bool agrees[] = {false, true, true, true};
    const struct observed observed[] = {{tokens, agrees}};
    struct policy_wish wish = standard;
    struct policy_choice choice;
    struct error error = {0};
    REQUIRE_OK(policy_threshold(&costs, observed, 4, &wish, &choice, &error));
    CHECK(choice.agrees && choice.threshold == 0.6 && choice.agreement == 1);
    wish.agreement = 0.75;
    REQUIRE_OK(policy_threshold(&costs, observed, 4, &wish, &choice, &error));
    CHECK(choice.agrees && choice.threshold == 0.3 && choice.agreement == 0.75);
    wish.threshold = 0.7; /* is not asked whether it agrees */
    agrees[2] = false;
    REQUIRE_OK(policy_threshold(&costs, observed, 4, &wish, &choice, &error));
    CHECK(choice.agrees && choice.threshold == 0.7 && choice.agreement == 0.5);
    agrees[3] = agrees[1] = false;
    agrees[2] = true;
    REQUIRE_OK(policy_threshold(&costs, observed, 4, &standard, &choice, &error));
    CHECK(!choice.agrees && choice.threshold == 0.7 && choice.agreement == 0.5);
}

TEST(policy_table_chooses_the_nearest_of_each_tap)
{
    const struct trial_config configs[] = {{.spec.tap = {12, false}}, {.spec.tap = {6, false}},
                                           {.spec.tap = {12, false}}, {.spec.tap = {12, true}},
                                           {.spec.tap = {6, false}},  {.spec.tap = {30, false}},
                                           {.spec.tap = {8, false}}};
    static const double kls[] = {0.5, 2, 0.1, 0.4, 1, 0, 3}; /* tap 8 is worse than tap 6, and later */
    enum { COUNT = sizeof configs / sizeof configs[0] };
    struct metrics_point points[COUNT] = {0};
    struct leaderboard_row rows[COUNT] = {0};
    const struct leaderboard_row *best[COUNT];
    const struct leaderboard board = {.row = rows, .count = COUNT};
    for (int i = 0; i < COUNT; i++) {
        points[i].held_out.kl = kls[i];
        rows[i] = (struct leaderboard_row){.config = &configs[i], .best = &points[i], .finished = i != 4};
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
