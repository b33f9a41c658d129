/* Shards read as one store: one order whatever their number, and nothing but whole sets. */
#include <stdio.h>

#include "common/store/shards.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

/* Shard `shard` of `shards` under the test's folder, with its part of `sequences` train sequences. */
static int make_shard(const char *folder, int shard, int shards, uint64_t sequences, struct error *error)
{
    char path[4200];
    struct store *store;
    uint64_t mine = (sequences + (uint64_t)(shards - 1 - shard)) / (uint64_t)shards;
    json_t *manifest = fixture_manifest(shard, shards);
    snprintf(path, sizeof path, "%s/%d", folder, shard);
    int result = store_create(path, manifest, &store, error);
    if (result == 0)
        result = fixture_fill(store, SPLIT_TRAIN, mine, error);
    store_close(store);
    json_decref(manifest);
    return result;
}

static int open_shards(const char *folder, const int *order, int count, struct shards **shards,
                       struct error *error)
{
    char text[4][4200];
    const char *paths[4];
    for (int i = 0; i < count; i++) {
        snprintf(text[i], sizeof text[i], "%s/%d", folder, order[i]);
        paths[i] = text[i];
    }
    return shards_open(paths, count, shards, error);
}

static int check_all(struct shards *shards, uint64_t sequences, struct error *error)
{
    struct shards_reader *reader;
    int32_t ids[FIXTURE_ROWS + 1], expected_ids[FIXTURE_ROWS + 1];
    float states[FIXTURE_ROWS * FIXTURE_HIDDEN], expected[FIXTURE_ROWS * FIXTURE_HIDDEN];
    int result = shards_reader_open(shards, &reader, error);
    for (uint64_t i = 0; i < sequences && result == 0; i++)
        for (int tap = 0; tap < FIXTURE_TAPS && result == 0; tap++) {
            struct sequence sequence = {SPLIT_TRAIN, i};
            fixture_tokens(sequence, expected_ids);
            fixture_states(tap, sequence, expected);
            result = shards_reader_tokens(reader, sequence, ids, error);
            if (result == 0)
                result = shards_reader_states(reader, tap, sequence, states, error);
            if (result == 0 &&
                (memcmp(ids, expected_ids, sizeof ids) || memcmp(states, expected, sizeof states)))
                result = error_set(error, "sequence %d differs", (int)i);
        }
    shards_reader_close(reader);
    return result;
}

TEST(shards_is_one_order)
{
    static const int order[][3] = {{0}, {1, 0}, {2, 0, 1}};
    struct error error;
    struct shards *shards;
    for (int count = 1; count <= 3; count++) {
        const char *folder = test_folder();
        for (int shard = 0; shard < count; shard++)
            REQUIRE_OK(make_shard(folder, shard, count, 10, &error));
        REQUIRE_OK(open_shards(folder, order[count - 1], count, &shards, &error));
        CHECK(shards_sequences(shards, SPLIT_TRAIN) == 10 && shards_sequences(shards, SPLIT_HELD_OUT) == 0);
        CHECK(shards_progress(shards, 1, SPLIT_TRAIN) == 10);
        CHECK(shards_info(shards)->taps == FIXTURE_TAPS);
        CHECK(shards_check_finished(shards, &error) < 0);
        CHECK_TEXT(error.text, "is not finished");
        CHECK(shards_find_tap(shards, (struct tap){2, false}, &error) == 1);
        REQUIRE_OK(check_all(shards, 10, &error));
        shards_close(shards);
    }
}

TEST(shards_stops_at_the_first_gap)
{
    static const int order[] = {0, 1, 2};
    struct error error;
    struct shards *shards;
    const char *folder = test_folder();
    REQUIRE_OK(make_shard(folder, 0, 3, 10, &error));
    REQUIRE_OK(make_shard(folder, 1, 3, 6, &error)); /* 1, 4: lacks 7 */
    REQUIRE_OK(make_shard(folder, 2, 3, 10, &error));
    REQUIRE_OK(open_shards(folder, order, 3, &shards, &error));
    CHECK(shards_sequences(shards, SPLIT_TRAIN) == 7);
    REQUIRE_OK(check_all(shards, 7, &error));
    shards_close(shards);
}

TEST(shards_must_be_whole)
{
    static const int twice[] = {0, 0, 1}, first[] = {0, 1};
    struct error error;
    struct shards *shards;
    const char *folder = test_folder();
    for (int shard = 0; shard < 3; shard++)
        REQUIRE_OK(make_shard(folder, shard, 3, 4, &error));
    CHECK(open_shards(folder, first, 2, &shards, &error) < 0);
    CHECK_TEXT(error.text, "is shard 0 of 3: all 3 are needed, and 2 given");
    CHECK(open_shards(folder, twice, 3, &shards, &error) < 0);
    CHECK_TEXT(error.text, "has the store open already");
    CHECK(shards == NULL);
}

TEST(shards_must_be_alike)
{
    static const int order[] = {0, 1};
    char path[4200];
    struct error error;
    struct store *store;
    struct shards *shards;
    const char *folder = test_folder();
    REQUIRE_OK(make_shard(folder, 0, 2, 4, &error));
    json_t *manifest = fixture_manifest(1, 2);
    json_object_set_new(json_object_get(manifest, "model"), "fingerprint", json_string("fedcba9876543210"));
    snprintf(path, sizeof path, "%s/1", folder);
    REQUIRE_OK(store_create(path, manifest, &store, &error));
    store_close(store);
    json_decref(manifest);
    CHECK(open_shards(folder, order, 2, &shards, &error) < 0);
    CHECK_TEXT(error.text, "are not shards of one store: \"model.fingerprint\" differs");
}

TEST_MAIN
