/* Records: nothing of one is used before everything in it is as expected. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/store/record.h"
#include "tests/codec_fixture.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

enum { ROWS = 6, COLS = 10 };
enum { LOSSLESS = 3, KLT = 5 }; /* their ids */

static const struct tap tap = {12, true};
static const struct sequence sequence = {SPLIT_HELD_OUT, 77};

struct fixture {
    struct codec_worker *worker;
    struct coder *coder;
    float states[ROWS * COLS];
    struct record_key key;
    struct record record;
};

static int fixture_make(struct fixture *fixture, uint16_t codec, struct error *error)
{
    *fixture = (struct fixture){0};
    for (int i = 0; i < ROWS * COLS; i++)
        fixture->states[i] = bf16_to_f32((uint16_t)(0x3f00 + i * 3));
    if (codec_worker_create(&fixture->worker, error) < 0 ||
        codec_fixture_coder(codec_find_id(codec), COLS, &fixture->coder, error) < 0)
        return -1;
    fixture->key = (struct record_key){fixture->coder, tap, sequence, ROWS, NULL, 0};
    return record_encode(fixture->worker, &fixture->key, &(struct record_states){.states = fixture->states},
                         &fixture->record, error);
}

static void fixture_free(struct fixture *fixture)
{
    codec_worker_destroy(fixture->worker);
    coder_destroy(fixture->coder);
    free(fixture->record.bytes);
}

/* Makes the payload's size and the hash fit what is there. */
static void refit(unsigned char *record, size_t size)
{
    struct record_header header;
    memcpy(&header, record, sizeof header);
    header.payload = size - sizeof header;
    header.hash = 0;
    header.hash = hash_bytes(record + sizeof header, header.payload, hash_bytes(&header, sizeof header, 0));
    memcpy(record, &header, sizeof header);
}

static int decode(struct fixture *fixture, const void *record, size_t size, float *states, struct error *error)
{
    return record_decode(fixture->worker, &fixture->key, record, size, &(struct record_parts){.states = states},
                         error);
}

TEST(record_round_trip)
{
    struct error error;
    for (int i = 0; codec_table()[i]; i++) {
        struct fixture fixture;
        float states[ROWS * COLS];
        REQUIRE_OK(fixture_make(&fixture, codec_table()[i]->id, &error));
        REQUIRE_OK(decode(&fixture, fixture.record.bytes, fixture.record.size, states, &error));
        CHECK(!codec_table()[i]->exact || memcmp(states, fixture.states, sizeof states) == 0);
        REQUIRE_OK(decode(&fixture, fixture.record.bytes, fixture.record.size, NULL, &error));
        fixture_free(&fixture);
    }
}

TEST(record_encode_reuses_its_buffer)
{
    struct error error;
    struct fixture fixture;
    REQUIRE_OK(fixture_make(&fixture, LOSSLESS, &error));
    unsigned char *first = malloc(fixture.record.size);
    size_t size = fixture.record.size;
    memcpy(first, fixture.record.bytes, size);
    REQUIRE_OK(record_encode(fixture.worker, &fixture.key, &(struct record_states){.states = fixture.states},
                             &fixture.record, &error));
    CHECK(fixture.record.size == size && memcmp(first, fixture.record.bytes, size) == 0);
    free(first);
    fixture_free(&fixture);
}

/* Each field in turn says something else; the hash is made to fit, so that the field itself is checked. */
TEST(record_of_another_place_is_refused)
{
    static const struct {
        size_t offset;
        const char *part;
    } fields[] = {
        {offsetof(struct record_header, magic), "not a record"},
        {offsetof(struct record_header, version), "use a newer one"},
        {offsetof(struct record_header, codec), "another one"},
        {offsetof(struct record_header, parameters), "other parameters"},
        {offsetof(struct record_header, type), "another one"},
        {offsetof(struct record_header, mid), "tap 12, held-out sequence 77"},
        {offsetof(struct record_header, split), "train sequence 77"},
        {offsetof(struct record_header, layer), "tap 13.mid"},
        {offsetof(struct record_header, index), "held-out sequence 76"},
        {offsetof(struct record_header, rows), "[7, 10]"},
        {offsetof(struct record_header, cols), "[6, 11]"},
        {offsetof(struct record_header, payload), "payload"},
        {offsetof(struct record_header, columns), "another one"},
    };
    struct error error;
    struct fixture fixture;
    REQUIRE_OK(fixture_make(&fixture, KLT, &error));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        unsigned char *changed = malloc(fixture.record.size);
        struct record_header header;
        memcpy(changed, fixture.record.bytes, fixture.record.size);
        changed[fields[i].offset] ^= 1;
        memcpy(&header, changed, sizeof header);
        header.hash = 0;
        uint64_t payload = fixture.record.size - sizeof header;
        header.hash = hash_bytes(changed + sizeof header, payload, hash_bytes(&header, sizeof header, 0));
        memcpy(changed, &header, sizeof header);
        CHECK(decode(&fixture, changed, fixture.record.size, NULL, &error) < 0);
        CHECK_TEXT(error.text, fields[i].part);
        free(changed);
    }
    fixture_free(&fixture);
}

