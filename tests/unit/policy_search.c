/* What exits would do, counted by hand on a few tokens; which exits and which threshold are chosen. */
#include "train/policy_search.h"

#include <math.h>

#include "tests/test.h"

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

/* Two exits, at 2 and 5 of 10 layers; heads of 0.5 and 1 layers, a vocabulary product of 4. */
TEST(policy_search_counts_tokens)
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

/* The exits above and one behind them, at 8: nobody leaves at the second with less than 0.95 but wrongly, so
 * that checking it is a burden; whoever is left leaves at the third. */
TEST(policy_search_leaves_out_burdens)
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

/* Two exits that are a burden each as long as the other is there: a search that stops where the next step is no
 * better would keep both. */
TEST(policy_search_goes_through_what_is_no_better)
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

/* Of the thresholds that agree often enough the fastest, not the lowest; without any, the one that agrees
 * most. */
TEST(policy_search_threshold)
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

/* What is asked for has its place among the table's thresholds, and none is there twice. */
TEST(policy_search_thresholds)
{
    double list[POLICY_THRESHOLDS];
    struct policy_wish wish = standard;
    CHECK(policy_thresholds(&wish, list) == POLICY_THRESHOLDS - 1);
    wish.threshold = 0.77;
    CHECK(policy_thresholds(&wish, list) == POLICY_THRESHOLDS);
    CHECK(list[4] == 0.7 && list[5] == 0.77 && list[6] == 0.8);
    wish.threshold = 1;
    CHECK(policy_thresholds(&wish, list) == POLICY_THRESHOLDS && list[POLICY_THRESHOLDS - 1] == 1);
    wish.threshold = 0.9;
    CHECK(policy_thresholds(&wish, list) == POLICY_THRESHOLDS - 1 && list[7] == 0.9 && list[8] == 0.95);
}

TEST_MAIN
