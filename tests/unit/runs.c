/* runs.c: sequences held out in runs: both splits early, never neighbours, the share as wanted, counts that
 * agree. */
#include <math.h>

#include "common/store/runs.h"
#include "tests/test.h"

static const double shares[] = {1e-9, 0.001, 0.05, 0.2, 1.0 / 3, 0.5, 0.9, 0.999};
enum { SHARES = sizeof shares / sizeof *shares, MANY = 20000 };

TEST(runs_neighbours_are_never_of_two_splits)
{
    for (int i = 0; i < SHARES; i++)
        for (uint64_t n = 1; n < MANY; n++) {
            const enum split before = runs_split(n - 1, shares[i]), split = runs_split(n, shares[i]);
            if (before != split && before != RUNS_GAP && split != RUNS_GAP)
                test_fail(__FILE__, __LINE__, "share %g: sequences %d and %d", shares[i], (int)n - 1, (int)n);
        }
}

TEST(runs_counts_agree)
{
    for (int i = 0; i < SHARES; i++) {
        uint64_t expected[SPLIT_COUNT + 1] = {0}, counted[SPLIT_COUNT];
        for (uint64_t n = 0; n < MANY; n++) {
            runs_count(n, shares[i], counted);
            if (counted[SPLIT_TRAIN] != expected[SPLIT_TRAIN] ||
                counted[SPLIT_HELD_OUT] != expected[SPLIT_HELD_OUT])
                test_fail(__FILE__, __LINE__, "share %g: of %d", shares[i], (int)n);
            expected[runs_split(n, shares[i])]++;
        }
    }
}

TEST(runs_both_splits_are_in_the_first_three)
{
    for (int i = 0; i < SHARES; i++) {
        uint64_t counted[SPLIT_COUNT];
        runs_count(RUNS_LEAST, shares[i], counted);
        CHECK(counted[SPLIT_TRAIN] == 1 && counted[SPLIT_HELD_OUT] == 1);
    }
}

TEST(runs_share_is_kept)
{
    for (int i = 1; i < SHARES - 2; i++) { /* runs of 16 have no smaller neighbour than one sequence */
        uint64_t counted[SPLIT_COUNT];
        runs_count(1000000, shares[i], counted);
        const double share =
            (double)counted[SPLIT_HELD_OUT] / (double)(counted[SPLIT_TRAIN] + counted[SPLIT_HELD_OUT]);
        if (fabs(share - shares[i]) > 0.03 * shares[i] + 1e-4)
            test_fail(__FILE__, __LINE__, "share %g: %g", shares[i], share);
        CHECK(counted[SPLIT_TRAIN] + counted[SPLIT_HELD_OUT] >= (shares[i] > 0.3 ? 900000 : 950000));
    }
}

/* Part of what stores hold: it must not change. */
TEST(runs_of_a_twentieth)
{
    static const char expected[] = "t-H-tttttttttttttttttt" /* 1 of 20, two gaps */
                                   "t-HH-ttttttttttttttttttttttttttttttttttttt" /* 2 of 40 */
                                   "t-HHHH-tttt";
    for (uint64_t n = 0; n < sizeof expected - 1; n++) {
        const enum split split = runs_split(n, 0.05);
        const char found = split == SPLIT_TRAIN ? 't' : split == SPLIT_HELD_OUT ? 'H' : '-';
        if (found != expected[n])
            test_fail(__FILE__, __LINE__, "sequence %d is %c, not %c", (int)n, found, expected[n]);
    }
    CHECK(runs_split(UINT64_MAX, 0.05) <= RUNS_GAP); /* nothing overflows */
    CHECK(runs_split(UINT64_MAX, 1e-300) == SPLIT_TRAIN);
}

TEST_MAIN
