/* What was seen of heads: of each tap the nearest one is kept, and found by its name. */
#include "train/observations.h"

#include <string.h>

#include "tests/test.h"

static struct trial_config config_of(const char *id, int layer, bool mid)
{
    struct trial_config config = {.spec.tap = {layer, mid}};
    snprintf(config.id, sizeof config.id, "%s", id);
    return config;
}

/* Three tokens, of which the first has this confidence. */
static int keep(struct observations *observations, const char *id, int layer, bool mid, double kl,
                double confidence, struct error *error)
{
    const struct stores stores = {.sequences = {[SPLIT_HELD_OUT] = 3}, .rows = 1};
    const struct trial_config config = config_of(id, layer, mid);
    struct observed observed;
    if (observed_create(&stores, &observed, error) < 0)
        return -1;
    observed.evidence[0].confidence = confidence;
    if (observations_keep(observations, &config, kl, &observed, error) < 0)
        return -1;
    CHECK(!observed.evidence && !observed.agrees); /* taken over */
    return 0;
}

TEST(observations_of_the_nearest_of_each_tap)
{
    struct error error = {0};
    struct observations observations = {0};
    CHECK(!observations_find(&observations, "a"));
    REQUIRE_OK(keep(&observations, "b", 12, false, 0.5, 0.1, &error));
    REQUIRE_OK(keep(&observations, "c", 12, true, 0.9, 0.2, &error));
    REQUIRE_OK(keep(&observations, "d", 12, false, 0.6, 0.3, &error)); /* further away */
    CHECK(observations.count == 2 && !observations_find(&observations, "d"));
    REQUIRE(observations_find(&observations, "b") && observations_find(&observations, "c"));
    CHECK(observations_find(&observations, "b")->evidence[0].confidence == 0.1);
    REQUIRE_OK(keep(&observations, "e", 12, false, 0.4, 0.4, &error)); /* nearer */
    CHECK(observations.count == 2 && !observations_find(&observations, "b"));
    REQUIRE(observations_find(&observations, "e"));
    CHECK(observations_find(&observations, "e")->evidence[0].confidence == 0.4);
    /* Equal ones as the leaderboard ranks them: the first by name, whichever came first. */
    REQUIRE_OK(keep(&observations, "f", 12, false, 0.4, 0.5, &error));
    CHECK(observations_find(&observations, "e") && !observations_find(&observations, "f"));
    REQUIRE_OK(keep(&observations, "a", 12, false, 0.4, 0.6, &error));
    CHECK(!observations_find(&observations, "e") && observations_find(&observations, "a"));
    observations_free(&observations);
    CHECK(observations.count == 0 && !observations_find(&observations, "a"));
}

TEST_MAIN
