/* huffman.h: bytes to fewer bytes and back, each by how often it occurs: the entropy stage of lossless and q8.
 *
 * The values have no pattern but their frequencies, so nothing else is looked for. Codes have at most 10 bits, and
 * decoding takes as many whole ones at a time as 10 bits hold: README.md has what that brings over zstd.
 *
 *     u8 length[128]           of the codes of all 256 values, a nibble each, the even value's low; 0: it does not occur
 *     u32 end[4]               where each stream ends, counted from the first one's start
 *     u8 stream[4][]           codes of a quarter of the values each, from the lowest bits up
 *     u8 zero[8]               so that eight bytes can be loaded wherever a code begins
 *
 * Codes are canonical (of one length, in the order of values), with their first bit lowest. Only common/codec
 * includes this.
 */
#ifndef OFFRAMP_CODEC_HUFFMAN_H
#define OFFRAMP_CODEC_HUFFMAN_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

enum { HUFFMAN_BITS = 10, HUFFMAN_SLOTS = 1 << HUFFMAN_BITS };

/* By the next HUFFMAN_BITS bits: up to six values from the lowest byte up, then the bits they take (one byte), then
 * how many there are. */
struct huffman_table {
    uint64_t entry[HUFFMAN_SLOTS];
};

/* The most bytes for so many values. */
size_t huffman_bound(size_t count);

/* values [count >= 1] -> bytes, of which there is room for huffman_bound; returns how many. */
size_t huffman_encode(const unsigned char *values, size_t count, unsigned char *bytes);

/* The bytes are not trusted. `table` is room to work in. */
int huffman_decode(struct huffman_table *table, const unsigned char *bytes, size_t size, unsigned char *values,
                   size_t count, struct error *error);

#endif
