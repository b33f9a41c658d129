/* stream.h: the bytes of one file, from its beginning or from a position in it, unpacked if it is compressed.
 *
 * A gzip file may have several members, a Zstandard file several frames. Zeros may follow gzip members. Errors
 * name the file and the byte at which it is damaged or cut short.
 *
 *     stream_open(path, COMPRESSION_ZSTD, size, &stream, error);
 *     stream_skip(stream, offset, error);
 *     while (stream_read(stream, buffer, sizeof buffer, &got, error) == 0 && got > 0) ...
 *     stream_close(stream);
 */
#ifndef OFFRAMP_EXTRACT_STREAM_H
#define OFFRAMP_EXTRACT_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

enum compression { COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_ZSTD };

#define COMPRESSION_BYTES 4 /* of a file's beginning, which are enough to tell */
enum compression compression_of(const unsigned char *bytes, size_t size);

struct stream;

/* path is borrowed. size: of the file; a file whose size has changed since is an error. */
int stream_open(const char *path, enum compression compression, uint64_t size, struct stream **stream,
                struct error *error);
void stream_close(struct stream *stream); /* NULL is fine */

/* Before the first read: goes to byte `offset` of the unpacked content. A compressed file is unpacked up to
 * there. */
int stream_skip(struct stream *stream, uint64_t offset, struct error *error);

/* Fills the buffer; *got is less than `size` only at the end of the file. */
int stream_read(struct stream *stream, void *buffer, size_t size, size_t *got, struct error *error);

/* Bytes of the file that have been used so far. */
uint64_t stream_taken(const struct stream *stream);

#endif
