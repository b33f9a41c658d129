/* pack.h: turns bytes into fewer bytes and back, by how often each value occurs: the entropy stage of lossless
 * and q8.
 *
 * libzstd does it. It is told not to look for repeats, which these bytes do not have, so that Huffman coding is
 * all that is left. The packed bytes are one zstd frame, without size and checksum, since a record has both.
 * Any zstd can read them. But which bytes they are depends on the version of zstd, which is therefore part of a
 * store's numerics (codecs_numerics). README.md says what was measured. Only common/codec includes this.
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
