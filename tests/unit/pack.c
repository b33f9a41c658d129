/* Packing: bytes of any kind come back, near their entropy where it is low; no packed bytes harm. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/random.h"
#include "common/codec/pack.h"
#include "tests/test.h"

enum { MOST = 300000 };

struct bench {
    struct codec_worker *worker;
    unsigned char *values, *packed, *found;
    size_t capacity;
};

static int bench_open(struct bench *bench, struct error *error)
{
    bench->capacity = pack_bound(MOST);
    bench->values = malloc(MOST);
    bench->packed = malloc(bench->capacity);
    bench->found = malloc(MOST);
    return codec_worker_create(&bench->worker, error);
}

static void bench_close(struct bench *bench)
{
    codec_worker_destroy(bench->worker);
    free(bench->values);
    free(bench->packed);
    free(bench->found);
}

/* 0: bytes of one value; 1: any; 2: mostly few; 3: a repeating pattern. */
static void fill(struct bench *bench, size_t count, int kind)
{
    struct random random = {count + (size_t)kind};
    for (size_t i = 0; i < count; i++) {
        const uint64_t number = random_next(&random);
        bench->values[i] = kind == 0   ? 7
                           : kind == 1 ? (unsigned char)number
                           : kind == 2 ? (unsigned char)((number & 3) + (number >> 2 & 3) - (number >> 4 & 1))
                                       : (unsigned char)(i % 13);
    }
}

/* Order 0, in bytes. */
static double entropy(const unsigned char *values, size_t count)
{
    double seen[256] = {0}, bits = 0;
    for (size_t i = 0; i < count; i++)
        seen[values[i]]++;
    for (int v = 0; v < 256; v++)
        bits -= seen[v] > 0 ? seen[v] * log2(seen[v] / (double)count) : 0;
    return bits / 8;
}

TEST(pack_round_trips)
{
    static const size_t counts[] = {1, 2, 3, 63, 64, 255, 1000, 1 << 17, (1 << 17) + 1, MOST};
    struct error error;
    struct bench bench;
    size_t size;
    REQUIRE_OK(bench_open(&bench, &error));
    for (int kind = 0; kind < 4; kind++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            fill(&bench, counts[c], kind);
            REQUIRE_OK(pack(bench.worker, bench.values, counts[c], bench.packed, pack_bound(counts[c]), &size,
                            &error));
            CHECK(size <= pack_bound(counts[c]));
            REQUIRE_OK(unpack(bench.worker, bench.packed, size, bench.found, counts[c], &error));
            CHECK(memcmp(bench.values, bench.found, counts[c]) == 0);
            if (kind == 2 && counts[c] > 1000)
                CHECK((double)size < 1.03 * entropy(bench.values, counts[c]));
        }
    bench_close(&bench);
}

/* The frame says nothing that the record says: not how many values there are, and no second hash. */
TEST(pack_frames_are_bare)
{
    struct error error;
    struct bench bench;
    size_t size;
    REQUIRE_OK(bench_open(&bench, &error));
    fill(&bench, 1000, 2);
    REQUIRE_OK(pack(bench.worker, bench.values, 1000, bench.packed, bench.capacity, &size, &error));
    CHECK(memcmp(bench.packed, "\x28\xb5\x2f\xfd\0", 5) == 0); /* magic, descriptor: no size, no checksum */
    bench_close(&bench);
}

TEST(pack_bytes_that_are_wrong)
{
    struct error error;
    struct bench bench;
    struct random random = {5};
    size_t size;
    REQUIRE_OK(bench_open(&bench, &error));
    fill(&bench, 5000, 2);
    REQUIRE_OK(pack(bench.worker, bench.values, 5000, bench.packed, bench.capacity, &size, &error));
    CHECK(unpack(bench.worker, bench.packed, size, bench.found, 5001, &error) < 0);
    CHECK_TEXT(error.text, "its packed bytes hold 5000 values, not 5001");
    CHECK(unpack(bench.worker, bench.packed, size, bench.found, 4999, &error) < 0);
    CHECK_TEXT(error.text, "its packed bytes cannot be read (zstd: ");
    for (size_t cut = 0; cut < size;
         cut += cut < 64 ? 1 : 97) { /* exact copies, so that sanitizers see reads outside */
        unsigned char *copy = malloc(cut + 1);
        memcpy(copy, bench.packed, cut);
        CHECK(unpack(bench.worker, copy, cut, bench.found, 5000, &error) < 0);
        free(copy);
    }
    for (int trial = 0; trial < 3000; trial++) {
        unsigned char *mutant = malloc(size);
        memcpy(mutant, bench.packed, size);
        for (uint64_t n = 1 + random_next(&random) % 4; n > 0; n--)
            mutant[random_next(&random) % size] = (unsigned char)random_next(&random);
        unpack(bench.worker, mutant, size, bench.found, 5000, &error);
        free(mutant);
    }
    REQUIRE_OK(unpack(bench.worker, bench.packed, size, bench.found, 5000, &error)); /* as good as before */
    CHECK(memcmp(bench.values, bench.found, 5000) == 0);
    bench_close(&bench);
}

TEST_MAIN
