/* pattern.h: compiles the regular expressions of tokenizers, which are written for Oniguruma, with PCRE2.
 *
 * Most of what they use means the same to both. What does not is rewritten or refused:
 * - \s is the White_Space property. PCRE2's also has U+180E, the Mongolian vowel separator.
 * - \p{L} and its like follow Unicode 16, as Hugging Face's Oniguruma 6.9.10 does; the PCRE2 of Debian 12
 *   follows Unicode 14. The code points in between are written out, so that a text has the same tokens
 *   with any PCRE2.
 * - ^ and $ are at every line (Oniguruma's Ruby manner).
 * - \w, \d, \h, \b, scripts, sets in sets, POSIX brackets, inline options and what else has another meaning, or
 *   that no known tokenizer uses, is an error that names it.
 */
#ifndef OFFRAMP_TEXT_PATTERN_H
#define OFFRAMP_TEXT_PATTERN_H

#include <stddef.h>

#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

#include "common/base/error.h"

/* For valid UTF-8 subjects. Compiled to machine code where PCRE2 can; free with pcre2_code_free. The
 * error quotes the pattern. */
int pattern_compile(const char *pattern, size_t size, pcre2_code **code, struct error *error);

/* As pattern_compile, of a text that stands for itself. */
int pattern_compile_literal(const char *text, size_t size, pcre2_code **code, struct error *error);

/* Rust's char::is_numeric, which follows Unicode 17: the pattern for one such character. */
extern const char *const pattern_numeric;

#endif
