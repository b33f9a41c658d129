/* Codecs: exact round trips over shapes and hostile values; the same bytes twice; no payload harms. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/codec/pack.h"
#include "tests/codec_fixture.h"
#include "tests/test.h"

static const float odd_values[] = {0.0f,        -0.0f,       INFINITY,       -INFINITY,     NAN,  -NAN,
                                   1e-45f,      -1e-45f,     1.1754944e-38f, 3.4028235e38f, 1.0f, -1.0f,
                                   1.00390625f, 1.01171875f, 150.0f,         -1e-20f};

/* With `odd`, a third of the values are such as no model gives. */
static float *states_create(int64_t rows, int64_t cols, uint64_t seed, bool odd)
{
    struct random random = {seed};
    float *states = codec_fixture_states(rows, cols, seed);
    for (int64_t i = 0; odd && i < rows * cols; i++)
        if (random_next(&random) % 3 == 0)
            states[i] = odd_values[random_next(&random) % (sizeof odd_values / sizeof *odd_values)];
    return states;
}

static struct coder *coder_make(const struct codec *codec, int64_t cols)
{
    struct error error = {0};
    struct coder *coder;
    if (codec_fixture_coder(codec, cols, &coder, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s: %s", codec->name, error.text);
    return coder;
}

static const struct codec *find(const char *name)
{
    struct error error;
    struct codec_choice choice;
    return codec_parse(name, &choice, &error) == 0 ? choice.codec : NULL;
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

static struct codec_payload encode(const struct coder *coder, struct codec_worker *worker, const float *states,
                                   int64_t rows)
{
    struct error error = {0};
    const char *name = coder_codec(coder)->name;
    struct codec_payload payload = {.capacity = coder_bound(coder, rows)};
    payload.bytes = malloc(payload.capacity);
    if (coder_encode(coder, worker, states, rows, &payload, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s: %s", name, error.text);
    if (payload.size > payload.capacity)
        test_fail(__FILE__, __LINE__, "%s wrote past its bound", name);
    return payload;
}

static void check_round_trip(const struct codec *codec, struct codec_worker *worker, int64_t rows, int64_t cols,
                             bool odd)
{
    struct error error = {0};
    size_t values = (size_t)(rows * cols);
    float *states = states_create(rows, cols, (uint64_t)(rows * 1000 + cols), odd);
    float *decoded = malloc(values * sizeof *decoded);
    struct coder *coder = coder_make(codec, cols);
    struct codec_payload payload = encode(coder, worker, states, rows);
    if (coder_decode(coder, worker, payload.bytes, payload.size, rows, decoded, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s [%d, %d]: %s", codec->name, (int)rows, (int)cols, error.text);
    else if (!same_states(codec, states, decoded, values))
        test_fail(__FILE__, __LINE__, "%s [%d, %d] changed a value", codec->name, (int)rows, (int)cols);
    free(payload.bytes);
    free(decoded);
    free(states);
    coder_destroy(coder);
}

TEST(codec_round_trips)
{
    static const int64_t shapes[][2] = {{1, 1},  {1, 2},   {2, 1},    {1, 576}, {576, 1},   {3, 5},
                                        {31, 7}, {17, 33}, {64, 257}, {129, 1}, {512, 576}, {2, 4096}};
    struct error error;
    struct codec_worker *worker;
    REQUIRE_OK(codec_worker_create(&worker, &error));
    for (int i = 0; codec_table()[i]; i++)
        for (size_t s = 0; codec_table()[i]->exact && s < sizeof shapes / sizeof *shapes; s++)
            for (int odd = 0; odd < 2; odd++)
                check_round_trip(codec_table()[i], worker, shapes[s][0], shapes[s][1], odd);
    codec_worker_destroy(worker);
}

/* What a view is of has the values that decoding gives; a payload that is the values themselves is not
 * copied. */
static void check_view(const struct codec *codec, struct codec_worker *worker, int64_t rows, int64_t cols)
{
    struct error error = {0};
    const size_t values = (size_t)(rows * cols);
    const bool plain = strncmp(codec->name, "raw", 3) == 0;
    float *states = states_create(rows, cols, 4, false);
    float *decoded = malloc(values * sizeof *decoded), *widened = malloc(values * sizeof *widened);
    struct coder *coder = coder_make(codec, cols);
    struct codec_payload payload = encode(coder, worker, states, rows);
    struct states_view view;
    REQUIRE_OK(coder_decode(coder, worker, payload.bytes, payload.size, rows, decoded, &error));
    REQUIRE_OK(
        coder_view(coder, worker, payload.bytes, payload.size, rows, plain ? NULL : states, &view, &error));
    CHECK(view.values == (plain ? (void *)payload.bytes : (void *)states));
    CHECK(view.type == (codec->exact ? codec->type : DTYPE_F32));
    dtype_to_f32(view.type, view.values, (int64_t)values, widened);
    CHECK(memcmp(widened, decoded, values * sizeof *decoded) == 0);
    CHECK(coder_view(coder, worker, payload.bytes, payload.size - 1, rows, states, &view, &error) < 0);
    CHECK(coder_view(coder, worker, payload.bytes, payload.size, rows + 1, states, &view, &error) < 0);
    CHECK(coder_view(coder, worker, payload.bytes, payload.size, rows - 1, states, &view, &error) < 0);
    CHECK(coder_view(coder, worker, payload.bytes, payload.size, -1, states, &view, &error) < 0);
    free(payload.bytes);
    free(widened);
    free(decoded);
    free(states);
    coder_destroy(coder);
}

TEST(codec_views)
{
    struct error error;
    struct codec_worker *worker;
    REQUIRE_OK(codec_worker_create(&worker, &error));
    for (int i = 0; codec_table()[i]; i++) {
        check_view(codec_table()[i], worker, 17, 33);
        check_view(codec_table()[i], worker, 64, 96);
    }
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
        if (!codec_table()[i]->exact)
            continue;
        struct coder *coder = coder_make(codec_table()[i], 256);
        struct codec_payload payload = encode(coder, worker, states, 256);
        CHECK(coder_decode(coder, worker, payload.bytes, payload.size, 256, decoded, &error) == 0);
        CHECK(same_states(codec_table()[i], states, decoded, 65536));
        free(payload.bytes);
        coder_destroy(coder);
    }
    free(decoded);
    free(states);
    codec_worker_destroy(worker);
}

TEST(codec_bytes_do_not_depend_on_what_came_before)
{
    struct error error;
    struct codec_worker *used, *fresh;
    float *first = states_create(40, 96, 1, false), *second = states_create(65, 50, 2, false);
    REQUIRE_OK(codec_worker_create(&used, &error));
    for (int i = 0; codec_table()[i]; i++) {
        struct coder *wide = coder_make(codec_table()[i], 96), *coder = coder_make(codec_table()[i], 50);
        REQUIRE_OK(codec_worker_create(&fresh, &error));
        struct codec_payload alone = encode(coder, fresh, second, 65);
        struct codec_payload before = encode(wide, used, first, 40);
        struct codec_payload after = encode(coder, used, second, 65);
        CHECK(alone.size == after.size && memcmp(alone.bytes, after.bytes, alone.size) == 0);
        free(alone.bytes);
        free(before.bytes);
        free(after.bytes);
        codec_worker_destroy(fresh);
        coder_destroy(wide);
        coder_destroy(coder);
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

TEST(codec_lossless_encoding_is_pinned)
{
    struct error error;
    struct codec_worker *worker;
    unsigned char residual[6];
    REQUIRE_OK(codec_worker_create(&worker, &error));
    struct coder *coder = coder_make(find("lossless"), 3);
    struct codec_payload payload = encode(coder, worker, pinned_states, 2);
    REQUIRE(payload.size > sizeof pinned_head);
    CHECK(memcmp(payload.bytes, pinned_head, sizeof pinned_head) == 0);
    REQUIRE_OK(unpack(worker, payload.bytes + sizeof pinned_head, payload.size - sizeof pinned_head, residual,
                      sizeof residual, &error));
    CHECK(memcmp(residual, pinned_residual, sizeof residual) == 0);
    free(payload.bytes);
    coder_destroy(coder);
    codec_worker_destroy(worker);
}

/* The same with the first token's level 0: 1020 eighths in the second channel are a tie, rounded up. */
TEST(codec_lossless_decoding_is_pinned)
{
    static const unsigned char residual[] = {0xff, 0, 0xfe, 0, 0xff, 1};
    struct error error;
    struct codec_worker *worker;
    unsigned char payload[400];
    const size_t head = sizeof pinned_head;
    float states[6];
    REQUIRE_OK(codec_worker_create(&worker, &error));
    memcpy(payload, pinned_head, head);
    payload[4] = 0;
    size_t size;
    REQUIRE_OK(pack(worker, residual, sizeof residual, payload + head, sizeof payload - head, &size, &error));
    size += head;
    struct coder *coder = coder_make(find("lossless"), 3);
    REQUIRE_OK(coder_decode(coder, worker, payload, size, 2, states, &error));
    CHECK(memcmp(states, pinned_states, sizeof states) == 0);
    coder_destroy(coder);
    codec_worker_destroy(worker);
}

/* Exponents that follow channel and token leave nothing to code: what is left is the low byte, and a bit. */
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
    struct coder *coder = coder_make(find("lossless"), COLS);
    struct codec_payload payload = encode(coder, worker, states, ROWS);
    CHECK(payload.size < ROWS * COLS + ROWS + COLS + ROWS * COLS / 8 + 200);
    free(payload.bytes);
    coder_destroy(coder);
    codec_worker_destroy(worker);
    free(states);
}

TEST(codec_refuses_bad_shapes_and_sizes)
{
    static const int64_t shapes[][2] = {{0, 3},         {3, 0},       {-1, 3},
                                        {INT64_MAX, 2}, {1 << 29, 2}, {1 << 15, 1 << 15}};
    struct error error;
    struct codec_worker *worker;
    float states[15] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    unsigned char bytes[4096];
    REQUIRE_OK(codec_worker_create(&worker, &error));
    for (int i = 0; codec_table()[i]; i++) {
        struct codec_payload payload = {.bytes = bytes, .capacity = sizeof bytes};
        struct coder *coder = coder_make(codec_table()[i], 4);
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            CHECK(codec_table()[i]->bound(shapes[s][0], shapes[s][1]) == 0);
        for (int64_t rows = -1; rows < 1; rows++) {
            CHECK(coder_encode(coder, worker, states, rows, &payload, &error) < 0);
            CHECK(coder_decode(coder, worker, bytes, 12, rows, states, &error) < 0);
        }
        CHECK(coder_encode(coder, worker, states, INT64_MAX / 2, &payload, &error) < 0);
        payload.capacity = coder_bound(coder, 3) - 1;
        CHECK(coder_encode(coder, worker, states, 3, &payload, &error) < 0);
        payload.capacity = sizeof bytes;
        REQUIRE_OK(coder_encode(coder, worker, states, 3, &payload, &error));
        CHECK(coder_decode(coder, worker, bytes, payload.size, 2, states, &error) < 0);
        CHECK(coder_decode(coder, worker, bytes, payload.size, 1, states, &error) < 0);
        coder_destroy(coder);
    }
    codec_worker_destroy(worker);
}

/* Exact-size copies, so that the sanitizers see every read outside. */
static void decode_copy(const struct coder *coder, struct codec_worker *worker, const unsigned char *bytes,
                        size_t size, int64_t rows, bool must_fail)
{
    struct error error;
    unsigned char *copy = malloc(size ? size : 1);
    float *states = malloc((size_t)(rows * coder_cols(coder)) * sizeof *states);
    memcpy(copy, bytes, size);
    int result = coder_decode(coder, worker, copy, size, rows, states, &error);
    if (must_fail && result == 0)
        test_fail(__FILE__, __LINE__, "%s took a payload of %zu bytes", coder_codec(coder)->name, size);
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
        struct coder *coder = coder_make(codec_table()[i], cols);
        struct codec_payload payload = encode(coder, worker, states, rows);
        for (size_t size = 0; size < payload.size; size++)
            decode_copy(coder, worker, payload.bytes, size, rows, true);
        for (int trial = 0; trial < 3000; trial++) {
            unsigned char *mutant = malloc(payload.size);
            memcpy(mutant, payload.bytes, payload.size);
            for (uint64_t n = 1 + random_next(&random) % 4; n > 0; n--)
                mutant[random_next(&random) % payload.size] = (unsigned char)random_next(&random);
            decode_copy(coder, worker, mutant, payload.size, rows, false);
            free(mutant);
        }
        free(payload.bytes);
        coder_destroy(coder);
    }
    codec_worker_destroy(worker);
    free(states);
}

TEST(codec_names)
{
    static const struct {
        const char *text, *name;
        enum codec_goal goal;
        double value;
    } good[] = {{"raw:f32", "raw:f32", CODEC_NO_GOAL, 0},
                {"raw", "raw", CODEC_NO_GOAL, 0},
                {"lossless", "lossless", CODEC_NO_GOAL, 0},
                {"q8", "q8", CODEC_NO_GOAL, 0},
                {"klt:4", "klt:4", CODEC_BITS, 4},
                {"klt:3.50", "klt:3.5", CODEC_BITS, 3.5},
                {"klt:kl=5e-3", "klt:kl=0.005", CODEC_KL, 0.005}};
    static const char *const bad[] = {"zip",        "",      "klt",   "klt:",    "klt:0",     "klt:13",
                                      "klt:4x",     "raw:4", "q8:4",  "klt:kl=", "klt:kl=-1", "klt:kl=nan",
                                      "klt:bits=4", "klt4",  "raw:f", "raw:f322"};
    struct error error;
    struct codec_choice choice;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        REQUIRE_OK(codec_parse(good[i].text, &choice, &error));
        CHECK(strcmp(choice.name, good[i].name) == 0);
        CHECK(choice.goal == good[i].goal && choice.value == good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (codec_parse(bad[i], &choice, &error) == 0)
            test_fail(__FILE__, __LINE__, "\"%s\" passes for a codec", bad[i]);
    CHECK(codec_parse("zip", &choice, &error) < 0);
    CHECK_TEXT(error.text, "raw:f32, raw, lossless, q8, klt:");
    CHECK(codec_find_id(999) == NULL);
    for (int i = 0; codec_table()[i]; i++)
        CHECK(codec_find_id(codec_table()[i]->id) == codec_table()[i]);
}

/* Record headers hold these numbers: a line here is added to, and never changed. */
TEST(codec_numbers_are_pinned)
{
    static const struct {
        const char *name;
        uint16_t number;
    } pinned[] = {{"raw:f32", 1}, {"raw", 2}, {"lossless", 3}, {"q8", 4}, {"klt", 5}};
    size_t there = 0;
    for (; codec_table()[there]; there++)
        ;
    CHECK(there == sizeof pinned / sizeof *pinned);
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++) {
        REQUIRE(codec_find_id(pinned[i].number) != NULL);
        CHECK(strcmp(codec_find_id(pinned[i].number)->name, pinned[i].name) == 0);
    }
}

TEST_MAIN
