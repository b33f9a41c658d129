/* cut.c: a text cut where tokenizer_cut says has the tokens of the whole text, whatever stands around the
 * place. */
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/random.h"
#include "common/base/string.h"
#include "common/model/gguf.h"
#include "common/text/tokenizer.h"
#include "common/text/unicode.h"
#include "tests/make_gguf.h"
#include "tests/test.h"

#define MARGIN 32 /* more than tokenizer_cut looks ahead */

/* What the rules of pretokenizers, added tokens and normalization tell apart. */
static const char *const alphabet[] = {
    "a",
    "B",
    "s",
    "l",
    "re",
    "'",
    " ",
    "  ",
    "\\n",
    "\r",
    "\r\n",
    "\n",
    "\t",
    "/",
    "!",
    "<",
    "|x|>",
    "1",
    "23",
    "\u00B2",
    "\u00E9",
    "e\u0301",
    "\u3000",
    "\u00A0",
    "\xC2\x85",
    "\u2028",
    "\u017F",
    "\u01C5",
    "\u02B0",
    "\u4E2D",
    "\uFF0C",
    "\u30A2",
    "\u3099",
    "\u1100",
    "\u1161",
    "\u11A8",
    "\uAC00",
    "\u212A",
    "\u0344",
    "\u0958",
    "\u180E",
    "\U0001F600",
    "\u1C89",
    "\u0301",
    "\u0323",
    "\u200D",
    "\u0661",
    "\u09BE",
    "\U000105C0",
    "\U00010D40",
    "\U00011DE0",
    "\U0001133B",
    "-",
    ".",
    /* what belongs together: */
    "'s",
    "'re",
    "!\n/",
    "<|x|>",
    "\n\n\n",
    "a<l",
    "1!-",
    "s  ",
    " a<l",
    "1!- ",
    "l/.",
    "l/. ",
    "\u00E9B a",
    "e\u0301B a",
    "! a",
    "/- ",
    " /- ",
    "\n/- ",
};
enum { LETTERS = sizeof alphabet / sizeof *alphabet };

#define LLAMA(digits)                                                                                          \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}" digits                     \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define TEKKEN                                                                                                 \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]*[\\\\p{Ll}\\\\p{Lm}\\\\p{"   \
    "Lo}"                                                                                                      \
    "\\\\p{M}]+|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]+[\\\\p{Ll}"       \
    "\\\\p{Lm}\\\\p{Lo}\\\\p{M}]*|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|\\\\s*[\\\\r\\\\n]+|"     \
    "\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(pattern, behavior)                                                                               \
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" pattern "\"}, \"behavior\": \"" behavior               \
    "\", \"invert\": false}, "
#define DIGITS(individual) "{\"type\": \"Digits\", \"individual_digits\": " individual "}, "
#define BYTES(prefix, regex)                                                                                   \
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": " prefix ", \"use_regex\": " regex "}"

