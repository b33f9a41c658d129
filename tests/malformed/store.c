/* Values of a store that are not what they claim to be: every length, random bytes, sizes that lie. Hashes
 * are made to fit where they would hide the rest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/random.h"
#include "common/store/format.h"
#include "common/store/manifest.h"
#include "common/store/state.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

/* A copy of exactly that size, so that the sanitizers see every read outside. */
static unsigned char *copy_of(const void *bytes, size_t size)
{
    unsigned char *copy = malloc(size ? size : 1);
    memcpy(copy, bytes, size);
    return copy;
}

static void read_state(const void *bytes, size_t size, bool whole)
{
    struct error error;
    struct state state = {0};
    unsigned char *copy = copy_of(bytes, size);
    int result = state_read(copy, size, &state, &error);
    if (whole)
        CHECK(result == 0);
    state_free(&state);
    free(copy);
}

static int make_state(struct string *bytes, struct error *error)
{
    struct state state = {0};
    const uint64_t counts[2] = {7, 3};
    int result = 0;
    if (state_set(&state, "sequences", counts, sizeof counts, error) < 0 ||
        state_set(&state, "progress/12.mid", counts, sizeof counts, error) < 0 ||
        state_set(&state, "note/a", "", 0, error) < 0 || state_set(&state, "later", "unknown", 7, error) < 0)
        result = -1;
    state_write(&state, bytes);
    state_free(&state);
    return result < 0 || string_failed(bytes, error) ? -1 : 0;
}

TEST(malformed_state)
{
    struct error error;
    struct string bytes = {0};
    struct random random = {5};
    REQUIRE_OK(make_state(&bytes, &error));
    read_state(bytes.data, bytes.length, true);
    for (size_t size = 0; size < bytes.length; size++) {
        struct state state = {0};
        CHECK(state_read(bytes.data, size, &state, &error) < 0);
        state_free(&state);
        read_state(bytes.data, size, false);
    }
    for (int trial = 0; trial < 20000; trial++) {
        unsigned char *mutant = copy_of(bytes.data, bytes.length);
        for (uint64_t n = 1 + random_next(&random) % 4; n > 0; n--)
            mutant[random_next(&random) % bytes.length] = (unsigned char)random_next(&random);
        read_state(mutant, bytes.length, false);
        free(mutant);
    }
    string_free(&bytes);
}

/* What a program of a later version wrote into the state is kept by this one. */
TEST(state_keeps_what_it_does_not_know)
{
    struct error error;
    struct string bytes = {0}, again = {0};
    struct state state = {0};
    size_t size;
    REQUIRE_OK(make_state(&bytes, &error));
    REQUIRE_OK(state_read(bytes.data, bytes.length, &state, &error));
    const void *value = state_get(&state, "later", &size);
    CHECK(value && size == 7 && memcmp(value, "unknown", 7) == 0);
    CHECK(state_get(&state, "late", &size) == NULL);
    state_write(&state, &again);
    CHECK(again.length == bytes.length && memcmp(again.data, bytes.data, bytes.length) == 0);
    state_free(&state);
    string_free(&bytes);
    string_free(&again);
}

static const struct sequence sequence = {SPLIT_HELD_OUT, 5};

static int make_tokens(struct store_info *info, struct string *value, struct error *error)
{
    int32_t ids[FIXTURE_ROWS + 1];
    const int32_t starts[] = {0, 3, 8};
    json_t *manifest = fixture_manifest(0, 1);
    *info = (struct store_info){0};
    int result = manifest_parse("manifest", manifest, info, error);
    json_decref(manifest);
    fixture_tokens(sequence, ids);
    return result < 0 ? -1 : tokens_encode(info, sequence, ids, starts, 3, value, error);
}

