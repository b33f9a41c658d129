/* The one read of the stores: contents, and that nothing depends on threads, batches,
 * shards or where the reading began. */
#include "tests/train_fixture.h"

#include "common/base/hash.h"
#include "tests/test.h"
#include "train/feed.h"
#include "train/read_order.h"

enum { TAPS = 3, COUNT = 3 };

static const struct tap taps[TAPS] = {{2, true}, {3, false}, {4, false}};

static bool make_store(const struct train_fixture *fixture, const char *name, char path[4096])
{
    struct error error = {0};
    snprintf(path, 4096, "%s", name);
    if (train_fixture_create(fixture, path, &error) == 0)
        return true;
    test_fail(__FILE__, __LINE__, "%s", error.text);
    return false;
}

/* A view's values as f32. */
static void widen(const struct states_view *view, size_t values, float *states)
{
    dtype_to_f32(view->type, view->values, (int64_t)values, states);
}

/* Hashes of the labels and of all states of each place from `first` to `end`. */
static int read_hashes(struct stores *stores, struct feed_plan plan, int threads, uint64_t *hashes,
                       struct error *error)
{
    struct feed *feed;
    const struct feed_batch *batch;
    int result;
    plan.tap = taps;
    plan.taps = TAPS;
    if (feed_open(stores, &plan, threads, &feed, error) < 0)
        return -1;
    const size_t rows = (size_t)stores->rows, values = rows * (size_t)stores->config.hidden;
    float *states = calloc(values, sizeof *states);
    while ((result = feed_next(feed, &batch, error)) == 0 && batch) {
        for (int s = 0; s < batch->sequences; s++) {
            uint64_t hash = hash_bytes(batch->labels + (size_t)s * rows, rows * sizeof(int32_t), 0);
            for (int t = 0; t < TAPS; t++) {
                widen(&batch->states[t][s], values, states);
                hash = hash_bytes(states, values * sizeof *states, hash);
            }
            hashes[batch->first + (uint64_t)s] = hash;
        }
    }
    feed_close(feed);
    free(states);
    return result;
}

static void check_contents(const char *codec)
{
    struct error error = {0};
    struct stores stores;
    struct feed *feed;
    struct shards_reader *reader;
    const struct feed_batch *batch;
    struct train_fixture fixture = small_fixture;
    char path[4096];
    const struct read_order order = {.split = SPLIT_TRAIN, .count = 40, .shuffled = true, .seed = 5};
    const struct feed_plan plan = {.split = SPLIT_TRAIN,
                                   .shuffled = true,
                                   .seed = 5,
                                   .tap = taps,
                                   .taps = TAPS,
                                   .values = true,
                                   .u = true,
                                   .best = true,
                                   .sequences = 4,
                                   .end = 8};
    fixture.codec = codec;
    REQUIRE(make_store(&fixture, test_folder(), path));
    REQUIRE_OK(stores_open((const char *[]){path}, 1, &stores, &error));
    const size_t rows = (size_t)stores.rows, values = rows * (size_t)stores.config.hidden;
    float *states = calloc(values, sizeof *states), *found = calloc(values, sizeof *found);
    int32_t *ids = calloc(rows + 1, sizeof *ids);
    struct target_row *target = calloc(rows, sizeof *target);
    REQUIRE_OK(shards_reader_open(stores.shards, &reader, &error));
    REQUIRE_OK(feed_open(&stores, &plan, 2, &feed, &error));
    for (uint64_t first = 0; first < 8; first += 4) {
        REQUIRE_OK(feed_next(feed, &batch, &error));
        REQUIRE(batch && batch->first == first && batch->sequences == 4 && batch->rows == 4 * (int64_t)rows);
        REQUIRE(batch->best_count == TARGET_BEST);
        for (uint64_t s = 0; s < 4; s++) {
            const struct sequence sequence = read_order_at(&order, first + s);
            REQUIRE_OK(shards_reader_tokens(reader, sequence, ids, &error));
            CHECK(!memcmp(batch->labels + s * rows, ids + 1, rows * sizeof *ids));
            for (int t = 0; t < TAPS; t++) {
                const int column = shards_find_tap(stores.shards, taps[t], &error);
                REQUIRE_OK(shards_reader_states(reader, column, sequence, states, &error));
                widen(&batch->states[t][s], values, found);
                CHECK(!memcmp(found, states, values * sizeof *states));
            }
            struct sequence stored = sequence;
            struct reader *of = shards_reader_of(reader, &stored);
            REQUIRE_OK(reader_target(of, stored, target, states, &error));
            CHECK(!memcmp(batch->values + s * rows, target, rows * sizeof *target));
            for (uint64_t r = 0; r < rows; r++)
                CHECK(!memcmp(batch->best + (s * rows + r) * TARGET_BEST, target[r].best, sizeof target->best));
            widen(&batch->u[s], values, found);
            CHECK(!memcmp(found, states, values * sizeof *states));
        }
    }
    REQUIRE_OK(feed_next(feed, &batch, &error));
    CHECK(!batch);
    feed_close(feed);
    shards_reader_close(reader);
    stores_close(&stores);
    free(states);
    free(found);
    free(ids);
    free(target);
}

