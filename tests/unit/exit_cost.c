/* Costs follow the number of weights. */
#include "train/exit_cost.h"

#include <math.h>

#include "tests/small_config.h"
#include "tests/test.h"

static const double layer = 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536 + 2 * 576;

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

TEST(exit_cost_of_taps)
{
    CHECK(tap_depth(&small, (struct tap){12, false}) == 12);
    CHECK(near(tap_depth(&small, (struct tap){12, true}), 11 + 1536. / (1536 + 4608)));
    CHECK(tap_depth(&small, (struct tap){0, false}) == 0);
}

TEST(exit_cost_follows_parameters)
{
    struct error error = {0};
    struct head_spec spec = {.kind = head_kind_find("affine", &error), .tap = {24, false}};
    struct exit_cost cost = exit_cost(&spec, &small);
    CHECK(cost.depth == 24 && fabs(cost.head - (576. * 576 + 2 * 576) / layer) < 1e-3);
    CHECK(fabs(output_cost(&small) - 49152. * 576 / layer) < 1e-2);
    /* An output weight of its own is read in the place of the model's. */
    spec.output = OUTPUT_UNTIED;
    const struct exit_cost own = exit_cost(&spec, &small);
    CHECK(near(own.head, cost.head));
}

TEST_MAIN
