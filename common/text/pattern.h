/* pattern.h: compiles with PCRE2 the regular expressions of tokenizers, which are written for Oniguruma.
 *
 * Most of what they use means the same to both. The rest is rewritten or refused:
 * - \s is the White_Space property. PCRE2's also has U+180E, the Mongolian vowel separator.
 * - \p{L} and its like follow Unicode 16, as Hugging Face's Oniguruma 6.9.10 does; the PCRE2 of Debian 12
 *   follows Unicode 14. The code points in between are written out, so that a text has the same tokens
 *   with any PCRE2.
 * - ^ and $ match at every line (Oniguruma's Ruby syntax).
 * - \w, \d, \h, \b, scripts, sets in sets, POSIX brackets, inline options, and whatever else has another meaning or is not used by
 *   any known tokenizer, is an error that names it.
 */
#ifndef OFFRAMP_TEXT_PATTERN_H
#define OFFRAMP_TEXT_PATTERN_H

#include <stddef.h>

#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

#include "common/base/error.h"

/* Texts must be valid UTF-8. The pattern becomes machine code where PCRE2 can do that. Free it with
 * pcre2_code_free. The error quotes the pattern. */
int pattern_compile(const char *pattern, size_t size, pcre2_code **code, struct error *error);

/* The same for a text that is taken literally. */
int pattern_compile_literal(const char *text, size_t size, pcre2_code **code, struct error *error);

/* Rust's char::is_numeric, which follows Unicode 17: the pattern for one such character. */
extern const char *const pattern_numeric;

#endif
