#include "common/text/pattern.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/base/string.h"

/* General categories and what Unicode 15.0 to 16.0 added to each: code points or ranges, hexadecimal (UCD,
 * DerivedGeneralCategory.txt). */
static const struct category {
    const char *name, *added;
} categories[] = {
    {"L", ""}, /* all of the next five */
    {"Lu", "1C89 A7CB-A7CC A7DA A7DC 10D50-10D65"},
    {"Ll", "1C8A A7CD A7DB 10D70-10D85 1DF25-1DF2A"},
    {"Lt", ""},
    {"Lm", "10D4E 10D6F 16D40-16D42 16D6B-16D6C 1E030-1E06D 1E4EB"},
    {"Lo", "105C0-105F3 10D4A-10D4D 10D4F 10EC2-10EC4 1123F-11240 11380-11389 1138B 1138E "
           "11390-113B5 113B7 113D1 113D3 11BC0-11BE0 11F02 11F04-11F10 11F12-11F33 1342F "
           "13441-13446 13460-143FA 16100-1611D 16D43-16D6A 18CFF 1B132 1B155 1E4D0-1E4EA "
           "1E5D0-1E5ED 1E5F0 2B739 2EBF0-2EE5D 31350-323AF"},
    {"M", "897 CF3 ECE 10D69-10D6D 10EFC-10EFF 11241 113B8-113C0 113C2 113C5 113C7-113CA "
          "113CC-113D0 113D2 113E1-113E2 11F00-11F01 11F03 11F34-11F3A 11F3E-11F42 11F5A 13440 "
          "13447-13455 1611E-1612F 1E08F 1E4EC-1E4EF 1E5EE-1E5EF"},
    {"N", "10D40-10D49 116D0-116E3 11BF0-11BF9 11F50-11F59 16130-16139 16D70-16D79 1CCF0-1CCF9 "
          "1D2C0-1D2D3 1E4F0-1E4F9 1E5F1-1E5FA"},
    {"P", "1B4E-1B4F 1B7F 10D6E 113D4-113D5 113D7-113D8 11B00-11B09 11BE1 11F43-11F4F 16D6D-16D6F "
          "1E5FF"},
    {"S", "2427-2429 2FFC-2FFF 31E4-31E5 31EF 10D8E-10D8F 1CC00-1CCEF 1CD00-1CEB3 1F6DC "
          "1F774-1F776 1F77B-1F77F 1F7D9 1F8B2-1F8BB 1F8C0-1F8C1 1FA75-1FA77 1FA87-1FA89 1FA8F "
          "1FAAD-1FAAF 1FABB-1FABF 1FAC6 1FACE-1FACF 1FADA-1FADC 1FADF 1FAE8-1FAE9 1FAF7-1FAF8 "
          "1FBCB-1FBEF"},
    {"Z", ""},
};

static const char white_space[] =
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"
    "\\x{205F}\\x{3000}";

/* Unicode 17 added two more runs of digits. */
const char *const pattern_numeric = "[\\p{N}\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}]";

enum { PATTERN_LIMIT = 1 << 16 }; /* bytes of a pattern; the longest known has some 2,000 */

/* A pattern on its way from Oniguruma's syntax to PCRE2's. */
struct translation {
    const char *at, *end;
    struct string out;
};

static int refuse(const struct translation *translation, const char *what, size_t size, struct error *error)
{
    size_t left = (size_t)(translation->end - what);
    return error_set(error, "\"%.*s\" in the pattern is not supported", (int)(size < left ? size : left), what);
}

/* "1C89-1C8A A7CB" as \x{1C89}-\x{1C8A}\x{A7CB}. */
static void append_ranges(struct string *out, const char *ranges)
{
    while (*ranges) {
        size_t digits = strspn(ranges, "0123456789ABCDEF");
        string_print(out, "\\x{%.*s}", (int)digits, ranges);
        ranges += digits;
        if (*ranges == '-')
            string_append(out, "-", 1);
        ranges += *ranges != 0;
    }
}

