/* Codecs: exact round trips over shapes and hostile values; the same bytes twice; no payload harms. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/base/random.h"
#include "common/codec/codec.h"
#include "tests/test.h"

static const float odd_values[] = {0.0f,        -0.0f,       INFINITY,       -INFINITY,     NAN,  -NAN,
                                   1e-45f,      -1e-45f,     1.1754944e-38f, 3.4028235e38f, 1.0f, -1.0f,
                                   1.00390625f, 1.01171875f, 150.0f,         -1e-20f};

/* States much as a model's: every channel and every token has a scale of its own, one token is huge. */
static float *states_create(int64_t rows, int64_t cols, uint64_t seed, bool odd)
{
    struct random random = {seed};
    float *states = malloc((size_t)(rows * cols) * sizeof *states);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            double scale = exp2((double)(c * 7 % 5) - 3) * (r == 1 ? 150 : 1 + (double)(r % 3));
            states[r * cols + c] = (float)(random_normal(&random) * scale);
            if (odd && random_next(&random) % 3 == 0)
                states[r * cols + c] =
                    odd_values[random_next(&random) % (sizeof odd_values / sizeof *odd_values)];
        }
    return states;
}

/* What decoding must give, bit for bit. */
static uint32_t expected_bits(const struct codec *codec, float value)
{
    float kept = codec->type == DTYPE_BF16 ? bf16_to_f32(f32_to_bf16(value)) : value;
    uint32_t bits;
    memcpy(&bits, &kept, sizeof bits);
    return bits;
}

static bool same_states(const struct codec *codec, const float *states, const float *decoded, size_t values)
{
    for (size_t i = 0; i < values; i++) {
        uint32_t bits;
        memcpy(&bits, &decoded[i], sizeof bits);
        if (bits != expected_bits(codec, states[i]))
            return false;
    }
    return true;
}

struct payload {
    unsigned char *bytes;
    size_t size, capacity;
};

