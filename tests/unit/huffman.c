/* The entropy stage of bytes: every byte comes back; bytes are pinned; sizes are near the entropy; no bytes harm. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/random.h"
#include "common/codec/huffman.h"
#include "tests/test.h"

enum kind { KIND_ONE, KIND_TWO, KIND_ALL, KIND_BELL, KIND_STEEP, KIND_COUNT };

/* KIND_STEEP: each value half as frequent as the one before: of many, the best codes are longer than the format's. */
static unsigned char *values_create(size_t count, enum kind kind)
{
    struct random random = {count * KIND_COUNT + (unsigned)kind};
    unsigned char *values = malloc(count);
    for (size_t i = 0; i < count; i++) {
        const uint64_t bits = random_next(&random);
        switch (kind) {
        case KIND_ONE: values[i] = 255; break;
        case KIND_TWO: values[i] = bits % 16 ? 7 : 200; break;
        case KIND_ALL: values[i] = (unsigned char)bits; break;
        case KIND_BELL: values[i] = (unsigned char)lrint(1.5 * random_normal(&random)); break;
        default: values[i] = (unsigned char)(bits ? __builtin_ctzll(bits) : 0);
        }
    }
    return values;
}

/* In memory of exactly the bound, then of exactly the size, so that the sanitizers see a step past either. */
static unsigned char *encode(const unsigned char *values, size_t count, size_t *size)
{
    unsigned char *bytes = malloc(huffman_bound(count));
    *size = huffman_encode(values, count, bytes);
    CHECK(*size <= huffman_bound(count));
    return realloc(bytes, *size);
}

static int decode(const unsigned char *bytes, size_t size, unsigned char *values, size_t count,
                  struct error *error)
{
    static struct huffman_table table;
    return huffman_decode(&table, bytes, size, values, count, error);
}

TEST(huffman_round_trip)
{
    static const size_t more[] = {127, 128, 129, 1000, 4097, 512 * 576};
    struct error error;
    for (size_t i = 1; i <= 100 + sizeof more / sizeof *more; i++)
        for (int kind = 0; kind < KIND_COUNT; kind++) {
            const size_t count = i <= 100 ? i : more[i - 101];
            size_t size;
            unsigned char *values = values_create(count, kind), *back = malloc(count);
            unsigned char *bytes = encode(values, count, &size);
            REQUIRE_OK(decode(bytes, size, back, count, &error));
            if (memcmp(values, back, count) != 0)
                test_fail(__FILE__, __LINE__, "kind %d, %zu values: one changed", kind, count);
            free(bytes);
            free(back);
            free(values);
        }
}

static void count_values(const unsigned char *values, size_t count, double total[256])
{
    memset(total, 0, 256 * sizeof *total);
    for (size_t i = 0; i < count; i++)
        total[values[i]]++;
}

static int lightest(const double weight[256])
{
    int found = -1;
    for (int v = 0; v < 256; v++)
        if (weight[v] > 0 && (found < 0 || weight[v] < weight[found]))
            found = v;
    return found;
}

/* Bits of the best code without a limit, by Huffman's rule: the two lightest become one, at its weight in bits. */
static double best_bits(const unsigned char *values, size_t count)
{
    double weight[256], bits = 0;
    count_values(values, count, weight);
    for (;;) {
        const int one = lightest(weight);
        const double first = weight[one];
        weight[one] = 0;
        const int other = lightest(weight);
        if (other < 0)
            return bits;
        weight[other] += first;
        bits += weight[other];
    }
}

/* So few values that no code wants to be longer than the limit. */
TEST(huffman_codes_are_the_best)
{
    enum { COUNT = 300, AROUND = 144 + 8 };
    for (int kind = KIND_TWO; kind < KIND_COUNT; kind++) {
        size_t size;
        unsigned char *values = values_create(COUNT, kind), *bytes = encode(values, COUNT, &size);
        const double bits = 8.0 * (double)(size - AROUND), best = best_bits(values, COUNT);
        if (bits < best || bits > best + 4 * 7)
            test_fail(__FILE__, __LINE__, "kind %d: %.0f bits; the best are %.0f", kind, bits, best);
        free(bytes);
        free(values);
    }
}

/* With the limit: the best code without one is missed by little. */
TEST(huffman_limit_costs_little)
{
    enum { COUNT = 512 * 576, AROUND = 8 * (144 + 8 + 4) };
    for (int kind = KIND_ALL; kind < KIND_COUNT; kind++) {
        size_t size;
        unsigned char *values = values_create(COUNT, kind), *bytes = encode(values, COUNT, &size);
        const double bits = 8 * (double)size, best = best_bits(values, COUNT);
        if (bits > 1.01 * best + AROUND)
            test_fail(__FILE__, __LINE__, "kind %d: %.0f bits; the best are %.0f", kind, bits, best);
        free(bytes);
        free(values);
    }
}

/* A store's bytes must be the same for ever. Four values of lengths 1, 2, 3, 3; the second stream, of "c" and
 * "d", is 110 and 111 from the lowest bit up. */
