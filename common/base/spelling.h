/* spelling.h: what somebody may have meant by a word that is not known. */
#ifndef OFFRAMP_BASE_SPELLING_H
#define OFFRAMP_BASE_SPELLING_H

#include <stddef.h>

/* The index of the one of words [count] that `text` is most likely meant to be: few letters are wrong, too many,
 * missing or swapped, or one of the two is a part of the other. -1: none is near. NULL words are passed over. */
int spelling_nearest(const char *text, const char *const *words, int count);

#endif
