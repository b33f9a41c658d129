/* The order in which sequences are read: every pass holds each once, in a shuffle of its own. */
#include "train/read_order.h"
#include "tests/test.h"

enum { COUNT = 100 };

TEST(read_order_every_pass_covers_everything_once)
{
    const struct read_order order = {.split = SPLIT_TRAIN, .count = COUNT, .shuffled = true, .seed = 9};
    const struct read_order other = {.split = SPLIT_TRAIN, .count = COUNT, .shuffled = true, .seed = 10};
    int fixed = 0, same = 0, like_other = 0;
    for (uint64_t pass = 0; pass < 3; pass++) {
        int seen[COUNT] = {0};
        for (uint64_t i = 0; i < COUNT; i++) {
            const struct sequence sequence = read_order_at(&order, COUNT * pass + i);
            REQUIRE(sequence.split == SPLIT_TRAIN && sequence.index < COUNT);
            seen[sequence.index]++;
            fixed += sequence.index == i;
            same += pass > 0 && sequence.index == read_order_at(&order, i).index;
            like_other += sequence.index == read_order_at(&other, COUNT * pass + i).index;
        }
        for (int i = 0; i < COUNT; i++)
            CHECK(seen[i] == 1);
    }
    /* One of a hundred is in its place by chance, in each of three passes; ten times that is not a shuffle. */
    CHECK(fixed < 30 && same < 30 && like_other < 30);
}

TEST(read_order_without_shuffle)
{
    const struct read_order order = {.split = SPLIT_HELD_OUT, .count = COUNT};
    for (uint64_t place = 0; place < 3 * COUNT; place += 17) {
        const struct sequence sequence = read_order_at(&order, place);
        CHECK(sequence.split == SPLIT_HELD_OUT && sequence.index == place % COUNT);
    }
}

/* What runs that have begun rely on: the same seed gives the same order in every version. */
TEST(read_order_stays_the_same)
{
    static const uint64_t expected[] = {10, 14, 13, 3, 35, 38, 27, 15};
    const struct read_order order = {.split = SPLIT_TRAIN, .count = 40, .shuffled = true, .seed = 4};
    for (uint64_t i = 0; i < 8; i++)
        CHECK(read_order_at(&order, 37 + i).index == expected[i]);
}

TEST_MAIN