TEST(huffman_bytes_are_pinned)
{
    static const unsigned char values[8] = "aacdabab";
    static const unsigned char streams[] = {0x00, 0x3b, 0x02, 0x02, 0, 0, 0, 0, 0, 0, 0, 0};
    unsigned char expected[128 + 16 + sizeof streams] = {0};
    size_t size;
    expected['a' / 2] = 1 << 4; /* odd values in the high nibble */
    expected['b' / 2] = 3 << 4 | 2;
    expected['d' / 2] = 3;
    for (int s = 0; s < 4; s++)
        expected[128 + 4 * s] = (unsigned char)(s + 1);
    memcpy(expected + 144, streams, sizeof streams);
    unsigned char *bytes = encode(values, sizeof values, &size);
    CHECK(size == sizeof expected);
    CHECK(memcmp(bytes, expected, sizeof expected) == 0);
    free(bytes);

    unsigned char *many = values_create(5000, KIND_STEEP);
    bytes = encode(many, 5000, &size);
    char text[17];
    hash_print(hash_bytes(bytes, size, 0), text);
    CHECK_TEXT(text, "4418bab209948126");
    free(bytes);
    free(many);
}

/* Cut short at any byte, or a bit longer: refused. */
TEST(huffman_refuses_another_size)
{
    enum { COUNT = 300 };
    struct error error = {0};
    size_t size;
    unsigned char back[COUNT], *values = values_create(COUNT, KIND_BELL), *bytes = encode(values, COUNT, &size);
    for (size_t part = 0; part < size; part++) {
        unsigned char *cut = malloc(part ? part : 1);
        memcpy(cut, bytes, part);
        if (decode(cut, part, back, COUNT, &error) == 0)
            test_fail(__FILE__, __LINE__, "%zu of %zu bytes were taken", part, size);
        free(cut);
    }
    bytes = realloc(bytes, size + 1);
    bytes[size] = 0;
    CHECK(decode(bytes, size + 1, back, COUNT, &error) < 0);
    CHECK(decode(bytes, size, back, COUNT - 1, &error) < 0 && decode(bytes, size, back, COUNT, &error) == 0);
    unsigned char more[COUNT + 8];
    CHECK(decode(bytes, size, more, sizeof more, &error) < 0);
    free(bytes);
    free(values);
}

TEST(huffman_says_what_is_wrong)
{
    enum { COUNT = 300 };
    struct error error;
    size_t size;
    unsigned char back[COUNT], *values = values_create(COUNT, KIND_BELL), *bytes = encode(values, COUNT, &size);
    const unsigned char length = bytes[0];
    bytes[0] ^= 1;
    CHECK(decode(bytes, size, back, COUNT, &error) < 0);
    CHECK_TEXT(error.text, "lengths do not fit");
    bytes[0] = length;
    bytes[128]++;
    CHECK(decode(bytes, size, back, COUNT, &error) < 0);
    CHECK_TEXT(error.text, "where their bytes do");
    bytes[131] = 1;
    CHECK(decode(bytes, size, back, COUNT, &error) < 0);
    CHECK_TEXT(error.text, "do not end where they should");
    free(bytes);
    free(values);
}

/* The last stream is said to be empty, and nothing lies behind it: its values are looked for no further. */
TEST(huffman_stops_at_the_end)
{
    enum { COUNT = 1024, PART = COUNT / 4, SIZE = 144 + 3 * PART + 8 };
    struct error error;
    size_t size;
    unsigned char values[COUNT], back[COUNT];
    for (int i = 0; i < COUNT; i++)
        values[i] = (unsigned char)i; /* all as frequent: eight bits each */
    unsigned char *bytes = encode(values, COUNT, &size);
    CHECK(size == SIZE + PART);
    memcpy(bytes + 140, bytes + 136, 4);
    bytes = realloc(bytes, SIZE);
    CHECK(decode(bytes, SIZE, back, COUNT, &error) < 0);
    CHECK_TEXT(error.text, "where their bytes do");
    free(bytes);
}

/* Any byte changed anywhere: an error or other values, in memory of exact sizes. */
TEST(huffman_survives_damage)
{
    enum { COUNT = 2000 };
    struct error error;
    size_t size;
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        unsigned char *values = values_create(COUNT, kind), *bytes = encode(values, COUNT, &size);
        unsigned char *back = malloc(COUNT);
        for (size_t at = 0; at < size; at++)
            for (int bit = 0; bit < 8; bit += kind == KIND_BELL ? 1 : 5) {
                bytes[at] ^= (unsigned char)(1 << bit);
                decode(bytes, size, back, COUNT, &error);
                bytes[at] ^= (unsigned char)(1 << bit);
            }
        CHECK(decode(bytes, size, back, COUNT, &error) == 0 && memcmp(back, values, COUNT) == 0);
        free(bytes);
        free(back);
        free(values);
    }
}

TEST_MAIN
