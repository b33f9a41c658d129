/* stream.h: text to a file as it comes, in whole characters: the bytes of one that tokens split are held
 * back until it is complete. Bytes that are no UTF-8 pass as they are.
 */
#ifndef OFFRAMP_GENERATE_STREAM_H
#define OFFRAMP_GENERATE_STREAM_H

#include <stddef.h>
#include <stdio.h>

#include "common/base/error.h"

struct stream {
    FILE *file;
    char held[4]; /* the beginning of a character */
    size_t count;
};

/* Bytes at the end of a text that begin a character without completing it: 0 .. 3. */
size_t utf8_incomplete(const char *bytes, size_t size);

/* Writes and flushes; -1 when the file takes no more. */
int stream_write(struct stream *stream, const char *bytes, size_t size, struct error *error);
/* Writes what is held: the text ends here. */
int stream_finish(struct stream *stream, struct error *error);

#endif
