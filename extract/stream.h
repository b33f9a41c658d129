/* stream.h: the bytes of one file from its beginning or a place in it, unpacked where it is compressed.
 *
 * gzip files may have several members, Zstandard files several frames, one behind the other; zeros may follow gzip
 * members. Errors name the file and the byte of it where it is damaged or cut short.
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

#define COMPRESSION_HEAD 4 /* bytes that tell */
enum compression compression_of(const unsigned char *head, size_t size);

struct stream;

/* path is borrowed. size: of the file; one that has another meanwhile is an error. */
int stream_open(const char *path, enum compression compression, uint64_t size, struct stream **stream,
                struct error *error);
void stream_close(struct stream *stream); /* NULL is fine */

/* Before the first read: to byte `offset` of what is unpacked. Of a compressed file all before it is unpacked. */
int stream_skip(struct stream *stream, uint64_t offset, struct error *error);

/* Fills the buffer, or less where the file ends. */
int stream_read(struct stream *stream, void *buffer, size_t size, size_t *got, struct error *error);

/* Bytes of the file that what was read took. */
uint64_t stream_taken(const struct stream *stream);

#endif
