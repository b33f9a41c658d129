/* The entropy stage of lossy codecs: every int16 comes back, on every path; bytes are pinned; sizes are near
 * what the values' distribution allows; no bytes harm. */
#include <math.h>
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/base/random.h"
#include "common/codec/coefficients.h"
#include "tests/test.h"

enum kind { KIND_BELL, KIND_ZERO, KIND_ANY, KIND_ENDS, KIND_WALK, KIND_COUNT };

/* Rounded normal values whose deviation is 2^(column's + row's exponent). */
static double deviation_of(int64_t r, int64_t c, int64_t cols)
{
    return exp2(5.0 * (double)(cols - c) / (double)cols - 2 + (double)(r % 5 - 2) / 2);
}

static int16_t *values_create(int64_t rows, int64_t cols, enum kind kind)
{
    struct random random = {(uint64_t)(rows * 1000 + cols * 10 + kind)};
    int16_t *values = malloc((size_t)(rows * cols) * sizeof *values);
    for (int64_t i = 0; i < rows * cols; i++) {
        const double normal = random_normal(&random);
        const uint64_t bits = random_next(&random);
        switch (kind) {
        case KIND_BELL: values[i] = (int16_t)lrint(normal * deviation_of(i / cols, i % cols, cols)); break;
        case KIND_ZERO: values[i] = 0; break;
        case KIND_ANY: values[i] = (int16_t)bits; break;
        case KIND_ENDS: values[i] = bits % 3 ? (bits % 2 ? INT16_MAX : INT16_MIN) : 0; break;
        default: values[i] = (int16_t)((i >= cols ? values[i - cols] : 0) * 0.9 + 4 * normal);
        }
    }
    return values;
}