static const struct {
    const char *name, *steps;
    int least; /* of 100 texts, so many have a cut; a third of them where text is normalized */
} kinds[] = {
    {"gpt-2", BYTES("false", "true"), 60},
    {"gpt-2, prefixed", BYTES("true", "true"), 10},
    {"smollm", DIGITS("true") BYTES("false", "true"), 60},
    {"starcoder", DIGITS("false") BYTES("false", "true"), 60},
    {"digits, prefixed", DIGITS("true") BYTES("true", "true"), 10},
    {"llama-bpe", SPLIT(LLAMA("{1,3}"), "Isolated") BYTES("false", "false"), 60},
    {"llama-bpe, prefixed", SPLIT(LLAMA("{1,3}"), "Isolated") BYTES("true", "true"), 60},
    {"qwen2", SPLIT(LLAMA(""), "Isolated") BYTES("false", "false"), 60},
    {"tekken", SPLIT(TEKKEN, "Isolated") BYTES("false", "false"), 60},
    {"llama-bpe, joined", SPLIT(LLAMA("{1,3}"), "Contiguous") BYTES("false", "false"), 0},
    {"unknown", SPLIT("[a-z]+(?= 1)|.", "Isolated") BYTES("false", "false"), 0},
    {"none", BYTES("false", "false"), 0},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const char *const added[] = {
    "",
    ", {\"id\": %d, \"content\": \"<|x|>\", \"special\": true, \"normalized\": false}"
    ", {\"id\": %d, \"content\": \"\\n\\n\\n\", \"normalized\": false}"
    ", {\"id\": %d, \"content\": \"a<l\", \"normalized\": false, \"lstrip\": true}"
    ", {\"id\": %d, \"content\": \"1!-\", \"normalized\": false, \"rstrip\": true}"
    ", {\"id\": %d, \"content\": \"s  \", \"normalized\": false}",
    ", {\"id\": %d, \"content\": \"l/.\", \"normalized\": true, \"rstrip\": true}"
    ", {\"id\": %d, \"content\": \"\\u00e9B a\", \"normalized\": true}"
    ", {\"id\": %d, \"content\": \"! a\", \"normalized\": true}"
    ", {\"id\": %d, \"content\": \"/- \", \"normalized\": true, \"lstrip\": true}"
    ", {\"id\": %d, \"content\": \"\\u4e2d\", \"normalized\": false}",
};

/* A byte's character in byte-level vocabularies. */
static void print_byte(struct string *out, int byte)
{
    int character = byte, others = 0;
    char utf8[4];
    for (int b = 0; b <= byte; b++) {
        const bool plain = (b >= 33 && b < 127) || (b >= 161 && b < 173) || b >= 174;
        if (!plain && b == byte)
            character = 256 + others;
        others += !plain;
    }
    if (byte == '"' || byte == '\\')
        string_append(out, "\\", 1);
    string_append(out, utf8, utf8_encode(character, utf8));
}

/* Every byte, and every two bytes of the alphabet merged. */
static int print_model(struct string *out)
{
    bool used[256] = {false};
    struct string merges = {0};
    int count = 0;
    for (int i = 0; i < LETTERS; i++)
        for (const char *c = alphabet[i]; *c; c++)
            used[(unsigned char)*c] = true;
    for (int b = 0; b < 256; b++) {
        string_print(out, b ? ", \"" : "\"");
        print_byte(out, b);
        string_print(out, "\": %d", count++);
    }
    for (int a = 0; a < 256; a++)
        for (int b = 0; b < 256; b++) {
            if (!used[a] || !used[b])
                continue;
            string_print(out, ", \"");
            print_byte(out, a);
            print_byte(out, b);
            string_print(out, "\": %d", count++);
            string_print(&merges, merges.length ? ", [\"" : "[\"");
            print_byte(&merges, a);
            string_print(&merges, "\", \"");
            print_byte(&merges, b);
            string_print(&merges, "\"]");
        }
    string_print(out, "}, \"merges\": [%s]}", merges.data);
    string_free(&merges);
    return count;
}

static int open_tokenizer(const char *steps, int tokens, bool compose, struct tokenizer **tokenizer,
                          struct error *error)
{
    struct string text = {0};
    string_print(&text, "{\"model\": {\"type\": \"BPE\", \"vocab\": {");
    const int count = print_model(&text);
    string_print(&text, ", \"decoder\": {\"type\": \"ByteLevel\"}, \"normalizer\": %s, ",
                 compose ? "{\"type\": \"NFC\"}" : "null");
    string_print(&text, "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [%s]}, ", steps);
    string_print(
        &text,
        "\"added_tokens\": [{\"id\": %d, \"content\": \"<end>\", \"special\": true, \"normalized\": false}",
        count);
    for (const char *next = added[tokens], *at; *next; next = at) {
        at = strstr(next, "%d");
        at = at ? at + 2 : next + strlen(next);
        if (at[-1] == 'd' && at[-2] == '%')
            string_print(&text, "%.*s%d", (int)(at - next - 2), next, count + 1 + (int)(next - added[tokens]));
        else
            string_append(&text, next, (size_t)(at - next));
    }
    string_print(&text, "]}");
    const char *folder = test_folder();
    char *path = path_join(folder, "tokenizer.json", error);
    make_file(path, text.data, text.length);
    free(path);
    string_free(&text);
    return tokenizer_open(NULL, folder, tokenizer, error);
}

static bool same_ids(const struct tokenizer *tokenizer, const char *text, size_t size, size_t cut)
{
    struct error error;
    struct token_list whole = {0}, parts = {0};
    bool same = tokenizer_encode(tokenizer, text, size, TOKENIZER_SPECIAL, &whole, &error) == 0 &&
                tokenizer_encode(tokenizer, text, cut, TOKENIZER_SPECIAL, &parts, &error) == 0 &&
                tokenizer_encode(tokenizer, text + cut, size - cut, TOKENIZER_SPECIAL, &parts, &error) == 0 &&
                whole.count == parts.count &&
                memcmp(whole.data, parts.data, whole.count * sizeof *whole.data) == 0;
    free(whole.data);
    free(parts.data);
    return same;
}

/* Every cut of a random text; returns how many there are. */
static int check_cuts(const struct tokenizer *tokenizer, const char *name, struct random *random)
{
    struct string text = {0};
    const size_t few = 2 + random_next(random) % 6; /* of few letters, rare neighbours are frequent */
    int cuts = 0;
    const uint64_t first = random_next(random);
    while (text.length < 60 + MARGIN) {
        const bool any = random_next(random) % 3 == 0;
        const char *letter =
            alphabet[any ? random_next(random) % LETTERS : (first + random_next(random) % few * 7) % LETTERS];
        string_append(&text, letter, strlen(letter));
    }
    size_t from = 0;
    for (size_t size = MARGIN; size <= text.length; size++) {
        const size_t cut = tokenizer_cut(tokenizer, text.data, from, size);
        if (cut == 0)
            continue;
        cuts++;
        from = cut;
        if (cut >= size || !same_ids(tokenizer, text.data, text.length, cut))
            test_fail(__FILE__, __LINE__, "%s: \"%.*s\" may not be cut at %zu", name, (int)text.length,
                      text.data, cut);
    }
    string_free(&text);
    return cuts;
}

TEST(cut_leaves_tokens_as_they_are)
{
    struct random random = {7};
    for (int kind = 0; kind < KINDS; kind++)
        for (int way = 0; way < 6; way++) {
            struct tokenizer *tokenizer;
            struct error error;
            int with = 0;
            REQUIRE_OK(open_tokenizer(kinds[kind].steps, way / 2, way % 2, &tokenizer, &error));
            for (int i = 0; i < 100; i++)
                with += check_cuts(tokenizer, kinds[kind].name, &random) > 0;
            if (with < kinds[kind].least / (way % 2 ? 3 : 1) || (kinds[kind].least == 0 && with > 0))
                test_fail(__FILE__, __LINE__, "%s, %d: %d of 100 texts have a cut", kinds[kind].name, way,
                          with);
            tokenizer_close(tokenizer);
        }
}

/* Plain text has a cut nearby: of prose, code, tables, in lines of every kind, and of scripts without
 * spaces. */
TEST(cut_is_near)
{
    static const char *const texts[] = {
        "Prose has words, and sentences. ",
        "    if (x) {\r\n",
        "1,2;3\n",
        "\xE6\x96\x87\xE5\xAD\x97\xE3\x80\x82",
        "---\n",
        "word\n\n\n",
        "\t\tx\n",
        "0123456789abcdef",
        "{}[]();\r\n",
        "! ? ",
    };
    for (int kind = 0; kinds[kind].least >= 60; kind += kind == 0 ? 2 : 1)
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            struct tokenizer *tokenizer;
            struct error error;
            struct string text = {0};
            if (i == 4 && kind > 0) /* rules of O alone are checked by the others */
                continue;
            REQUIRE_OK(open_tokenizer(kinds[kind].steps, 0, true, &tokenizer, &error));
            while (text.length < 300)
                string_print(&text, "%s", texts[i]);
            const size_t cut = tokenizer_cut(tokenizer, text.data, 0, text.length);
            if (cut < 200)
                test_fail(__FILE__, __LINE__, "%s: \"%s\" is cut at %zu", kinds[kind].name, texts[i], cut);
            CHECK(tokenizer_cut(tokenizer, text.data, cut, text.length) == 0);
            tokenizer_close(tokenizer);
            string_free(&text);
        }
}

