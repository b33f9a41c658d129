#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "tests/test.h"
#include "tests/train_fixture.h"
#include "train/draft_tokens.h"

TEST(draft_tokens_are_the_most_chosen)
{
    int64_t chosen[6] = {2, 0, 5, 2, 0, 0};
    double weight[6] = {1.5, 0.1, 1, 2.5, 0.1, 0.3};
    const struct draft_counts counts = {6, chosen, weight};
    struct error error;
    int32_t tokens[6];
    REQUIRE_OK(draft_tokens_choose(&counts, 1, tokens, &error));
    CHECK(tokens[0] == 2);
    REQUIRE_OK(draft_tokens_choose(&counts, 2, tokens, &error)); /* of equal ones the likelier */
    CHECK(tokens[0] == 2 && tokens[1] == 3);
    REQUIRE_OK(draft_tokens_choose(&counts, 5, tokens, &error)); /* then the smaller */
    static const int32_t expected[5] = {0, 1, 2, 3, 5};
    CHECK(!memcmp(tokens, expected, sizeof expected));
}

TEST(draft_tokens_of_a_store)
{
    const char *folder = test_folder();
    char path[512];
    struct error error;
    struct stores stores;
    struct draft_counts counts, again;
    int64_t rows = 0;
    snprintf(path, sizeof path, "%s/store", folder);
    REQUIRE_OK(train_fixture_create(&small_fixture, path, &error));
    const char *paths[] = {path};
    REQUIRE_OK(stores_open(paths, 1, &stores, &error));
    REQUIRE_OK(draft_tokens_count(&stores, 1, &counts, &error));
    REQUIRE_OK(draft_tokens_count(&stores, 3, &again, &error));
    for (int64_t v = 0; v < counts.vocab; v++) {
        rows += counts.chosen[v];
        CHECK(counts.chosen[v] == again.chosen[v] && counts.weight[v] == again.weight[v]);
        CHECK(counts.weight[v] >= 0 && (counts.chosen[v] == 0 || counts.weight[v] > 0));
    }
    CHECK(rows == (int64_t)small_fixture.train * small_fixture.rows);
    draft_counts_free(&counts);
    draft_counts_free(&again);
    stores_close(&stores);
}

TEST_MAIN