static struct codec_payload encode(struct codec_worker *worker, const int16_t *values, int64_t rows,
                                   int64_t cols)
{
    struct error error = {0};
    const size_t bound = coefficients_bound(rows, cols);
    /* Of that size, so that the sanitizers see a write past it. */
    struct codec_payload coded = {.bytes = malloc(bound), .capacity = bound};
    if (coefficients_encode(worker, values, rows, cols, &coded, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    CHECK(coded.size <= bound);
    coded.bytes = realloc(coded.bytes, coded.size);
    return coded;
}

static void check_round_trip(struct codec_worker *worker, int64_t rows, int64_t cols, enum kind kind)
{
    struct error error = {0};
    const struct rans_path *paths;
    const int count = rans_paths(&paths);
    const size_t bytes = (size_t)(rows * cols) * sizeof(int16_t);
    int16_t *values = values_create(rows, cols, kind), *decoded = malloc(bytes);
    struct codec_payload coded = encode(worker, values, rows, cols);
    for (int i = 0; i < count; i++) {
        worker->path = &paths[i];
        memset(decoded, 0x55, bytes);
        if (coefficients_decode(worker, coded.bytes, coded.size, rows, cols, decoded, &error) < 0)
            test_fail(__FILE__, __LINE__, "%s, kind %d: %s", paths[i].name, kind, error.text);
        else if (memcmp(values, decoded, bytes) != 0)
            test_fail(__FILE__, __LINE__, "%s, kind %d [%d, %d]: a value changed", paths[i].name, kind,
                      (int)rows, (int)cols);
    }
    free(coded.bytes);
    free(decoded);
    free(values);
}

TEST(coefficients_round_trip_on_every_path)
{
    static const int64_t shapes[][2] = {{1, 1},   {1, 31},  {1, 32}, {1, 33}, {2, 64},    {33, 1},
                                        {7, 100}, {64, 32}, {5, 96}, {3, 65}, {100, 160}, {512, 576}};
    struct error error;
    struct codec_worker *worker;
    REQUIRE_OK(codec_worker_create(&worker, &error));
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (enum kind kind = 0; kind < KIND_COUNT; kind++)
            check_round_trip(worker, shapes[s][0], shapes[s][1], kind);
    codec_worker_destroy(worker);
}

/* The tables are a part of the format. */
TEST(coefficients_tables_are_pinned)
{
    struct error error;
    struct rans *rans;
    REQUIRE_OK(rans_create(&rans, &error));
    CHECK(hash_bytes(rans->slot, sizeof rans->slot, 0) == 0xc0d34cc3a36431d7);
    for (int table = 0; table < RANS_TABLES; table++) {
        int sum = 0;
        for (int index = 0; index < 2 * RANS_REACH; index++) {
            CHECK(rans->symbol[table][index].start == sum);
            sum += rans->symbol[table][index].frequency;
        }
        CHECK(sum == RANS_SLOTS);
        CHECK(rans->symbol[table][0].frequency > 0); /* anything can be coded */
    }
    rans_destroy(rans);
}

TEST(coefficients_encoding_is_pinned)
{
    struct error error;
    struct codec_worker *worker;
    int16_t values[40 * 50];
    REQUIRE_OK(codec_worker_create(&worker, &error));
    for (int i = 0; i < 40 * 50; i++)
        values[i] = (int16_t)((i * 7919 % 101 - 50) * (i % 50 + 1) / 50 + (i % 333 == 0) * 1000);
    struct codec_payload coded = encode(worker, values, 40, 50);
    CHECK(coded.size == 1664);
    CHECK(hash_bytes(coded.bytes, coded.size, 0) == 0x95b6bd8b36122539);
    free(coded.bytes);
    codec_worker_destroy(worker);
}

/* -log2 of the probability that a normal value of this deviation rounds to n. */
static double ideal_bits(int n, double deviation)
{
    const double low = (abs(n) - 0.5) / deviation, high = (abs(n) + 0.5) / deviation;
    return -log2(0.5 * erfc(low / sqrt(2)) - 0.5 * erfc(high / sqrt(2)));
}

/* Known distribution, known entropy: with what is written beside the values, 2 % are enough. */
TEST(coefficients_come_near_the_entropy)
{
    enum { ROWS = 512, COLS = 576 };
    struct error error;
    struct codec_worker *worker;
    double ideal = 0;
    REQUIRE_OK(codec_worker_create(&worker, &error));
    int16_t *values = values_create(ROWS, COLS, KIND_BELL);
    for (int i = 0; i < ROWS * COLS; i++)
        ideal += ideal_bits(values[i], deviation_of(i / COLS, i % COLS, COLS));
    struct codec_payload coded = encode(worker, values, ROWS, COLS);
    if (!((double)coded.size * 8 < 1.02 * ideal))
        test_fail(__FILE__, __LINE__, "%.0f bits; the ideal is %.0f", (double)coded.size * 8, ideal);
    free(coded.bytes);
    free(values);
    codec_worker_destroy(worker);
}

/* A column that walks: its values have deviation 9, its differences less than 5. */
TEST(coefficients_use_the_value_above)
{
    struct error error;
    struct codec_worker *worker;
    REQUIRE_OK(codec_worker_create(&worker, &error));
    int16_t *values = values_create(512, 64, KIND_WALK);
    struct codec_payload coded = encode(worker, values, 512, 64);
    const double bits = (double)coded.size * 8 / (512 * 64);
    if (!(bits < 4.25)) /* log2(4 sqrt(2 pi e)) is 4.05; without the value above it is 5.1 */
        test_fail(__FILE__, __LINE__, "%.2f bits a value", bits);
    free(coded.bytes);
    free(values);
    codec_worker_destroy(worker);
}

TEST(coefficients_refuse_bad_shapes_and_sizes)
{
    struct error error;
    struct codec_worker *worker;
    int16_t values[12] = {1, -1, 2};
    unsigned char bytes[1024];
    struct codec_payload payload = {.bytes = bytes, .capacity = coefficients_bound(3, 4) - 1};
    REQUIRE_OK(codec_worker_create(&worker, &error));
    CHECK(coefficients_bound(0, 3) == 0 && coefficients_bound(1 << 15, 1 << 15) == 0);
    CHECK(coefficients_encode(worker, values, 3, 4, &payload, &error) < 0);
    payload.capacity = sizeof bytes;
    CHECK(coefficients_encode(worker, values, 0, 4, &payload, &error) < 0);
    REQUIRE_OK(coefficients_encode(worker, values, 3, 4, &payload, &error));
    CHECK(coefficients_decode(worker, bytes, payload.size, 3, 3, values, &error) < 0);
    CHECK(coefficients_decode(worker, bytes, payload.size, -1, 4, values, &error) < 0);
    codec_worker_destroy(worker);
}

/* An exact-size copy, so that the sanitizers see a read outside. */
static int decode_copy(struct codec_worker *worker, const unsigned char *bytes, size_t size, int64_t rows,
                       int64_t cols, struct error *error)
{
    unsigned char *copy = malloc(size ? size : 1);
    int16_t *values = malloc((size_t)(rows * cols) * sizeof *values);
    memcpy(copy, bytes, size);
    int result = coefficients_decode(worker, copy, size, rows, cols, values, error);
    free(copy);
    free(values);
    return result;
}

TEST(coefficients_survive_truncation_and_mutation)
{
    enum { ROWS = 9, COLS = 70 };
    struct error error;
    struct codec_worker *worker;
    const struct rans_path *paths;
    struct random random = {3};
    const int count = rans_paths(&paths);
    REQUIRE_OK(codec_worker_create(&worker, &error));
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        int16_t *values = values_create(ROWS, COLS, kind);
        struct codec_payload coded = encode(worker, values, ROWS, COLS);
        for (size_t size = 0; size < coded.size; size++)
            CHECK(decode_copy(worker, coded.bytes, size, ROWS, COLS, &error) < 0);
        for (int trial = 0; trial < 3000; trial++) {
            unsigned char *mutant = malloc(coded.size);
            worker->path = &paths[trial % count];
            memcpy(mutant, coded.bytes, coded.size);
            for (uint64_t n = 1 + random_next(&random) % 4; n > 0; n--)
                mutant[random_next(&random) % coded.size] = (unsigned char)random_next(&random);
            decode_copy(worker, mutant, coded.size, ROWS, COLS, &error);
            free(mutant);
        }
        free(coded.bytes);
        free(values);
    }
    codec_worker_destroy(worker);
}

/* What a head can say that is not so. */
TEST(coefficients_check_the_head)
{
    struct error error;
    struct codec_worker *worker;
    int16_t *values = values_create(4, 40, KIND_BELL);
    REQUIRE_OK(codec_worker_create(&worker, &error));
    struct codec_payload coded = encode(worker, values, 4, 40);
    static const struct {
        size_t offset;
        unsigned char byte;
        const char *text;
    } cases[] = {
        {3, 0xff, "escapes do not fit"},
        {4, RANS_LEVELS, "there is no level 44"},
        {7, 1, "a reserved byte is 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const unsigned char kept = coded.bytes[cases[i].offset];
        coded.bytes[cases[i].offset] = cases[i].byte;
        CHECK(decode_copy(worker, coded.bytes, coded.size, 4, 40, &error) < 0);
        CHECK_TEXT(error.text, cases[i].text);
        coded.bytes[cases[i].offset] = kept;
    }
    memset(coded.bytes + 8, 0, 4);
    CHECK(decode_copy(worker, coded.bytes, coded.size, 4, 40, &error) < 0);
    CHECK_TEXT(error.text, "state 0 is below what it can be");
    free(coded.bytes);
    free(values);
    codec_worker_destroy(worker);
}

TEST_MAIN
