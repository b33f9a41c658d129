/* pack.h: bytes to fewer bytes and back, each by how often it occurs: the entropy stage of lossless and q8.
 *
 * It is libzstd's, told to look for no repeats, which these bytes do not have: all that is left is Huffman coding. The
 * packed bytes are one zstd frame without size and checksum, for a record knows both; any zstd reads them, but which
 * bytes they are depends on zstd's version, which is part of a store's numerics (codecs_numerics). README.md has what
 * was measured. Only common/codec includes this.
 */
#ifndef OFFRAMP_CODEC_PACK_H
#define OFFRAMP_CODEC_PACK_H

#include "common/codec/worker.h"

/* The most bytes for so many values. */
size_t pack_bound(size_t count);

/* values [count >= 1] -> *size <= capacity bytes; capacity is at least pack_bound. */
int pack(struct codec_worker *worker, const unsigned char *values, size_t count, unsigned char *bytes,
         size_t capacity, size_t *size, struct error *error);

/* The bytes are not trusted; they must give `count` values. */
int unpack(struct codec_worker *worker, const unsigned char *bytes, size_t size, unsigned char *values,
           size_t count, struct error *error);

#endif
