/* unicode.h: UTF-8 in and out, and normalization form C.
 *
 *     char *copy = NULL;
 *     if (utf8_repair(&text, &size, &copy, error) < 0) ...   // text now points at valid UTF-8
 *     free(copy);
 */
#ifndef OFFRAMP_TEXT_UNICODE_H
#define OFFRAMP_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

#define UTF8_LONGEST 4 /* bytes of a character */

/* The code point at `text` (size >= 1); *length gets its bytes. Where the bytes are not UTF-8 the result is -1,
 * and *length is how many bytes one U+FFFD replaces: the longest beginning of a well-formed sequence, at least
 * one byte (the Unicode standard's section 3.9, "maximal subpart"; Rust's from_utf8_lossy and Python's
 * errors="replace" do the same). Overlong forms, surrogates and numbers above U+10FFFF are not UTF-8. */
int32_t utf8_decode(const char *text, size_t size, size_t *length);

/* Writes a code point's 1 to 4 bytes; returns how many. */
size_t utf8_encode(int32_t code_point, char bytes[4]);

/* The bytes before the first that is not UTF-8; `size` where all are. */
size_t utf8_valid_size(const char *text, size_t size);
bool utf8_is_valid(const char *text, size_t size);

/* Valid text is left alone and *copy set to NULL. Otherwise *text and *size become a copy, owned by
 * the caller through *copy, with U+FFFD for each thing that utf8_decode refuses. */
int utf8_repair(const char **text, size_t *size, char **copy, struct error *error);

/* The White_Space property: what \s means in Oniguruma and in Rust. */
bool unicode_is_space(int32_t code_point);

/* Normalization form C of valid UTF-8. *copy is as in utf8_repair, and NULL where nothing can change. It
 * follows Hugging Face, whose tables are those of Unicode 9: combining marks that Unicode got later are not put
 * in order. */
int unicode_compose(const char **text, size_t *size, char **copy, struct error *error);

/* Whether unicode_compose never changes a character, moves it, or joins it to one before it. A text can be
 * composed part by part when it is cut between two such characters. For some of them this says false. */
bool unicode_is_inert(int32_t code_point);

#endif
