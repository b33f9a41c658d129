#include "common/base/json_repair.h"

#include <jansson.h>
#include <string.h>

#include "common/base/string.h"

struct repair {
    const char *text, *end;
    const char *kept; /* what lies before is in `out`; out is empty while nothing had to change */
    bool keep_nul;
    struct string out;
};

/* Replaces begin .. end. */
static void replace(struct repair *repair, const char *begin, const char *end, const char *with)
{
    string_append(&repair->out, repair->kept, (size_t)(begin - repair->kept));
    string_append(&repair->out, with, strlen(with));
    repair->kept = end;
}

/* ---- strings ---- */

/* The quote that ends the string, from behind the one that begins it; `end` when none does. *plain: it holds no
 * backslash. */
static const char *find_quote(const struct repair *repair, const char *at, bool *plain)
{
    *plain = true;
    for (; at < repair->end && *at != '"'; at++) {
        if (*at == '\\') {
            *plain = false;
            if (++at == repair->end)
                break;
        }
    }
    return at;
}

/* The number of \uXXXX at `at`; -1 when there is none before `end`. */
static int read_escape(const char *at, const char *end)
{
    int value = 0;
    if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
        return -1;
    for (int i = 2; i < 6; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *digit = at[i] ? strchr(digits, at[i] >= 'A' && at[i] <= 'F' ? at[i] | 0x20 : at[i]) : NULL;
        if (!digit)
            return -1;
        value = value << 4 | (int)(digit - digits);
    }
    return value;
}

static bool is_key(const struct repair *repair, const char *quote)
{
    const char *at = quote + 1;
    while (at < repair->end && strchr(" \t\r\n", *at) && *at)
        at++;
    return at < repair->end && *at == ':';
}

/* The string between begin and its end quote. */
static void repair_string(struct repair *repair, const char *begin, const char *quote)
{
    const bool keep_nul = repair->keep_nul && !is_key(repair, quote);
    const char *at = begin;
    while (at < quote) {
        if (*at != '\\') {
            at++;
            continue;
        }
        const int unit = read_escape(at, quote);
        if (unit < 0) {
            at += 2;
            continue;
        }
        const bool high = unit >= 0xd800 && unit <= 0xdbff, low = unit >= 0xdc00 && unit <= 0xdfff;
        const int next = high ? read_escape(at + 6, quote) : -1;
        if (next >= 0xdc00 && next <= 0xdfff) {
            at += 12;
            continue;
        }
        if (high || low || (unit == 0 && !keep_nul))
            replace(repair, at, at + 6, "\\ufffd");
        at += 6;
    }
}

/* ---- numbers ---- */

static bool is_word(char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           byte == '+' || byte == '-' || byte == '.';
}

static const char *skip_digits(const char *at, const char *end)
{
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at;
}

/* -12.5e+3: of leading zeros jansson speaks itself. */
static bool is_number(const char *at, const char *end)
{
    const char *digits;
    at += at < end && *at == '-';
    at = skip_digits(digits = at, end);
    bool right = at > digits;
    if (right && at < end && *at == '.') {
        at = skip_digits(digits = at + 1, end);
        right = at > digits;
    }
    if (right && at < end && (*at | 0x20) == 'e') {
        at++;
        at += at < end && (*at == '+' || *at == '-');
        at = skip_digits(digits = at, end);
        right = at > digits;
    }
    return right && at == end;
}

/* Nobody takes a list of an empty list for a number, a string, an object, or for something left out, as null
 * and an empty list are. */
static const char no_value[] = "[[]]";

/* Whether jansson finds a number past its range there. */
static bool overflows(const char *begin, size_t size, size_t flags)
{
    json_error_t position;
    json_t *value = json_loadb(begin, size, JSON_DECODE_ANY | flags, &position);
    json_decref(value);
    return !value && json_error_code(&position) == json_error_numeric_overflow;
}

/* A stretch of letters, digits and signs outside of strings. */
static void repair_word(struct repair *repair, const char *begin, const char *end)
{
    const size_t size = (size_t)(end - begin), sign = *begin == '-';
    if ((size == 3 && memcmp(begin, "NaN", 3) == 0) ||
        (size == 8 + sign && memcmp(begin + sign, "Infinity", 8) == 0)) {
        replace(repair, begin, end, no_value);
        return;
    }
    /* Up to 18 digits fit in 64 bits, and a real of that length without an exponent in a double. */
    if ((size <= 18 && !memchr(begin, 'e', size) && !memchr(begin, 'E', size)) || !is_number(begin, end) ||
        !overflows(begin, size, 0))
        return;
    if (overflows(begin, size, JSON_DECODE_INT_AS_REAL))
        replace(repair, begin, end, no_value);
    else
        replace(repair, end, end, "e0");
}

/* ---- the whole ---- */

static void repair_values(struct repair *repair, const char *at)
{
    while (at < repair->end) {
        if (*at == '"') {
            bool plain;
            const char *close = find_quote(repair, at + 1, &plain);
            if (close == repair->end)
                return;
            if (!plain)
                repair_string(repair, at + 1, close);
            at = close + 1;
        } else if (is_word(*at)) {
            const char *begin = at;
            while (at < repair->end && is_word(*at))
                at++;
            repair_word(repair, begin, at);
        } else {
            at++;
        }
    }
}

int json_repair(const char **text, size_t *size, bool keep_nul, char **copy)
{
    static const char mark[] = "\xef\xbb\xbf";
    *copy = NULL;
    if (*size >= 3 && memcmp(*text, mark, 3) == 0) {
        *text += 3;
        *size -= 3;
    }
    struct repair repair = {.text = *text, .end = *text + *size, .kept = *text, .keep_nul = keep_nul};
    repair_values(&repair, *text);
    if (repair.kept == repair.text)
        return 0;
    replace(&repair, repair.end, repair.end, "");
    if (repair.out.failed) {
        string_free(&repair.out);
        return -1;
    }
    *text = *copy = repair.out.data;
    *size = repair.out.length;
    return 0;
}
