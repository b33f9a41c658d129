#include <stdlib.h>

#include "common/text/pattern.h"
#include "common/text/pretokenize.h"
#include "tests/test.h"

/* Pretokens with a bar between them. */
static int append_pretoken(void *context, const char *pretoken, size_t size, struct error *error)
{
    struct string *joined = context;
    CHECK(size > 0);
    if (joined->length)
        string_append(joined, "|", 1);
    string_append(joined, pretoken, size);
    return string_failed(joined, error) ? -1 : 0;
}

static void check_pretokens(const struct pretokenizer *pretokenizer, const char *text, const char *expected)
{
    struct pretokenizer_work work = {0};
    struct string joined = {0};
    struct error error = {0};
    if (pretokenizer_run(pretokenizer, text, strlen(text), &work, append_pretoken, &joined, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    else if (strcmp(joined.data ? joined.data : "", expected) != 0)
        test_fail(__FILE__, __LINE__, "\"%s\" became %s, not %s", text, joined.data, expected);
    string_free(&joined);
    pretokenizer_work_free(&work);
}

static void check_split(const char *pattern, bool literal, enum split_behavior behavior, bool invert,
                        const char *text, const char *expected)
{
    struct pretokenizer *pretokenizer = NULL;
    struct error error = {0};
    REQUIRE_OK(pretokenizer_create(&pretokenizer, &error));
    if (pretokenizer_add_split(pretokenizer, pattern, strlen(pattern), literal, behavior, invert, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    else
        check_pretokens(pretokenizer, text, expected);
    pretokenizer_destroy(pretokenizer);
}

/* The expected pretokens are what Hugging Face `tokenizers` 0.23.3 gives. */
TEST(pretokenize_behaviors)
{
    static const char text[] = "the-final--countdown-";
    check_split("-", true, SPLIT_ISOLATED, false, text, "the|-|final|-|-|countdown|-");
    check_split("-", true, SPLIT_REMOVED, false, text, "the|final|countdown");
    check_split("-", true, SPLIT_CONTIGUOUS, false, text, "the|-|final|--|countdown|-");
    check_split("-", true, SPLIT_MERGED_WITH_PREVIOUS, false, text, "the-|final-|-|countdown-");
    check_split("-", true, SPLIT_MERGED_WITH_NEXT, false, text, "the|-final|-|-countdown|-");
    check_split("[a-z]+", false, SPLIT_REMOVED, true, text, "the|final|countdown");
    check_split("[a-z]+", false, SPLIT_MERGED_WITH_NEXT, true, text, "the|-final|--countdown|-");
    check_split("-", true, SPLIT_ISOLATED, false, "", "");
    check_split("-", true, SPLIT_REMOVED, false, "---", "");
}

TEST(pretokenize_empty_matches)
{
    check_split("(?=[A-Z])", false, SPLIT_ISOLATED, false, "camelCaseWord", "camel|Case|Word");
    check_split("x*", false, SPLIT_ISOLATED, false, "axxb", "a|xx|b");
    check_split("x*", false, SPLIT_REMOVED, false, "axx\u00E9b", "a|\u00E9|b");
}

TEST(pretokenize_digits_and_byte_level)
{
    struct error error = {0};
    for (int i = 0; i < 4; i++) {
        struct pretokenizer *pretokenizer = NULL;
        bool individual = i & 1, prefix = i & 2;
        REQUIRE_OK(pretokenizer_create(&pretokenizer, &error));
        REQUIRE_OK(pretokenizer_add_digits(pretokenizer, individual, &error));
        check_pretokens(pretokenizer, "v 12\u0663\u2167x",
                        individual ? "v |1|2|\u0663|\u2167|x" : "v |12\u0663\u2167|x");
        REQUIRE_OK(pretokenizer_add_byte_level(pretokenizer, prefix, true, &error));
        check_pretokens(pretokenizer, "It's  12!",
                        individual ? prefix ? " It|'s|  | 1| 2| !" : "It|'s|  |1|2|!"
                        : prefix   ? " It|'s|  | 12| !"
                                   : "It|'s|  |12|!");
        pretokenizer_destroy(pretokenizer);
    }
}

TEST(pretokenize_by_name)
{
    static const struct {
        const char *name, *text, *pretokens;
        bool compose, ignore_merges, begins;
    } cases[] = {
#define GPT2   "I'LL don't  12345\n\n x", "I|'|LL| don|'t| | 12345|\n\n| x"
#define DIGITS "I'LL don't  12345\n\n x", "I|'|LL| don|'t|  |1|2|3|4|5|\n\n| x"
#define LLAMA3 "I'LL don't  12345\n\n x", "I|'LL| don|'t| | |123|45|\n\n| x"
#define QWEN2  "I'LL don't  12345\n\n x", "I|'LL| don|'t| | |1|2|3|4|5|\n\n| x"
        {"gpt-2", GPT2, false, false, false},
        {"phi-2", GPT2, false, false, false},
        {"olmo", GPT2, false, false, false},
        {"mellum", GPT2, false, false, false},
        {"smollm", DIGITS, false, false, false},
        {"starcoder", DIGITS, false, false, false},
        {"command-r", DIGITS, false, false, false},
        {"minerva-7b", DIGITS, false, false, false},
        {"llama-bpe", LLAMA3, false, true, true},
        {"llama3", LLAMA3, false, true, true},
        {"llama-v3", LLAMA3, false, true, true},
        {"falcon3", LLAMA3, false, true, true},
        {"pixtral", LLAMA3, false, true, true},
        {"smaug-bpe", LLAMA3, false, false, false},
        {"dbrx", LLAMA3, false, false, false},
        {"qwen2", QWEN2, true, false, false},
        {"deepseek-r1-qwen", QWEN2, true, false, false},
        {"megrez", QWEN2, false, false, false},
        {"hunyuan", QWEN2, false, false, false},
        {"stablelm2", QWEN2, false, false, false},
        {"tekken", "camelCase (HTMLText) /x", "camel|Case| (|HTMLText|)| /|x", false, true, true},
#undef GPT2
#undef DIGITS
#undef LLAMA3
#undef QWEN2
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pretokenizer *pretokenizer = NULL;
        struct pretokenizer_traits traits = {0};
        struct error error = {0};
        REQUIRE_OK(pretokenizer_by_name(cases[i].name, strlen(cases[i].name), &pretokenizer, &traits, &error));
        check_pretokens(pretokenizer, cases[i].text, cases[i].pretokens);
        CHECK(traits.compose == cases[i].compose && traits.ignore_merges == cases[i].ignore_merges &&
              traits.begins == cases[i].begins);
        pretokenizer_destroy(pretokenizer);
    }
    struct pretokenizer *pretokenizer;
    struct pretokenizer_traits traits;
    struct error error = {0};
    CHECK(pretokenizer_by_name("default", 7, &pretokenizer, &traits, &error) == -1);
    CHECK_TEXT(error.text, "pre-tokenizer \"default\" is not known (those that split as gpt-2, smollm,");
    CHECK(pretokenizer_by_name("llama", 5, &pretokenizer, &traits, &error) == -1); /* whole names alone */
    CHECK(pretokenizer_by_name("", 0, &pretokenizer, &traits, &error) == -1);
}

/* Oniguruma's sense of classes, where PCRE2's is another or depends on its version. */
TEST(pattern_classes)
{
    check_split("\\s+", false, SPLIT_ISOLATED, false,
                "a\u180Eb\u2028c\xC2\x85"
                "d",
                "a\u180Eb|\u2028|c|\xC2\x85|"
                "d");
    check_split("\\S+", false, SPLIT_REMOVED, false, "a\u180E b", " ");
    check_split("[^\\s]+", false, SPLIT_REMOVED, false, "a\u180E b", " ");
    check_split("\\p{L}+", false, SPLIT_ISOLATED, false, "!a\U000105C0\U00031350!",
                "!|a\U000105C0\U00031350|!");
    check_split("\\P{L}+", false, SPLIT_ISOLATED, false, "!a\u1C89\u00E9!", "!|a\u1C89\u00E9|!");
    check_split("[\\p{Lu}\\p{N}]+", false, SPLIT_ISOLATED, false, "aA\uA7CB\U0001CCF0\u1C8Ab",
                "a|A\uA7CB\U0001CCF0|\u1C8Ab");
    check_split("[^\\p{L}\\p{N}]+", false, SPLIT_ISOLATED, false, "\u1C89 \U0001CCF0", "\u1C89| |\U0001CCF0");
    check_split("a$", false, SPLIT_ISOLATED, false, "aa\naa", "a|a|\na|a");
    check_split("[\\]\\-\\\\]", false, SPLIT_ISOLATED, false, "a]b-c\\d^", "a|]|b|-|c|\\|d^");
    check_split("(?i:ab){2,}|\\x{3042}", false, SPLIT_ISOLATED, false, "abABx\u3042", "abAB|x|\u3042");
}

TEST(pattern_refuses_what_differs_or_is_wrong)
{
    static const char *const cases[][2] = {
        {"\\w+", "\"\\w\" in the pattern is not supported"},
        {"\\d", "\"\\d\""},
        {"a\\b", "\"\\b\""},
        {"\\h", "\"\\h\""},
        {"\\Qa\\E", "\"\\Q\""},
        {"[\\S]", "\"\\S\""},
        {"[a\\P{L}]", "\"\\P\""},
        {"\\p{Han}", "\"\\p{Han}\" in the pattern is not supported"},
        {"\\p{^L}", "\"\\p{^L}\""},
        {"\\pL", "\\p without {name}"},
        {"\\p{L", "\\p without {name}"},
        {"\\p", "\\p without {name}"},
        {"[a-z&&b]", "\"&\" inside a set"},
        {"[[:alpha:]]", "\"[\" inside a set"},
        {"[]a]", "\"]\" inside a set"},
        {"[ab", "a set of the pattern is not closed"},
        {"[ab\\", "a set of the pattern is not closed"},
        {"(?m)a", "\"(?m)\" in the pattern is not supported"},
        {"(?<name>a)", "\"(?<n\""},
        {"(*ACCEPT)", "\"(*AC\""},
        {"(?", "\"(?\""},
        {"a{,3}", "\"{,3}\""},
        {"a{2}+", "\"{2}"},
        {"a{", "\"{\""},
        {"a\\", "ends with a backslash"},
        {"\\x{41", "\\x{ in the pattern is not closed"},
        {"\\x41", "\"\\x\""},
        {"(a", "missing closing parenthesis"},
        {"*a", "quantifier does not follow"},
        {"\\x{110000}", "too large"},
        {"", "a pattern of 0 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        pcre2_code *code;
        CHECK(pattern_compile(cases[i][0], strlen(cases[i][0]), &code, &error) == -1);
        CHECK(code == NULL);
        CHECK_TEXT(error.text, cases[i][1]);
    }
    char *deep = malloc(1 << 17);
    pcre2_code *code;
    struct error error = {0};
    memset(deep, '(', 1 << 17);
    CHECK(pattern_compile(deep, 1 << 17, &code, &error) == -1);
    CHECK_TEXT(error.text, "131072 bytes");
    CHECK(pattern_compile(deep, 1 << 15, &code, &error) == -1);
    CHECK_TEXT(error.text, "nested");
    free(deep);
}

TEST(pretokenize_stops_where_a_pattern_runs_away)
{
    struct pretokenizer *pretokenizer = NULL;
    struct pretokenizer_work work = {0};
    struct string joined = {0};
    struct error error = {0};
    REQUIRE_OK(pretokenizer_create(&pretokenizer, &error));
    REQUIRE_OK(pretokenizer_add_split(pretokenizer, "(a+)+[bc]", 9, false, SPLIT_ISOLATED, false, &error));
    const char *text = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!";
    CHECK(pretokenizer_run(pretokenizer, text, strlen(text), &work, append_pretoken, &joined, &error) == -1);
    CHECK_TEXT(error.text, "the pre-tokenizer's pattern failed at byte 0 of 65: match limit exceeded");
    for (int i = 1; i < 16; i++)
        REQUIRE_OK(pretokenizer_add_digits(pretokenizer, true, &error));
    CHECK(pretokenizer_add_digits(pretokenizer, true, &error) == -1);
    CHECK_TEXT(error.text, "more than 16 stages");
    string_free(&joined);
    pretokenizer_work_free(&work);
    pretokenizer_destroy(pretokenizer);
}

/* A group repeated so often that the machine code runs out of stack: the interpreter takes over. */
TEST(pretokenize_long_repetition)
{
    enum { SIZE = 200000 };
    struct pretokenizer *pretokenizer = NULL;
    struct pretokenizer_work work = {0};
    struct string joined = {0};
    struct error error = {0};
    char *text = malloc(SIZE);
    memset(text, 'a', SIZE);
    REQUIRE_OK(pretokenizer_create(&pretokenizer, &error));
    REQUIRE_OK(pretokenizer_add_split(pretokenizer, "(?:a|b)+", 8, false, SPLIT_ISOLATED, false, &error));
    REQUIRE_OK(pretokenizer_run(pretokenizer, text, SIZE, &work, append_pretoken, &joined, &error));
    CHECK(joined.length == SIZE);
    string_free(&joined);
    pretokenizer_work_free(&work);
    pretokenizer_destroy(pretokenizer);
    free(text);
}

TEST_MAIN
