/* added.h: finds added tokens ("<|im_start|>") in a text, before anything else is done with it.
 *
 * Of tokens that begin at the same byte the longest counts, and of two that overlap the one that begins first.
 * This is Hugging Face's rule (leftmost longest).
 *
 *     added_put(&added, "<|im_end|>", 10, 2, ADDED_SPECIAL, error);
 *     added_sort(&added, error);
 *     size_t search = 0;
 *     while (added_find(&added, text, size, false, &search, &match))
 *         ...     // text between the last match and match.begin, then match.id
 */
#ifndef OFFRAMP_TEXT_ADDED_H
#define OFFRAMP_TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

enum added_flags {
    ADDED_SPECIAL = 1, /* passed over where the caller wants special tokens to be ordinary text */
    ADDED_STRIP_LEFT = 2, /* takes the white space before it */
    ADDED_STRIP_RIGHT = 4 /* takes the white space behind it */
};

struct added {
    struct added_token {
        char *content; /* owned */
        size_t size;
        int32_t id;
        int flags;
    } * tokens; /* ordered by content once sorted */
    size_t count, capacity;
    size_t longest; /* bytes of the longest content */
    bool begins[256]; /* some token begins with this byte */
};

struct added_match {
    size_t begin, end; /* white space it took included */
    int32_t id;
};

void added_free(struct added *added); /* a zeroed one is fine */

/* Copies the content: valid UTF-8, not empty, not yet there. */
int added_put(struct added *added, const char *content, size_t size, int32_t id, int flags,
              struct error *error);

/* Once, when all are put in and before the first search. An error names a token that is there twice. */
int added_sort(struct added *added, struct error *error);

/* Whether the text begins with a token; *token gets the longest such one, whose content stays the list's. */
bool added_at(const struct added *added, const char *text, size_t size, struct added_token *token);

/* The next match from *search on. *search is 0 at first, and is moved behind the token. False when there are no
 * more. A match can begin before the end of the last one, where both tokens take the white space between
 * them. */
bool added_find(const struct added *added, const char *text, size_t size, bool skip_special, size_t *search,
                struct added_match *match);

#endif