static struct payload encode(const struct codec *codec, struct codec_worker *worker, const float *states,
                             int64_t rows, int64_t cols)
{
    struct error error = {""};
    struct payload payload = {.capacity = codec->bound(rows, cols)};
    payload.bytes = malloc(payload.capacity);
    if (codec->encode(worker, states, rows, cols, payload.bytes, payload.capacity, &payload.size, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s: %s", codec->name, error.text);
    if (payload.size > payload.capacity)
        test_fail(__FILE__, __LINE__, "%s wrote past its bound", codec->name);
    return payload;
}

static void check_round_trip(const struct codec *codec, struct codec_worker *worker, int64_t rows, int64_t cols,
                             bool odd)
{
    struct error error = {""};
    size_t values = (size_t)(rows * cols);
    float *states = states_create(rows, cols, (uint64_t)(rows * 1000 + cols), odd);
    float *decoded = malloc(values * sizeof *decoded);
    struct payload payload = encode(codec, worker, states, rows, cols);
    if (codec->decode(worker, payload.bytes, payload.size, rows, cols, decoded, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s [%d, %d]: %s", codec->name, (int)rows, (int)cols, error.text);
    else if (!same_states(codec, states, decoded, values))
        test_fail(__FILE__, __LINE__, "%s [%d, %d] changed a value", codec->name, (int)rows, (int)cols);
    free(payload.bytes);
    free(decoded);
    free(states);
}

TEST(codec_round_trips)
{
    static const int64_t shapes[][2] = {{1, 1},  {1, 2},   {2, 1},    {1, 576}, {576, 1},   {3, 5},
                                        {31, 7}, {17, 33}, {64, 257}, {129, 1}, {512, 576}, {2, 4096}};
    struct error error;
    struct codec_worker *worker;
    REQUIRE_OK(codec_worker_create(&worker, &error));
    for (int i = 0; codec_table()[i]; i++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int odd = 0; odd < 2; odd++)
                check_round_trip(codec_table()[i], worker, shapes[s][0], shapes[s][1], odd);
    codec_worker_destroy(worker);
}

/* All bf16 values, signalling NaNs among them, come back as they went in. */
TEST(codec_keeps_every_bf16_value)
{
    struct error error;
    struct codec_worker *worker;
    REQUIRE_OK(codec_worker_create(&worker, &error));
    float *states = malloc(65536 * sizeof *states), *decoded = malloc(65536 * sizeof *decoded);
    for (uint32_t i = 0; i < 65536; i++) {
        uint32_t bits = i << 16;
        memcpy(&states[i], &bits, sizeof bits);
    }
    for (int i = 0; codec_table()[i]; i++) {
        struct payload payload = encode(codec_table()[i], worker, states, 256, 256);
        CHECK(codec_table()[i]->decode(worker, payload.bytes, payload.size, 256, 256, decoded, &error) == 0);
        CHECK(same_states(codec_table()[i], states, decoded, 65536));
        free(payload.bytes);
    }
    free(decoded);
    free(states);
    codec_worker_destroy(worker);
}

TEST(codec_bytes_do_not_depend_on_what_came_before)
{
    struct error error;
    struct codec_worker *used, *fresh;
    float *first = states_create(40, 96, 1, true), *second = states_create(65, 50, 2, false);
    REQUIRE_OK(codec_worker_create(&used, &error));
    for (int i = 0; codec_table()[i]; i++) {
        const struct codec *codec = codec_table()[i];
        REQUIRE_OK(codec_worker_create(&fresh, &error));
        struct payload alone = encode(codec, fresh, second, 65, 50);
        struct payload before = encode(codec, used, first, 40, 96);
        struct payload after = encode(codec, used, second, 65, 50);
        CHECK(alone.size == after.size && memcmp(alone.bytes, after.bytes, alone.size) == 0);
        free(alone.bytes);
        free(before.bytes);
        free(after.bytes);
        codec_worker_destroy(fresh);
    }
    codec_worker_destroy(used);
    free(first);
    free(second);
}

/* One record by hand. Exponents 127 128 126 / 129 127 130, their mean 127.8: base 128. Channels (in
 * eighths from the base) 0, -4, 0; tokens, from what channels explain, -7 and 7. Low bytes: mantissa x 2 +
 * sign. Sums of levels, rounded: 127 127 127 / 129 128 129. */
static const float pinned_states[] = {1.0f, -2.0f, 0.5f, 4.0f, 1.5f, 8.0f};
static const unsigned char pinned_head[] = {128, 0, 0xfc, 0, 0xf9, 7, 0, 1, 0, 0, 0x80, 0};
static const unsigned char pinned_residual[] = {0, 1, 0xff, 0, 0xff, 1};

/* zstd's frame may differ from version to version, so that what lies before it is compared. */
TEST(codec_lossless_encoding_is_pinned)
{
    struct error error;
    struct codec_worker *worker;
    unsigned char residual[6];
    REQUIRE_OK(codec_worker_create(&worker, &error));
    struct payload payload = encode(codec_find("lossless", &error), worker, pinned_states, 2, 3);
    REQUIRE(payload.size > sizeof pinned_head);
    CHECK(memcmp(payload.bytes, pinned_head, sizeof pinned_head) == 0);
    CHECK(ZSTD_decompress(residual, sizeof residual, payload.bytes + sizeof pinned_head,
                          payload.size - sizeof pinned_head) == sizeof residual);
    CHECK(memcmp(residual, pinned_residual, sizeof residual) == 0);
    free(payload.bytes);
    codec_worker_destroy(worker);
}

/* The same with the first token's level 0: 1020 eighths in the second channel are a tie, rounded up. */
TEST(codec_lossless_decoding_is_pinned)
{
    static const unsigned char residual[] = {0xff, 0, 0xfe, 0, 0xff, 1};
    struct error error;
    struct codec_worker *worker;
    unsigned char payload[200];
    const size_t head = sizeof pinned_head;
    float states[6];
    REQUIRE_OK(codec_worker_create(&worker, &error));
    memcpy(payload, pinned_head, head);
    payload[4] = 0;
    size_t frame = ZSTD_compress(payload + head, sizeof payload - head, residual, sizeof residual, 19);
    REQUIRE(!ZSTD_isError(frame));
    const struct codec *lossless = codec_find("lossless", &error);
    REQUIRE_OK(lossless->decode(worker, payload, head + frame, 2, 3, states, &error));
    CHECK(memcmp(states, pinned_states, sizeof states) == 0);
    codec_worker_destroy(worker);
}

/* Exponents that follow channel and token leave nothing to code: what is left is the low byte. */
TEST(codec_lossless_finds_levels)
{
    struct error error;
    struct codec_worker *worker;
    enum { ROWS = 256, COLS = 384 };
    float *states = malloc(sizeof *states * ROWS * COLS);
    for (int i = 0; i < ROWS * COLS; i++) {
        int channel = i % COLS, token = i / COLS;
        states[i] = ldexpf(1 + (float)(i % 128) / 128, channel * 5 % 13 - 6 + token * 7 % 5);
    }
    REQUIRE_OK(codec_worker_create(&worker, &error));
    struct payload payload = encode(codec_find("lossless", &error), worker, states, ROWS, COLS);
    CHECK(payload.size < ROWS * COLS + ROWS + COLS + ROWS * COLS / 100);
    free(payload.bytes);
    codec_worker_destroy(worker);
    free(states);
}

TEST(codec_refuses_bad_shapes_and_sizes)
{
    struct error error;
    struct codec_worker *worker;
    float states[12] = {0};
    unsigned char bytes[4096];
    size_t size;
    REQUIRE_OK(codec_worker_create(&worker, &error));
    for (int i = 0; codec_table()[i]; i++) {
        const struct codec *codec = codec_table()[i];
        static const int64_t shapes[][2] = {{0, 3},         {3, 0},       {-1, 3},
                                            {INT64_MAX, 2}, {1 << 29, 2}, {1 << 15, 1 << 15}};
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            CHECK(codec->bound(shapes[s][0], shapes[s][1]) == 0);
            CHECK(codec->encode(worker, states, shapes[s][0], shapes[s][1], bytes, sizeof bytes, &size,
                                &error) < 0);
            CHECK(codec->decode(worker, bytes, 12, shapes[s][0], shapes[s][1], states, &error) < 0);
        }
        CHECK(codec->encode(worker, states, 3, 4, bytes, codec->bound(3, 4) - 1, &size, &error) < 0);
        REQUIRE_OK(codec->encode(worker, states, 3, 4, bytes, sizeof bytes, &size, &error));
        CHECK(codec->decode(worker, bytes, size, 3, 3, states, &error) < 0);
        CHECK(codec->decode(worker, bytes, size, 3, 5, states, &error) < 0);
    }
    codec_worker_destroy(worker);
}

/* Exact-size copies, so that the sanitizers see every read outside. */
static void decode_copy(const struct codec *codec, struct codec_worker *worker, const unsigned char *bytes,
                        size_t size, int64_t rows, int64_t cols, bool must_fail)
{
    struct error error;
    unsigned char *copy = malloc(size ? size : 1);
    float *states = malloc((size_t)(rows * cols) * sizeof *states);
    memcpy(copy, bytes, size);
    int result = codec->decode(worker, copy, size, rows, cols, states, &error);
    if (must_fail && result == 0)
        test_fail(__FILE__, __LINE__, "%s took a payload of %zu bytes", codec->name, size);
    free(copy);
    free(states);
}

TEST(codec_survives_truncation_and_mutation)
{
    struct error error;
    struct codec_worker *worker;
    struct random random = {11};
    const int64_t rows = 13, cols = 24;
    float *states = states_create(rows, cols, 5, false);
    REQUIRE_OK(codec_worker_create(&worker, &error));
    for (int i = 0; codec_table()[i]; i++) {
        const struct codec *codec = codec_table()[i];
        struct payload payload = encode(codec, worker, states, rows, cols);
        for (size_t size = 0; size < payload.size; size++)
            decode_copy(codec, worker, payload.bytes, size, rows, cols, true);
        for (int trial = 0; trial < 3000; trial++) {
            unsigned char *mutant = malloc(payload.size);
            memcpy(mutant, payload.bytes, payload.size);
            for (uint64_t n = 1 + random_next(&random) % 4; n > 0; n--)
                mutant[random_next(&random) % payload.size] = (unsigned char)random_next(&random);
            decode_copy(codec, worker, mutant, payload.size, rows, cols, false);
            free(mutant);
        }
        free(payload.bytes);
    }
    codec_worker_destroy(worker);
    free(states);
}

TEST(codec_names)
{
    struct error error;
    CHECK(codec_find("zip", &error) == NULL);
    CHECK_TEXT(error.text, "raw:f32, raw, lossless");
    CHECK(codec_find_id(999) == NULL);
    for (int i = 0; codec_table()[i]; i++) {
        CHECK(codec_find(codec_table()[i]->name, &error) == codec_table()[i]);
        CHECK(codec_find_id(codec_table()[i]->id) == codec_table()[i]);
    }
}

TEST_MAIN