/* After \p: {L} or {Lu}; writes what goes between brackets. */
static int translate_property(struct translation *translation, struct error *error)
{
    const char *begin = translation->at;
    const char *close = memchr(begin, '}', (size_t)(translation->end - begin));
    if (*begin != '{' || !close)
        return error_set(error, "\\p without {name} in the pattern is not supported");
    size_t size = (size_t)(close - begin - 1);
    bool found = false;
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++) {
        const char *name = categories[i].name;
        bool same = size == strlen(name) && memcmp(name, begin + 1, size) == 0;
        bool all_letters = size == 1 && begin[1] == 'L' && name[0] == 'L';
        if (same)
            string_print(&translation->out, "\\p{%s}", name);
        if (same || all_letters)
            append_ranges(&translation->out, categories[i].added);
        found |= same;
    }
    if (!found)
        return refuse(translation, begin - 2, size + 4, error);
    translation->at = close + 1;
    return 0;
}

/* A class escape (\s, \p{..}) as members of a set; 1 when the escape is another one. */
static int translate_members(struct translation *translation, struct error *error)
{
    char kind = translation->at[1];
    if (kind != 's' && kind != 'p')
        return 1;
    translation->at += 2;
    if (kind == 'p')
        return translate_property(translation, error);
    string_append(&translation->out, white_space, sizeof white_space - 1);
    return 0;
}

/* An escape that stands for one character: \r \n \t \f \x{..} and marks such as \. or \-. */
static int translate_character(struct translation *translation, struct error *error)
{
    const char *at = translation->at;
    size_t size = 2;
    if (at[1] == 'x' && at + 2 < translation->end && at[2] == '{') {
        const char *close = memchr(at, '}', (size_t)(translation->end - at));
        if (!close)
            return error_set(error, "\\x{ in the pattern is not closed");
        size = (size_t)(close - at) + 1;
    } else if (!strchr("rntf!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ", at[1]) || !at[1]) {
        return refuse(translation, at, 2, error);
    }
    string_append(&translation->out, at, size);
    translation->at += size;
    return 0;
}

/* A set, from its bracket to the closing one. */
static int translate_set(struct translation *translation, struct error *error)
{
    const char *begin = translation->at++;
    if (translation->at < translation->end && *translation->at == '^')
        translation->at++;
    string_append(&translation->out, begin, (size_t)(translation->at - begin));
    for (bool first = true; translation->at < translation->end; first = false) {
        const char *at = translation->at;
        size_t left = (size_t)(translation->end - at);
        if (*at == ']' && !first) {
            string_append(&translation->out, at, 1);
            translation->at++;
            return 0;
        }
        if (*at == ']' || *at == '[' || (left > 1 && memcmp(at, "&&", 2) == 0))
            return error_set(error, "\"%c\" inside a set of the pattern is not supported", *at);
        if (*at == '\\' && left > 1) {
            int result = translate_members(translation, error);
            if (result > 0)
                result = translate_character(translation, error);
            if (result < 0)
                return -1;
        } else {
            string_append(&translation->out, at, 1);
            translation->at++;
        }
    }
    return error_set(error, "a set of the pattern is not closed");
}

/* \S and \P{..} and the class escapes outside of sets. */
static int translate_escape(struct translation *translation, struct error *error)
{
    struct string *out = &translation->out;
    if (translation->at + 1 == translation->end)
        return error_set(error, "the pattern ends with a backslash");
    char kind = translation->at[1];
    if (kind != 's' && kind != 'S' && kind != 'p' && kind != 'P')
        return translate_character(translation, error);
    bool negated = kind == 'S' || kind == 'P';
    string_print(out, negated ? "[^" : "[");
    translation->at += 2;
    if (kind == 's' || kind == 'S')
        string_append(out, white_space, sizeof white_space - 1);
    else if (translate_property(translation, error) < 0)
        return -1;
    string_append(out, "]", 1);
    return 0;
}