TEST(feed_gives_what_the_store_holds)
{
    static const char *const codecs[] = {"raw:f32", "raw", "lossless", "q8"};
    for (int i = 0; i < 4; i++)
        check_contents(codecs[i]);
}

TEST(feed_depends_on_the_place_only)
{
    struct error error = {0};
    struct stores stores;
    char path[4096];
    enum { END = 90 };
    uint64_t expected[END], found[END];
    struct feed_plan plan = {.split = SPLIT_TRAIN, .shuffled = true, .seed = 5, .sequences = 4, .end = END};
    REQUIRE(make_store(&small_fixture, test_folder(), path));
    REQUIRE_OK(stores_open((const char *[]){path}, 1, &stores, &error));
    REQUIRE_OK(read_hashes(&stores, plan, 1, expected, &error));
    REQUIRE_OK(read_hashes(&stores, plan, 3, found, &error)); /* threads */
    CHECK(!memcmp(found, expected, sizeof found));
    plan.sequences = 7; /* batches; the last one is short */
    REQUIRE_OK(read_hashes(&stores, plan, 2, found, &error));
    CHECK(!memcmp(found, expected, sizeof found));
    plan.first = 53; /* where it begins */
    memset(found, 0, sizeof found);
    REQUIRE_OK(read_hashes(&stores, plan, 2, found, &error));
    CHECK(!memcmp(found + 53, expected + 53, sizeof found - 53 * sizeof *found));
    CHECK(found[52] == 0);
    stores_close(&stores);
}

TEST(feed_reads_shards_as_one_store)
{
    struct error error = {0};
    struct stores whole, shards;
    const char *folder = test_folder();
    char path[4096], part[COUNT][4096];
    const char *parts[COUNT] = {part[2], part[0], part[1]}; /* in any order */
    enum { END = 50 };
    uint64_t expected[END], found[END];
    const struct feed_plan plan = {
        .split = SPLIT_TRAIN, .shuffled = true, .seed = 5, .sequences = 4, .end = END};
    snprintf(path, sizeof path, "%s/whole", folder);
    REQUIRE_OK(train_fixture_create(&small_fixture, path, &error));
    for (int i = 0; i < COUNT; i++) {
        struct train_fixture fixture = small_fixture;
        fixture.shard = i;
        fixture.shards = COUNT;
        snprintf(part[i], sizeof part[i], "%s/part%d", folder, i);
        REQUIRE_OK(train_fixture_create(&fixture, part[i], &error));
    }
    REQUIRE_OK(stores_open((const char *[]){path}, 1, &whole, &error));
    REQUIRE_OK(stores_open(parts, COUNT, &shards, &error));
    CHECK(shards.sequences[SPLIT_TRAIN] == 40);
    REQUIRE_OK(read_hashes(&whole, plan, 2, expected, &error));
    REQUIRE_OK(read_hashes(&shards, plan, 2, found, &error));
    CHECK(!memcmp(found, expected, sizeof found));
    stores_close(&shards);
    stores_close(&whole);
}

