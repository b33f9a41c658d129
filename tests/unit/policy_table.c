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
    const struct model_config config = {.layers = 30,
                                        .hidden = 576,
                                        .heads = 9,
                                        .kv_heads = 3,
                                        .head_size = 64,
                                        .intermediate = 1536,
                                        .vocab = 49152};
    /* q and o 576 x 576, k and v 192 x 576, three of 1536 x 576. */
    CHECK(layer_parameters(&config) == 576. * (576 + 576 + 192 + 192 + 3 * 1536));
    CHECK(tap_depth(&config, (struct tap){12, false}) == 12);
    CHECK(near(tap_depth(&config, (struct tap){12, true}), 11 + 1536. / (1536 + 4608)));
    CHECK(tap_depth(&config, (struct tap){0, false}) == 0);
}

/* Two exits, at 2 and 5 of 10 layers; heads of 0.5 and 1 layers, a vocabulary product of 4. */
TEST(policy_table_counts_tokens)
{
    struct exit_cost exits[] = {{2, 0.5}, {5, 1}};
    const struct policy_costs costs = {.layers = 10, .output = 4, .exit = exits, .exits = 2};
    struct outcome first[] = {{0.9f, true}, {0.9f, false}, {0.1f, true}, {0.2f, false}, {0.75f, true}};
    struct outcome second[] = {{0.1f, false}, {0.1f, false}, {0.8f, true}, {0.3f, true}, {0.99f, false}};
    struct outcome *const outcomes[] = {first, second};
    double rates[2];
    struct policy_row row = {.exit_rate = rates};

    /* Three leave at the first exit, two of them rightly; one at the second; one goes to the end. */
    policy_count(&costs, outcomes, 5, 0.75, &row);
    CHECK(row.threshold == 0.75);
    CHECK(near(rates[0], 0.6) && near(rates[1], 0.2));
    CHECK(near(row.agreement, 0.75));
    CHECK(near(row.depth, (3 * 2 + 5 + 10) / 5.));
    const double checks = 4.5 + 5; /* both exits */
    CHECK(near(row.speedup, 5 * 14 / (3 * (2 + 4.5) + (5 + checks) + (10 + checks + 4))));

    /* Nobody leaves, and everybody pays. */
    policy_count(&costs, outcomes, 5, 0.999, &row);
    CHECK(rates[0] == 0 && rates[1] == 0 && isnan(row.agreement) && row.depth == 10);
    CHECK(near(row.speedup, 14 / (14 + checks)));

    /* Everybody leaves at once; a threshold that is met exactly counts. */
    policy_count(&costs, outcomes, 5, (double)0.1f, &row);
    CHECK(rates[0] == 1 && near(row.agreement, 0.6) && row.depth == 2 && near(row.speedup, 14 / 6.5));
}

/* The exits above and one behind them, at 8: nobody leaves at the second with less than 0.95 but wrongly, so that
 * checking it is a burden; whoever is left leaves at the third. */
TEST(policy_table_leaves_out_burdens)
{
    struct exit_cost exits[] = {{2, 0.5}, {5, 1}, {8, 0.25}};
    struct policy_costs costs = {.layers = 30, .output = 2, .exit = exits, .exits = 3};
    struct outcome first[] = {{0.999f, true}, {0.999f, true}, {0.1f, true}, {0.2f, false}, {0.1f, true}};
    struct outcome second[] = {{0.1f, false}, {0.1f, false}, {0.2f, true}, {0.1f, true}, {0.2f, false}};
    struct outcome third[] = {{0.5f, true}, {0.5f, true}, {0.999f, true}, {0.999f, true}, {0.999f, true}};
    struct outcome *outcomes[] = {first, second, third};
    struct error error;
    int kept[3];
    REQUIRE_OK(policy_thin(&costs, outcomes, 5, kept, &error));
    CHECK(costs.exits == 2 && kept[0] == 0 && kept[1] == 2);
    CHECK(outcomes[0] == first && outcomes[1] == third && exits[1].depth == 8);

    /* Checks that cost more than all layers: the last exit stays, whatever it is worth. */
    costs.output = 100;
    costs.exit[0].head = 1;
    for (int t = 0; t < 5; t++)
        first[t].confidence = third[t].confidence = 0;
    REQUIRE_OK(policy_thin(&costs, outcomes, 5, kept, &error));
    CHECK(costs.exits == 1 && kept[0] == 1 && outcomes[0] == third);
}

TEST(policy_table_chooses_the_nearest_of_each_tap)
{
    struct trial trials[] = {
        {.config.spec.tap = {12, false}, .kl = 0.5},
        {.config.spec.tap = {6, false}, .kl = 2},
        {.config.spec.tap = {12, false}, .kl = 0.1},
        {.config.spec.tap = {12, true}, .kl = 0.4},
        {.config.spec.tap = {6, false}, .kl = 1, .failed = true},
        {.config.spec.tap = {30, false}, .kl = 0},
        {.config.spec.tap = {8, false}, .kl = 3}, /* worse than tap 6, and later */
    };
    enum { COUNT = sizeof trials / sizeof trials[0] };
    struct trial *all[COUNT], *best[COUNT];
    for (int i = 0; i < COUNT; i++)
        all[i] = &trials[i];
    REQUIRE(policy_choose(all, COUNT, 30, best) == 3);
    CHECK(best[0] == &trials[1] && best[1] == &trials[3] && best[2] == &trials[2]);
    CHECK(policy_choose(all + 4, 2, 30, best) == 0);
}

TEST(policy_table_verdict_is_plain)
{
    double rates[] = {0.25};
    struct policy_exit exit = {.threshold = 0.9};
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
    policy.exit = (struct policy_exit[]){{.threshold = 0.9}, {.threshold = 0.9}};
    policy_verdict(&policy, text, sizeof text);
    CHECK_TEXT(text, "costs 8.5 layers, and there are up to 2 of them.");
    rows[1].speedup = 1.25;
    policy_verdict(&policy, text, sizeof text);
    CHECK_TEXT(text, "Predicted speed: 1.25 times");
}

TEST_MAIN