/* The demo model's own tokenizer, over a text in many languages, cut every so many bytes. */
TEST(cut_of_the_demo_model)
{
    struct gguf *gguf;
    struct tokenizer *tokenizer;
    struct token_list whole = {0};
    struct error error;
    char *text;
    size_t size;
    if (!test_model()) {
        test_skip("no demo model");
        return;
    }
    REQUIRE_OK(gguf_open(test_model(), &gguf, &error));
    REQUIRE_OK(tokenizer_open(gguf, NULL, &tokenizer, &error));
    REQUIRE_OK(file_read("tests/golden/tokenizer.jsonl", &text, &size, &error));
    REQUIRE_OK(tokenizer_encode(tokenizer, text, size, TOKENIZER_SPECIAL, &whole, &error));
    for (size_t limit = 100; limit < 5000; limit = limit * 3 + 7) {
        struct token_list parts = {0};
        int cuts = 0;
        for (size_t at = 0, most = limit; at < size;) {
            size_t cut = size - at <= most ? size - at : tokenizer_cut(tokenizer, text + at, 0, most);
            if (cut == 0) {
                most *= 2;
                continue;
            }
            REQUIRE_OK(tokenizer_encode(tokenizer, text + at, cut, TOKENIZER_SPECIAL, &parts, &error));
            at += cut;
            most = limit;
            cuts++;
        }
        CHECK((size_t)cuts > size / limit / 2);
        CHECK(whole.count == parts.count &&
              memcmp(whole.data, parts.data, whole.count * sizeof *whole.data) == 0);
        free(parts.data);
    }
    free(whole.data);
    free(text);
    tokenizer_close(tokenizer);
    gguf_close(gguf);
}

TEST(cut_of_what_has_none)
{
    static const char *const texts[] = {"a", "\n", "=", "1", "\u0301", " "};
    struct tokenizer *tokenizer;
    struct error error;
    REQUIRE_OK(open_tokenizer(kinds[5].steps, 0, true, &tokenizer, &error));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct string text = {0};
        while (text.length < 300)
            string_print(&text, "%s", texts[i]);
        CHECK(tokenizer_cut(tokenizer, text.data, 0, text.length) == 0);
        string_free(&text);
    }
    CHECK(tokenizer_cut(tokenizer, "", 0, 0) == 0);
    CHECK(tokenizer_cut(tokenizer, "a b", 0, 3) == 0); /* too short to know what follows */
    tokenizer_close(tokenizer);
}

TEST_MAIN
