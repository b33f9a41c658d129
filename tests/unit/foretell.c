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

TEST_MAIN
