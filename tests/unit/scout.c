/* scout.c: the taps that a scout proposes, against all choices; and which maps there are. */
#include "extract/scout.h"

#include "common/base/random.h"
#include "tests/test.h"

enum { LAYERS = 11 };

/* Layers left out, a token, with the taps of a set of bits; -1 where a tap brings nothing. */
static double saved_by(const double *agreement, unsigned set)
{
    double saved = 0, before = 0;
    for (int tap = 1; tap < LAYERS; tap++) {
        if (!(set >> tap & 1))
            continue;
        if (agreement[tap] <= before)
            return -1;
        saved += (agreement[tap] - before) * (LAYERS - tap);
        before = agreement[tap];
    }
    return saved;
}

static int bits_of(unsigned set)
{
    int count = 0;
    for (; set; set &= set - 1)
        count++;
    return count;
}

TEST(proposed_taps_are_the_best)
{
    struct random random = {3};
    for (int round = 0; round < 50; round++) {
        double agreement[LAYERS], best = 0;
        int taps[SCOUT_TAPS];
        unsigned chosen = 0;
        for (int tap = 0; tap < LAYERS; tap++)
            agreement[tap] = (tap + 3 * random_uniform(&random)) / (LAYERS + 3);
        const int count = scout_choose(agreement, LAYERS, taps);
        CHECK(count >= 1 && count <= SCOUT_TAPS);
        for (int i = 0; i < count; i++) {
            CHECK(i == 0 ? taps[i] >= 1 : taps[i] > taps[i - 1]);
            chosen |= 1u << taps[i];
        }
        for (unsigned set = 0; set < 1u << LAYERS; set += 2)
            if (bits_of(set) <= SCOUT_TAPS && saved_by(agreement, set) > best)
                best = saved_by(agreement, set);
        CHECK(saved_by(agreement, chosen) > best - 1e-12);
    }
}

TEST(taps_without_agreement_are_not_proposed)
{
    const double none[LAYERS] = {0.5};
    const double one[LAYERS] = {0, 0, 0, 0.4, 0.4, 0.3, 0.4};
    int taps[SCOUT_TAPS];
    CHECK(scout_choose(none, LAYERS, taps) == 0);
    CHECK(scout_choose(one, LAYERS, taps) == 1 && taps[0] == 3);
}

TEST(maps_lead_to_the_last_layer_and_to_two_below_it)
{
    CHECK(scout_map_count(2) == 2 && scout_bridge_map(2, 0) == -1);
    CHECK(scout_map_count(30) == 58);
    for (int map = 0; map < 58; map++) {
        const struct scout_map of = scout_map(30, map);
        CHECK(of.to == (map < 30 ? 30 : 28) && of.tap < of.to);
        CHECK(map < 30 ? of.tap == map : scout_bridge_map(30, of.tap) == map);
    }
    CHECK(scout_bridge_map(30, 27) == 57 && scout_bridge_map(30, 28) == -1);
}

TEST_MAIN
