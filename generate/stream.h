/* stream.h: writes text to a file as it comes, in whole characters. Where tokens split a character, its first
 * bytes are held back until it is complete. Bytes that are not UTF-8 are written as they are.
 *
 *     struct stream stream = {.file = stdout};
 *     stream_write(&stream, bytes, size, error);       // of each token
 *     stream_finish(&stream, error);
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

/* Writes the bytes and flushes the file. An error: the file takes no more. */
int stream_write(struct stream *stream, const char *bytes, size_t size, struct error *error);
/* Writes what is held back, because the text ends here. */
int stream_finish(struct stream *stream, struct error *error);

#endif