TEST(record_every_bit_and_length_counts)
{
    struct error error;
    struct fixture fixture;
    REQUIRE_OK(fixture_make(&fixture, LOSSLESS, &error));
    for (size_t bit = 0; bit < fixture.record.size * 8; bit++) {
        fixture.record.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        if (decode(&fixture, fixture.record.bytes, fixture.record.size, NULL, &error) == 0)
            test_fail(__FILE__, __LINE__, "bit %zu is not covered", bit);
        fixture.record.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    for (size_t size = 0; size < fixture.record.size; size++) {
        unsigned char *copy = malloc(size ? size : 1);
        memcpy(copy, fixture.record.bytes, size);
        CHECK(decode(&fixture, copy, size, NULL, &error) < 0);
        free(copy);
    }
    fixture_free(&fixture);
}

/* ---- targets ---- */

enum { VOCAB = 50 };

static int make_target(struct fixture *fixture, struct target_row values[ROWS], struct error *error)
{
    if (fixture_make(fixture, LOSSLESS, error) < 0)
        return -1;
    for (int r = 0; r < ROWS; r++) {
        values[r] = (struct target_row){.top = r * 7 % VOCAB,
                                        .probability = (float)r / ROWS,
                                        .entropy = (float)r / 4,
                                        .loss = (float)r / 2};
        fixture_best(&values[r], VOCAB);
    }
    fixture->key = (struct record_key){fixture->coder, tap_target(30), sequence, ROWS, target_columns(), VOCAB};
    const struct record_states states = {.states = fixture->states, .values = values};
    return record_encode(fixture->worker, &fixture->key, &states, &fixture->record, error);
}

static int read_target(struct fixture *fixture, const void *record, size_t size, struct target_row values[ROWS],
                       float *u, struct error *error)
{
    return record_decode(fixture->worker, &fixture->key, record, size,
                         &(struct record_parts){.values = values, .states = u}, error);
}

TEST(target_comes_back)
{
    struct error error;
    struct fixture fixture;
    struct target_row values[ROWS], found[ROWS];
    float u[ROWS * COLS];
    REQUIRE_OK(make_target(&fixture, values, &error));
    REQUIRE_OK(read_target(&fixture, fixture.record.bytes, fixture.record.size, found, u, &error));
    CHECK(memcmp(found, values, sizeof values) == 0 && memcmp(u, fixture.states, sizeof u) == 0);
    REQUIRE_OK(read_target(&fixture, fixture.record.bytes, fixture.record.size, found, NULL, &error));
    fixture.key.columns = NULL;
    fixture.key.tap = tap;
    CHECK(decode(&fixture, fixture.record.bytes, fixture.record.size, u, &error) < 0);
    CHECK_TEXT(error.text, "another one: tap 31");
    fixture_free(&fixture);
}

TEST(target_every_bit_and_length_counts)
{
    struct error error;
    struct fixture fixture;
    struct target_row values[ROWS], found[ROWS];
    float u[ROWS * COLS];
    REQUIRE_OK(make_target(&fixture, values, &error));
    for (size_t bit = 0; bit < fixture.record.size * 8; bit++) {
        fixture.record.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        CHECK(read_target(&fixture, fixture.record.bytes, fixture.record.size, found, u, &error) < 0);
        fixture.record.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    for (size_t size = 0; size < fixture.record.size; size++) {
        unsigned char *copy = malloc(size + 1);
        memcpy(copy, fixture.record.bytes, size);
        CHECK(read_target(&fixture, copy, size, found, u, &error) < 0 && error.kind == ERROR_DAMAGED);
        free(copy);
    }
    fixture_free(&fixture);
}

/* Under a hash that fits: a payload cut short, and values that cannot be. */
TEST(target_values_that_cannot_be)
{
    static const struct {
        struct target_row row;
        const char *part;
    } lies[] = {
        {{.top = -1, .probability = 0.5f}, "row 3: token -1 is outside the vocabulary of 50"},
        {{.top = VOCAB, .probability = 0.5f}, "token 50"},
        {{.top = 1, .probability = 1.5f}, "row 3: probability is 1.5"},
        {{.top = 1, .probability = NAN}, "probability is nan"},
        {{.top = 1, .probability = 0.5f, .entropy = INFINITY}, "entropy is inf"},
        {{.top = 1, .probability = 0.5f, .loss = NAN}, "loss is nan"},
    };
    struct error error;
    struct fixture fixture;
    struct target_row values[ROWS], found[ROWS];
    REQUIRE_OK(make_target(&fixture, values, &error));
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        values[3] = lies[i].row;
        REQUIRE_OK(target_pack(target_columns(), values, ROWS,
                               fixture.record.bytes + sizeof(struct record_header), &error));
        refit(fixture.record.bytes, fixture.record.size);
        CHECK(read_target(&fixture, fixture.record.bytes, fixture.record.size, found, NULL, &error) < 0);
        CHECK(error.kind == ERROR_DAMAGED);
        CHECK_TEXT(error.text, lies[i].part);
    }
    fixture.record.size = sizeof(struct record_header) + columns_bytes(target_columns(), ROWS) - 1;
    refit(fixture.record.bytes, fixture.record.size);
    CHECK(read_target(&fixture, fixture.record.bytes, fixture.record.size, found, NULL, &error) < 0);
    CHECK_TEXT(error.text, "fewer than its columns");
    fixture_free(&fixture);
}

/* The same of the best tokens: one place of row 3 is changed. */
TEST(target_best_tokens_that_cannot_be)
{
    static const struct {
        int place;
        int32_t token;
        float probability;
        const char *part;
    } lies[] = {
        {2, VOCAB, 0.0625f, "row 3: token 50 is outside the vocabulary of 50"},
        {2, -1, 0.0625f, "token -1"},
        {7, 8, 0.0625f, "row 3: token 8 is twice among the best"},
        {2, 40, 0.25f, "row 3: best_probability 3 is 0.25, and the one before it 0.0625"},
        {2, 40, -0.25f, "best_probability 3 is -0.25"},
        {7, 40, NAN, "best_probability 8 is nan"},
        {0, 1, 1.5f, "best_probability 1 is 1.5"},
        {1, 40, 0.5f, "row 3: best_probability adds up to 1.375"},
        {0, 40, 0.5f, "row 3: the first of the best is token 40 of probability 0.5, and top is 1 of 0.5"},
        {0, 1, 0.25f, "the first of the best is token 1 of probability 0.25, and top is 1 of 0.5"},
    };
    struct error error;
    struct fixture fixture;
    struct target_row values[ROWS], found[ROWS];
    REQUIRE_OK(make_target(&fixture, values, &error));
    for (size_t i = 0; i <= sizeof lies / sizeof *lies; i++) {
        values[3] = (struct target_row){.top = 1, .probability = 0.5f};
        fixture_best(&values[3], VOCAB);
        if (i > 0) {
            values[3].best[lies[i - 1].place] = lies[i - 1].token;
            values[3].best_probability[lies[i - 1].place] = lies[i - 1].probability;
        }
        REQUIRE_OK(target_pack(target_columns(), values, ROWS,
                               fixture.record.bytes + sizeof(struct record_header), &error));
        refit(fixture.record.bytes, fixture.record.size);
        if (i == 0) {
            REQUIRE_OK(read_target(&fixture, fixture.record.bytes, fixture.record.size, found, NULL, &error));
            CHECK(memcmp(found, values, sizeof values) == 0);
            continue;
        }
        CHECK(read_target(&fixture, fixture.record.bytes, fixture.record.size, found, NULL, &error) < 0);
        CHECK(error.kind == ERROR_DAMAGED);
        CHECK_TEXT(error.text, lies[i - 1].part);
    }
    fixture_free(&fixture);
}

TEST(tap_names)
{
    static const struct {
        const char *text, *name;
        struct tap tap;
    } good[] = {{"0", "0", {0, false}},       {"12", "12", {12, false}},       {"12.mid", "12.mid", {12, true}},
                {"30", "final", {30, false}}, {"final", "final", {30, false}}, {"30.mid", "30.mid", {30, true}},
                {"1.mid", "1.mid", {1, true}}};
    static const char *const bad[] = {"",    "x",     "31",   "31.mid",  "0.mid",    "-1",
                                      "+1",  "01",    "1.mi", "1.midd",  ".mid",     "12 ",
                                      " 12", "Final", "1e1",  "9999999", "final.mid"};
    struct error error;
    struct tap found;
    char name[TAP_NAME_SIZE];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        REQUIRE_OK(tap_parse(good[i].text, 30, &found, &error));
        CHECK(tap_compare(found, good[i].tap) == 0);
        tap_name(found, 30, name);
        CHECK(strcmp(name, good[i].name) == 0);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(tap_parse(bad[i], 30, &found, &error) < 0);
        CHECK_TEXT(error.text, bad[i]);
    }
    CHECK(tap_compare((struct tap){12, true}, (struct tap){12, false}) < 0);
    CHECK(tap_compare((struct tap){12, false}, (struct tap){13, true}) < 0);
    CHECK(tap_compare((struct tap){0, false}, (struct tap){1, true}) < 0);
    CHECK(tap_parse("target", 30, &found, &error) < 0);
    REQUIRE_OK(tap_parse_stored("target", 30, &found, &error));
    CHECK(tap_compare(found, tap_target(30)) == 0 && tap_compare((struct tap){30, false}, found) < 0);
    tap_name(found, 30, name);
    CHECK(strcmp(name, "target") == 0);
    REQUIRE_OK(tap_parse_stored("12.mid", 30, &found, &error));
    CHECK(tap_compare(found, (struct tap){12, true}) == 0);
}

TEST_MAIN