/* "(" with what kind of group it opens. */
static int translate_group(struct translation *translation, struct error *error)
{
    static const char *const kinds[] = {"?:", "?=", "?!", "?<=", "?<!", "?>", "?i:"};
    const char *at = translation->at;
    size_t left = (size_t)(translation->end - at), size = 1;
    if (left > 1 && (at[1] == '?' || at[1] == '*')) {
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (left > strlen(kinds[i]) && memcmp(at + 1, kinds[i], strlen(kinds[i])) == 0)
                size = strlen(kinds[i]) + 1;
        if (size == 1)
            return refuse(translation, at, 4, error);
    }
    string_append(&translation->out, at, size);
    translation->at += size;
    return 0;
}

/* {n}, {n,} or {n,m}. Behind it, + makes it possessive in PCRE2 and repeats it in Oniguruma. */
static int translate_interval(struct translation *translation, struct error *error)
{
    const char *at = translation->at;
    size_t left = (size_t)(translation->end - at), size = 1;
    while (size < left && (strchr("0123456789,", at[size]) && at[size]))
        size++;
    if (size == 1 || at[1] == ',' || size == left || at[size] != '}' ||
        (size + 1 < left && at[size + 1] == '+'))
        return refuse(translation, at, size + 2, error);
    string_append(&translation->out, at, size + 1);
    translation->at += size + 1;
    return 0;
}

static int translate(struct translation *translation, struct error *error)
{
    while (translation->at < translation->end) {
        int result = 0;
        switch (*translation->at) {
        case '\\': result = translate_escape(translation, error); break;
        case '[': result = translate_set(translation, error); break;
        case '(': result = translate_group(translation, error); break;
        case '{': result = translate_interval(translation, error); break;
        default: string_append(&translation->out, translation->at++, 1);
        }
        if (result < 0)
            return -1;
    }
    return string_failed(&translation->out, error) ? -1 : 0;
}

static int compile(const char *pattern, size_t size, uint32_t options, pcre2_code **code, struct error *error)
{
    int number;
    PCRE2_SIZE offset;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory for a pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    *code = pcre2_compile((PCRE2_SPTR)pattern, size, options | PCRE2_UTF, &number, &offset, context);
    pcre2_compile_context_free(context);
    if (!*code) {
        char message[200] = "";
        pcre2_get_error_message(number, (PCRE2_UCHAR *)message, sizeof message);
        return error_set(error, "%s", message);
    }
    /* Where there is no machine code (a processor PCRE2 does not know, memory that may not be executable)
     * pcre2_match interprets the pattern. */
    pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE);
    return 0;
}

int pattern_compile(const char *pattern, size_t size, pcre2_code **code, struct error *error)
{
    struct translation translation = {.at = pattern, .end = pattern + size};
    int result = -1;
    *code = NULL;
    if (size == 0 || size > PATTERN_LIMIT)
        return error_set(error, "a pattern of %zu bytes; 1 .. %d are possible", size, PATTERN_LIMIT);
    if (translate(&translation, error) == 0)
        result =
            compile(translation.out.data, translation.out.length, PCRE2_UCP | PCRE2_MULTILINE, code, error);
    string_free(&translation.out);
    if (result < 0)
        error_prefix(error, "pattern \"%.*s\"", (int)(size < 200 ? size : 200), pattern);
    return result;
}

int pattern_compile_literal(const char *text, size_t size, pcre2_code **code, struct error *error)
{
    *code = NULL;
    if (size == 0 || size > PATTERN_LIMIT)
        return error_set(error, "a text of %zu bytes to split at; 1 .. %d are possible", size, PATTERN_LIMIT);
    return compile(text, size, PCRE2_LITERAL, code, error);
}
