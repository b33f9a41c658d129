/* LMDB's structure, read without LMDB: sound stores have no problems, every bit of what holds them together
 * counts, and a writer refuses what is damaged. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/lmdb/pages.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

static char path[4200], data[4300];

/* Many small commits leave lists of freed pages; a tree of two levels; large values. */
static int create(struct error *error)
{
    struct store *store;
    json_t *manifest = fixture_manifest(0, 1);
    snprintf(path, sizeof path, "%s/store", test_folder());
    snprintf(data, sizeof data, "%s/data.mdb", path);
    int result = store_create(path, manifest, &store, error);
    json_decref(manifest);
    for (int i = 0; i < 9 && result == 0; i++)
        result = fixture_fill(store, i % 3 == 2 ? SPLIT_HELD_OUT : SPLIT_TRAIN, 30, error);
    store_close(store);
    return result;
}

static void count_problem(void *context, const char *problem)
{
    (void)problem;
    ++*(int *)context;
}

/* Problems, or 1 when the check could not even begin. */
static int problems(void)
{
    struct error error;
    int reported = 0, counted;
    if (pages_check(data, 0, count_problem, &reported, &counted, &error) < 0)
        return 1;
    CHECK(reported == counted);
    return counted;
}

static void flip(off_t bit)
{
    unsigned char byte;
    int file = open(data, O_RDWR | O_CLOEXEC);
    CHECK(pread(file, &byte, 1, bit / 8) == 1);
    byte ^= (unsigned char)(1 << bit % 8);
    CHECK(pwrite(file, &byte, 1, bit / 8) == 1);
    close(file);
}

static uint64_t read_number(off_t offset)
{
    uint64_t number = 0;
    int file = open(data, O_RDONLY | O_CLOEXEC);
    CHECK(pread(file, &number, sizeof number, offset) == sizeof number);
    close(file);
    return number;
}

/* Every bit of `size` bytes at `offset` is noticed. */
static void check_bits(const char *what, off_t offset, off_t size)
{
    int missed = 0;
    off_t first = 0;
    for (off_t bit = offset * 8; bit < (offset + size) * 8; bit++) {
        flip(bit);
        if (problems() == 0 && missed++ == 0)
            first = bit - offset * 8;
        flip(bit);
    }
    if (missed)
        test_fail(__FILE__, __LINE__, "%s: %d bits are not noticed, the first is %lld", what, missed,
                  (long long)first);
}

/* Offsets in a meta page, which lie behind its 16 bytes of header: magic 0, version 4, address 8, map
 * size 16, tree of freed pages 24, main tree 72, last page 120, transaction 128; in a tree: flags 4, depth
 * 6, counts 8 to 40, root 40. */
static off_t current_meta(void)
{
    off_t first = 16, second = 4096 + 16;
    return read_number(first + 128) > read_number(second + 128) ? first : second;
}

TEST(pages_of_sound_stores)
{
    struct error error;
    REQUIRE_OK(create(&error));
    CHECK(problems() == 0);
    REQUIRE_OK(pages_check_meta(data, &error));
}

/* What a value is said to take, against what LMDB makes of it. */
TEST(pages_room_of_values)
{
    enum { TOKENS = 32 + (FIXTURE_ROWS + 1) * 4, RAW = 64 + FIXTURE_ROWS * FIXTURE_HIDDEN * 2 };
    const struct {
        int tap;
        size_t size;
        double most; /* of the estimate: small values leave pages half full where keys do not ascend */
    } cases[] = {{STORE_TOKENS, TOKENS, 2}, {0, RAW, 1.02}};
    struct error error;
    struct store *store;
    struct store_usage usage;
    REQUIRE_OK(create(&error));
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        REQUIRE_OK(store_measure(store, cases[i].tap, &usage, &error));
        const double expected = (double)usage.values * store_value_bytes(cases[i].size);
        CHECK(usage.values == 270 && (double)usage.bytes >= expected &&
              (double)usage.bytes < cases[i].most * expected);
    }
    store_close(store);
    CHECK(store_value_slack(TOKENS) == 0);
    CHECK(store_value_slack(RAW) == 3 * 4096 - PAGES_VALUE_HEADER - RAW);
}

