#include <stdlib.h>

#include "common/base/random.h"
#include "common/text/bpe.h"
#include "common/text/unicode.h"
#include "tests/test.h"

/* The name of a byte in byte-level text, by GPT-2's definition. */
static void name_of_byte(int wanted, char name[5])
{
    int32_t next = 0x100;
    for (int byte = 0; byte < 256; byte++) {
        bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        int32_t character = printable ? byte : next++;
        if (byte == wanted)
            name[utf8_encode(character, name)] = 0;
    }
}

TEST(vocab_names_of_all_bytes)
{
    struct vocab vocab;
    struct error error = {0};
    REQUIRE_OK(vocab_create(&vocab, 256, &error));
    for (int byte = 0; byte < 256; byte++) {
        char name[5];
        name_of_byte(byte, name);
        CHECK(vocab_set(&vocab, byte, name, strlen(name), TOKEN_MODEL, &error) == 0);
    }
    for (int byte = 0; byte < 256; byte++)
        CHECK(vocab_find_bytes(&vocab, &(char){(char)byte}, 1) == byte);
    CHECK(vocab_find(&vocab, "\u0120", 2) == ' ');
    CHECK(vocab_find_bytes(&vocab, "ab", 2) == -1);
    vocab_free(&vocab);
}

TEST(vocab_keeps_apart_what_is_no_byte_level_text)
{
    struct vocab vocab;
    struct error error = {0};
    REQUIRE_OK(vocab_create(&vocab, 8, &error));
    CHECK(vocab_set(&vocab, 0, "\u0120a", 3, TOKEN_MODEL, &error) == 0);
    CHECK(vocab_set(&vocab, 1, " a", 2, TOKEN_MODEL, &error) == 0); /* a space is not a byte-level character */
    CHECK(vocab_set(&vocab, 2, "\uFF5C\xFF", 4, TOKEN_MODEL, &error) == 0);
    CHECK(vocab_set(&vocab, 3, "\u0120b", 3, TOKEN_SPECIAL, &error) == 0);
    CHECK(vocab_find_bytes(&vocab, " a", 2) == 0);
    CHECK(vocab_find_bytes(&vocab, " b", 2) == -1);
    CHECK(vocab.tokens[1].size == 2 && memcmp(vocab.tokens[1].bytes, " a", 2) == 0);
    CHECK(vocab.tokens[3].size == 3 && memcmp(vocab.tokens[3].bytes, "\u0120b", 3) == 0);
    CHECK(vocab.tokens[4].kind == TOKEN_ABSENT && vocab.tokens[4].size == 0);
    vocab_add(&vocab, 0, TOKEN_ADDED);
    CHECK(vocab.tokens[0].size == 3);
    vocab_free(&vocab);
}

TEST(vocab_refuses_what_is_not_one_to_one)
{
    struct vocab vocab;
    struct error error = {0};
    REQUIRE_OK(vocab_create(&vocab, 2, &error));
    CHECK(vocab_set(&vocab, 0, "a", 1, TOKEN_MODEL, &error) == 0);
    CHECK(vocab_set(&vocab, 0, "b", 1, TOKEN_MODEL, &error) == -1);
    CHECK_TEXT(error.text, "tokens \"a\" and \"b\" have the same id 0");
    CHECK(vocab_set(&vocab, 1, "a", 1, TOKEN_MODEL, &error) == -1);
    CHECK_TEXT(error.text, "tokens 0 and 1 are both \"a\"");
    CHECK(vocab_set(&vocab, 2, "b", 1, TOKEN_MODEL, &error) == -1);
    CHECK_TEXT(error.text, "id 2, not in 0 .. 1");
    CHECK(vocab_set(&vocab, -1, "b", 1, TOKEN_MODEL, &error) == -1);
    CHECK(vocab_set(&vocab, 1, "", 0, TOKEN_MODEL, &error) == -1);
    CHECK_TEXT(error.text, "0 bytes long");
    vocab_free(&vocab);
    CHECK(vocab_create(&vocab, 0, &error) == -1);
    CHECK(vocab_create(&vocab, (size_t)VOCAB_LIMIT + 1, &error) == -1);
    CHECK_TEXT(error.text, "1 .. 4194304 are possible");
}

/* A vocabulary of the letters a .. f and `count` merges of tokens made before, drawn at random. */
enum { LETTERS = 6, MERGES = 60 };

static int make_rules(struct vocab *vocab, struct bpe_rules *rules, uint64_t seed, struct error *error)
{
    struct random random = {seed};
    if (vocab_create(vocab, LETTERS + MERGES, error) < 0)
        return -1;
    for (int i = 0; i < LETTERS; i++)
        if (vocab_set(vocab, i, &(char){(char)('a' + i)}, 1, TOKEN_MODEL, error) < 0)
            return -1;
    while (rules->count < MERGES) {
        int made = LETTERS + (int)rules->count;
        int left = (int)(random_next(&random) % (uint64_t)made),
            right = (int)(random_next(&random) % (uint64_t)made);
        char name[64];
        int size = snprintf(name, sizeof name, "%s%s", vocab->tokens[left].name, vocab->tokens[right].name);
        if (size > 24 || vocab_find(vocab, name, (size_t)size) >= 0)
            continue;
        if (vocab_set(vocab, made, name, (size_t)size, TOKEN_MODEL, error) < 0)
            return -1;
        rules->merges[rules->count++] = (struct bpe_merge){left, right, made};
    }
    return 0;
}