TEST(malformed_tokens)
{
    struct error error;
    struct store_info info;
    struct string value = {0};
    int32_t ids[FIXTURE_ROWS + 1], expected[FIXTURE_ROWS + 1];
    REQUIRE_OK(make_tokens(&info, &value, &error));
    REQUIRE_OK(tokens_decode(&info, sequence, value.data, value.length, ids, &error));
    fixture_tokens(sequence, expected);
    CHECK(memcmp(ids, expected, sizeof ids) == 0);
    for (size_t size = 0; size < value.length; size++) {
        unsigned char *copy = copy_of(value.data, size);
        CHECK(tokens_decode(&info, sequence, copy, size, ids, &error) < 0);
        free(copy);
    }
    for (size_t bit = 0; bit < value.length * 8; bit++) {
        value.data[bit / 8] ^= (char)(1 << bit % 8);
        CHECK(tokens_decode(&info, sequence, value.data, value.length, ids, &error) < 0);
        value.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    CHECK(tokens_decode(&info, (struct sequence){SPLIT_TRAIN, 5}, value.data, value.length, ids, &error) < 0);
    CHECK_TEXT(error.text, "tokens of train sequence 5: these are the tokens of held-out sequence 5");
    string_free(&value);
    manifest_free(&info);
}

/* Headers that lie about what follows, under a hash that fits them. */
TEST(malformed_tokens_with_a_right_hash)
{
    static const struct {
        size_t offset;
        uint32_t value;
        const char *part;
    } lies[] = {
        {offsetof(struct tokens_header, magic), 0, "not a token list"},
        {offsetof(struct tokens_header, version), 2 | 1 << 16, "use a newer one"},
        {offsetof(struct tokens_header, version), 1 | 1 << 16 | 1u << 24, "use a newer one"},
        {offsetof(struct tokens_header, rows), 7, "7 tokens where 8 were expected"},
        {offsetof(struct tokens_header, starts), 2, "damaged"},
        {offsetof(struct tokens_header, starts), UINT32_MAX, "damaged"},
        {offsetof(struct tokens_header, index), 6, "held-out sequence 6"},
    };
    struct error error;
    struct store_info info;
    struct string value = {0};
    int32_t ids[FIXTURE_ROWS + 1];
    REQUIRE_OK(make_tokens(&info, &value, &error));
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct tokens_header header;
        unsigned char *copy = copy_of(value.data, value.length);
        memcpy(copy + lies[i].offset, &lies[i].value, 4);
        memcpy(&header, copy, sizeof header);
        header.hash = 0;
        header.hash = hash_bytes(copy + sizeof header, value.length - sizeof header,
                                 hash_bytes(&header, sizeof header, 0));
        memcpy(copy, &header, sizeof header);
        CHECK(tokens_decode(&info, sequence, copy, value.length, ids, &error) < 0);
        CHECK_TEXT(error.text, lies[i].part);
        free(copy);
    }
    string_free(&value);
    manifest_free(&info);
}

TEST(malformed_meta_and_source)
{
    struct error error;
    struct string framed = {0};
    struct random random = {9};
    struct source_part part;
    const void *value;
    size_t size;
    meta_frame("state", "some bytes", 10, &framed);
    REQUIRE_OK(meta_unframe("state", framed.data, framed.length, &value, &size, &error));
    CHECK(size == 10 && memcmp(value, "some bytes", 10) == 0);
    CHECK(meta_unframe("manifest", framed.data, framed.length, &value, &size, &error) < 0);
    for (size_t cut = 0; cut < framed.length; cut++) {
        unsigned char *copy = copy_of(framed.data, cut);
        CHECK(meta_unframe("state", copy, cut, &value, &size, &error) < 0);
        free(copy);
    }
    string_free(&framed);

    for (int trial = 0; trial < 5000; trial++) {
        size_t key_size = random_next(&random) % 260, value_size = random_next(&random) % 100;
        unsigned char *key = malloc(key_size + 1), *bytes = malloc(value_size + 1);
        for (size_t i = 0; i < key_size; i++)
            key[i] = (unsigned char)(random_next(&random) % 5 ? 'a' : '#');
        for (size_t i = 0; i < value_size; i++)
            bytes[i] = (unsigned char)random_next(&random);
        if (value_size >= 4)
            memcpy(bytes, "OFRS\1\0", value_size < 6 ? 4 : 6);
        CHECK(source_verify(key, key_size, bytes, value_size, &part, &error) < 0);
        free(key);
        free(bytes);
    }
}

TEST(sequence_keys_keep_order)
{
    const struct sequence sequences[] = {{SPLIT_TRAIN, 0},         {SPLIT_TRAIN, 1},    {SPLIT_TRAIN, 256},
                                         {SPLIT_TRAIN, INT64_MAX}, {SPLIT_HELD_OUT, 0}, {SPLIT_HELD_OUT, 77}};
    unsigned char last[SEQUENCE_KEY_SIZE], key[SEQUENCE_KEY_SIZE];
    for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++) {
        sequence_key(sequences[i], key);
        struct sequence back = sequence_of_key(key);
        CHECK(back.split == sequences[i].split && back.index == sequences[i].index);
        CHECK(i == 0 || memcmp(last, key, sizeof key) < 0);
        memcpy(last, key, sizeof key);
    }
}

TEST_MAIN