TEST(pages_meta_bits_count)
{
    struct error error;
    REQUIRE_OK(create(&error));
    off_t meta = current_meta();
    check_bits("magic and version", meta, 8);
    check_bits("page size", meta + 24, 4);
    /* Bit 14 of the flags says that the file was made alone, not in a folder, and means nothing. */
    check_bits("flags of the freed pages' tree, low", meta + 28, 1);
    check_bits("depth and counts of the freed pages' tree", meta + 30, 34);
    check_bits("root of the freed pages' tree", meta + 64, 8);
    check_bits("main tree", meta + 76, 44);
    check_bits("last page and transaction", meta + 120, 16);
    flip((meta + 29) * 8 + 6);
    CHECK(problems() == 0);
}

TEST(pages_freed_bits_count)
{
    struct error error;
    struct store *store;
    REQUIRE_OK(create(&error));
    off_t page = (off_t)read_number(current_meta() + 64) * 4096;
    uint64_t bounds = read_number(page + 8);
    off_t lower = (off_t)(bounds >> 32 & 0xffff), upper = (off_t)(bounds >> 48);
    REQUIRE(lower > 16 && upper < 4096 && upper > lower);
    check_bits("header", page, 8);
    check_bits("flags and bounds", page + 10, 6);
    check_bits("offsets of entries", page + 16, lower - 16);
    /* Each entry is 8 bytes of sizes, 8 of transaction, then a list; transactions may change within their
     * order unnoticed: their numbers are not the walk's business, and too high ones only delay reuse. */
    uint16_t entry = (uint16_t)read_number(page + 16);
    check_bits("sizes of an entry", page + entry, 8);
    check_bits("list of freed pages", page + entry + 16, 16);

    flip((page + entry + 24) * 8);
    CHECK(store_open(path, STORE_WRITE, &store, &error) < 0);
    CHECK_TEXT(error.text, "the structure is damaged");
    flip((page + entry + 24) * 8);
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    store_close(store);
}

static unsigned flags_of(off_t page)
{
    return (unsigned)(read_number(page + 8) >> 16 & 0xffff);
}

static off_t child_of(off_t branch)
{
    uint16_t entry = (uint16_t)read_number(branch + 16);
    return (off_t)(read_number(branch + entry) & 0xffffffffffff) * 4096;
}

/* A branch page in use above leaves with large values, or 0. */
static off_t find_branch(void)
{
    uint64_t last = read_number(current_meta() + 120);
    for (uint64_t page = 2; page <= last; page++) {
        off_t offset = (off_t)page * 4096;
        if (flags_of(offset) != 1 || flags_of(child_of(offset)) != 2)
            continue;
        off_t leaf = child_of(offset), entry = (uint16_t)read_number(leaf + 16);
        flip(offset * 8); /* a page in use notices the change of its number */
        bool used = problems() > 0;
        flip(offset * 8);
        if (used && (read_number(leaf + entry) >> 32 & 0xffff) == 1)
            return offset;
    }
    return 0;
}

TEST(pages_tree_bits_count)
{
    struct error error;
    REQUIRE_OK(create(&error));
    off_t branch = find_branch();
    REQUIRE(branch > 0);
    check_bits("number of a branch page", branch, 8);
    check_bits("flags and bounds of a branch page", branch + 10, 6);
    uint16_t first = (uint16_t)read_number(branch + 16), second = (uint16_t)read_number(branch + 18);
    check_bits("child of the first entry", branch + first, 6);
    check_bits("child and key size of the second entry", branch + second, 8);
    off_t leaf = child_of(branch);
    uint16_t entry = (uint16_t)read_number(leaf + 18);
    check_bits("number of a leaf page", leaf, 8);
    check_bits("flags and bounds of a leaf page", leaf + 10, 6);
    check_bits("flags and key size of an entry", leaf + entry + 4, 4);
    check_bits("page of a large value", leaf + entry + 16, 8);
}

TEST_MAIN
