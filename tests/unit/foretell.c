/* What a run is said to take: by trial, and with as many of them as are live. */
#include "train/foretell.h"
#include "tests/test.h"

/* Trained are a norm head's scale; an affine head's A, b and scale; an untied one's output weight, too. */
static const char text[] = "sequences: 2\n"
                           "trials:\n"
                           "  - {tap: 1, head: norm}\n"
                           "  - {tap: 2, head: affine}\n"
                           "  - {tap: 1, head: affine, output: untied}\n";

static const struct stores stores = {
    .rows = 16,
    .config =
        {.family = "llama", .layers = 3, .hidden = 8, .intermediate = 16, .vocab = 32, .norm_epsilon = 1e-5f},
};

static void open_sweep(struct sweep *sweep)
{
    struct error error = {0};
    REQUIRE_OK(sweep_parse("s.yaml", text, sizeof text - 1, sweep, &error));
    REQUIRE_OK(sweep_resolve(sweep, &stores.config, &error));
}

TEST(foretell_a_trial)
{
    struct sweep sweep;
    open_sweep(&sweep);
    CHECK(foretell_trial(&sweep.trial[0], &stores.config) == 4 * 3 * 8);
    CHECK(foretell_trial(&sweep.trial[1], &stores.config) == 4 * 3 * (8 * 8 + 8 + 8));
    CHECK(foretell_trial(&sweep.trial[2], &stores.config) == 4 * 3 * (8 * 8 + 8 + 8 + 32 * 8));
    sweep_free(&sweep);
}

TEST(foretell_the_largest_that_can_be_live)
{
    struct error error = {0};
    struct foretold one, two, all;
    struct sweep sweep;
    open_sweep(&sweep);
    REQUIRE_OK(foretell(&sweep, &stores, MATH_F32, 1, &one, &error));
    REQUIRE_OK(foretell(&sweep, &stores, MATH_F32, 2, &two, &error));
    REQUIRE_OK(foretell(&sweep, &stores, MATH_F32, 3, &all, &error));
    const uint64_t norm = foretell_trial(&sweep.trial[0], &stores.config),
                   affine = foretell_trial(&sweep.trial[1], &stores.config),
                   untied = foretell_trial(&sweep.trial[2], &stores.config);
    CHECK(one.trials == untied && two.trials == untied + affine && all.trials == untied + affine + norm);
    CHECK(two.gradients == 2 * one.gradients && one.gradients == untied / 3);
    CHECK(one.fixed == all.fixed && one.batch < two.batch && one.host == all.host && one.host < one.batch);
    CHECK(foretold_bytes(&all) == all.trials + all.gradients + all.batch + all.fixed);
    sweep_free(&sweep);
}

/* As many as the memory holds; not even one is refused, with numbers. */
TEST(foretell_how_many_can_be_live)
{
    struct error error = {0};
    struct foretold foretold;
    struct sweep sweep;
    int live = 0;
    open_sweep(&sweep);
    struct bounds bounds = {0};
    REQUIRE_OK(foretell_live(&sweep, &stores, MATH_F32, &bounds, &live, &error));
    CHECK(live == 3);
    for (int most = 1; most <= 3; most++) {
        REQUIRE_OK(foretell(&sweep, &stores, MATH_F32, most, &foretold, &error));
        bounds = (struct bounds){.memory = foretold_bytes(&foretold)};
        REQUIRE_OK(foretell_live(&sweep, &stores, MATH_F32, &bounds, &live, &error));
        CHECK(live == most);
        bounds = (struct bounds){.most = most};
        REQUIRE_OK(foretell_live(&sweep, &stores, MATH_F32, &bounds, &live, &error));
        CHECK(live == most);
    }
    /* Where a device does not hold all, some of it is left free. */
    REQUIRE_OK(foretell(&sweep, &stores, MATH_F32, 3, &foretold, &error));
    bounds = (struct bounds){.device = foretold.trials + foretold.gradients + foretold.fixed};
    REQUIRE_OK(foretell_live(&sweep, &stores, MATH_F32, &bounds, &live, &error));
    CHECK(live == 3);
    bounds.device--;
    REQUIRE_OK(foretell_live(&sweep, &stores, MATH_F32, &bounds, &live, &error));
    CHECK(live == 1);
    bounds = (struct bounds){.most = 5};
    REQUIRE_OK(foretell_live(&sweep, &stores, MATH_F32, &bounds, &live, &error));
    CHECK(live == 3);
    REQUIRE_OK(foretell(&sweep, &stores, MATH_F32, 1, &foretold, &error));
    bounds = (struct bounds){.memory = foretold_bytes(&foretold) - 1};
    CHECK(foretell_live(&sweep, &stores, MATH_F32, &bounds, &live, &error) < 0 && error.kind == ERROR_USAGE);
    CHECK_TEXT(error.text, "do not hold a single trial");
    bounds = (struct bounds){.device = 1}; /* what the machine lacks, foretell_check tells */
    REQUIRE_OK(foretell_live(&sweep, &stores, MATH_F32, &bounds, &live, &error));
    CHECK(live == 1);
    CHECK(foretell_check(&sweep, &stores, MATH_F32, 1, 5, 1, &error) < 0 && error.kind == ERROR_NO_MEMORY);
    sweep_free(&sweep);
}

/* A subset of all 32 tokens, in two forms; and the output weight as it is kept. */
TEST(foretell_a_subset)
{
    struct error error = {0};
    struct foretold all, subset;
    struct sweep sweep;
    open_sweep(&sweep);
    REQUIRE_OK(foretell(&sweep, &stores, MATH_F32, 3, &all, &error));
    sweep.trial[1].vocabulary = VOCABULARY_SUBSET;
    REQUIRE_OK(foretell(&sweep, &stores, MATH_F32, 3, &subset, &error));
    CHECK(subset.fixed == all.fixed + 2 * 32 * 8 + 2 * 4 * 32 * 8);
    sweep_free(&sweep);
}

TEST_MAIN