/* The definition, word for word: join the leftmost pair of lowest rank until none is left. */
static size_t encode_slowly(const struct bpe_rules *rules, const char *pretoken, size_t size, int32_t *ids)
{
    for (size_t i = 0; i < size; i++)
        ids[i] = pretoken[i] - 'a';
    for (;;) {
        size_t best = rules->count, at = 0;
        for (size_t i = 0; i + 1 < size; i++)
            for (size_t rank = 0; rank < best; rank++)
                if (rules->merges[rank].left == ids[i] && rules->merges[rank].right == ids[i + 1])
                    best = rank, at = i;
        if (best == rules->count)
            return size;
        ids[at] = rules->merges[best].joined;
        memmove(&ids[at + 1], &ids[at + 2], (size - at - 2) * sizeof *ids);
        size--;
    }
}

TEST(bpe_equals_its_definition)
{
    enum { LONGEST = 300 };
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct bpe_merge merges[MERGES];
        struct bpe_rules rules = {.merges = merges, .unknown = -1};
        struct vocab vocab;
        struct bpe *bpe;
        struct bpe_work work = {0};
        struct token_list ids = {0};
        struct error error = {0};
        struct random random = {seed * 1000};
        REQUIRE_OK(make_rules(&vocab, &rules, seed, &error));
        REQUIRE_OK(bpe_create(&vocab, &rules, &bpe, &error));
        for (int round = 0; round < 200; round++) {
            char pretoken[LONGEST];
            int32_t expected[LONGEST];
            size_t size = 1 + random_next(&random) % (round % 10 ? 12 : LONGEST);
            for (size_t i = 0; i < size; i++)
                pretoken[i] = (char)('a' + random_next(&random) % LETTERS);
            ids.count = 0;
            REQUIRE_OK(bpe_encode(bpe, pretoken, size, &work, &ids, &error));
            size_t count = encode_slowly(&rules, pretoken, size, expected);
            CHECK(ids.count == count && memcmp(ids.data, expected, count * sizeof *expected) == 0);
        }
        bpe_work_free(&work);
        free(ids.data);
        bpe_destroy(bpe);
        vocab_free(&vocab);
    }
}

/* Encodes one pretoken with the vocabulary a b c ab bc abc ? and the rules given. */
static void check_small(struct bpe_rules rules, const char *pretoken, size_t count, const int32_t *expected)
{
    static const char *const names[] = {"a", "b", "c", "ab", "bc", "abc", "?"};
    struct vocab vocab;
    struct bpe *bpe;
    struct bpe_work work = {0};
    struct token_list ids = {0};
    struct error error = {0};
    REQUIRE_OK(vocab_create(&vocab, 7, &error));
    for (int i = 0; i < 7; i++)
        REQUIRE_OK(vocab_set(&vocab, i, names[i], strlen(names[i]), TOKEN_MODEL, &error));
    REQUIRE_OK(bpe_create(&vocab, &rules, &bpe, &error));
    REQUIRE_OK(bpe_encode(bpe, pretoken, strlen(pretoken), &work, &ids, &error));
    bool same = ids.count == count && (count == 0 || memcmp(ids.data, expected, count * sizeof *expected) == 0);
    if (!same)
        test_fail(__FILE__, __LINE__, "\"%s\" became %zu tokens, the first %d", pretoken, ids.count,
                  ids.count ? ids.data[0] : -1);
    bpe_work_free(&work);
    free(ids.data);
    bpe_destroy(bpe);
    vocab_free(&vocab);
}

TEST(bpe_merges_by_rank_not_from_the_left)
{
    struct bpe_merge merges[] = {{1, 2, 4}, {0, 1, 3}, {3, 2, 5}}; /* b c, a b, ab c */
    struct bpe_rules rules = {.merges = merges, .count = 3, .unknown = -1};
    check_small(rules, "ab", 1, (int32_t[]){3});
    check_small(rules, "abc", 2, (int32_t[]){0, 4}); /* "abc" is a token, but not one that merging makes */
    rules.ignore_merges = true;
    check_small(rules, "abc", 1, (int32_t[]){5});
    check_small(rules, "abcabc", 4, (int32_t[]){0, 4, 0, 4});
}

TEST(bpe_last_rank_of_a_pair_counts)
{
    struct bpe_merge merges[] = {{0, 1, 3}, {1, 2, 4}, {0, 1, 3}};
    check_small((struct bpe_rules){.merges = merges, .count = 2, .unknown = -1}, "abc", 2, (int32_t[]){3, 2});
    check_small((struct bpe_rules){.merges = merges, .count = 3, .unknown = -1}, "abc", 2, (int32_t[]){0, 4});
}

TEST(bpe_bytes_without_a_token)
{
    struct bpe_merge merges[] = {{0, 1, 3}};
    struct bpe_rules rules = {.merges = merges, .count = 1, .unknown = -1};
    check_small(rules, "xyz", 0, NULL);
    check_small(rules, "axxb", 1, (int32_t[]){3}); /* what is left out does not part its neighbours */
    rules.unknown = 6;
    check_small(rules, "axxb", 4, (int32_t[]){0, 6, 6, 1});
    rules.fuse_unknown = true;
    check_small(rules, "axxbx", 4, (int32_t[]){0, 6, 1, 6});
}

TEST_MAIN
