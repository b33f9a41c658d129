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

/* The code point at `text` (size >= 1) and the bytes it takes in *length. Where the bytes are no
 * UTF-8 the result is -1 and *length what one U+FFFD stands for: the longest beginning of a
 * well-formed sequence, at least one byte (the Unicode standard's section 3.9, "maximal subpart";
 * so do Rust's from_utf8_lossy and Python's errors="replace"). Overlong forms, surrogates and
 * what lies above U+10FFFF are no UTF-8. */
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

/* Normalization form C of valid UTF-8, in the same manner as utf8_repair: *copy is NULL where nothing can
 * change. As Hugging Face does it, whose tables are those of Unicode 9: to what came later they assign no
 * place among combining marks, so that such characters stay where they are. */
int unicode_compose(const char **text, size_t *size, char **copy, struct error *error);

/* Whether unicode_compose never changes a character, moves it, or joins it to one before it: a text between two
 * of these can be composed part by part. Of some of which that holds it says false. */
bool unicode_is_inert(int32_t code_point);

#endif