TEST(feed_stores_must_hold_enough)
{
    struct error error = {0};
    struct stores stores;
    struct train_fixture empty = small_fixture;
    char path[4096];
    const struct tap missing = {1, true};
    const struct feed_plan plan = {.split = SPLIT_TRAIN, .tap = &missing, .taps = 1, .sequences = 1, .end = 1};
    struct feed *feed;
    empty.held_out = 0;
    REQUIRE(make_store(&empty, test_folder(), path));
    CHECK(stores_open((const char *[]){path}, 1, &stores, &error) < 0);
    CHECK_TEXT(error.text, "no held-out sequences");
    CHECK(stores_open((const char *[]){"/nonexistent"}, 1, &stores, &error) < 0);
    CHECK_TEXT(error.text, "/nonexistent");
    REQUIRE(make_store(&small_fixture, test_folder(), path));
    REQUIRE_OK(stores_open((const char *[]){path}, 1, &stores, &error));
    CHECK(feed_open(&stores, &plan, 1, &feed, &error) < 0);
    CHECK_TEXT(error.text, "no tap 1.mid");
    stores_close(&stores);
}

/* Flips a bit in the middle of the record of a tap and sequence, found by its header. */
static bool damage_record(const char *store, int layer, bool mid, uint64_t index)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/data.mdb", store);
    FILE *file = fopen(path, "r+b");
    if (!file)
        return false;
    fseek(file, 0, SEEK_END);
    const long size = ftell(file);
    unsigned char *bytes = malloc((size_t)size);
    rewind(file);
    bool found = bytes && fread(bytes, 1, (size_t)size, file) == (size_t)size;
    for (long at = 0; found && at + (long)sizeof(struct record_header) < size; at++) {
        struct record_header header;
        memcpy(&header, bytes + at, sizeof header);
        if (memcmp(header.magic, "OFRR", 4) || header.layer != (uint32_t)layer || header.mid != mid ||
            header.index != index || header.split != SPLIT_TRAIN)
            continue;
        const long offset = at + (long)sizeof header + (long)header.payload / 2;
        fseek(file, offset, SEEK_SET);
        fputc(bytes[offset] ^ 1, file);
        free(bytes);
        return fclose(file) == 0;
    }
    free(bytes);
    fclose(file);
    return false;
}

static void check_damage(const char *codec, int layer, bool mid, const char *name)
{
    struct error error = {0};
    struct stores stores;
    struct feed *feed;
    const struct feed_batch *batch;
    char path[4096];
    const struct feed_plan plan = {
        .split = SPLIT_TRAIN, .tap = taps, .taps = TAPS, .values = true, .sequences = 4, .end = 40};
    struct train_fixture fixture = small_fixture;
    int batches = 0;
    fixture.codec = codec;
    REQUIRE(make_store(&fixture, test_folder(), path));
    REQUIRE(damage_record(path, layer, mid, 13));
    REQUIRE_OK(stores_open((const char *[]){path}, 1, &stores, &error));
    REQUIRE_OK(feed_open(&stores, &plan, 2, &feed, &error));
    while (feed_next(feed, &batch, &error) == 0 && batch)
        batches++;
    CHECK(batches == 3); /* the fourth one holds sequence 13 */
    CHECK_TEXT(error.text, path);
    CHECK_TEXT(error.text, name);
    CHECK_TEXT(error.text, "13");
    feed_close(feed);
    stores_close(&stores);
}

TEST(feed_names_a_damaged_record)
{
    check_damage("lossless", 2, true, "2.mid");
    check_damage("lossless", 5, false, "target");
    check_damage("raw", 2, true, "2.mid");
    check_damage("raw", 5, false, "target");
}

TEST(feed_can_be_closed_at_any_time)
{
    struct error error = {0};
    struct stores stores;
    struct feed *feed;
    const struct feed_batch *batch;
    char path[4096];
    const struct feed_plan plan = {
        .split = SPLIT_TRAIN, .shuffled = true, .tap = taps, .taps = TAPS, .sequences = 2, .end = 1 << 20};
    REQUIRE(make_store(&small_fixture, test_folder(), path));
    REQUIRE_OK(stores_open((const char *[]){path}, 1, &stores, &error));
    for (int taken = 0; taken < 6; taken++) {
        REQUIRE_OK(feed_open(&stores, &plan, 2, &feed, &error));
        for (int i = 0; i < taken; i++)
            REQUIRE_OK(feed_next(feed, &batch, &error));
        feed_close(feed);
    }
    stores_close(&stores);
}

TEST_MAIN
