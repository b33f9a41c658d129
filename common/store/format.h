/* format.h: what the values of a store look like inside. Only common/store and common/repair include this.
 *
 * Every value carries an XXH3-64 that covers its key, too: a value under another key is as wrong as a damaged
 * one.
 *
 *     records    struct record_header (record.h)
 *     tokens     struct tokens_header, then ids and document starts
 *     source     struct source_header (source.c), then bytes of a tensor
 *     codec      8 bytes of hash, then a tap's parameters (as meta, under "codec/TAP"). No record of the tap can be read
 *                without them, so there is a copy under "codec/TAP/copy"
 *     meta       8 bytes of hash, then the value
 */
#ifndef OFFRAMP_STORE_FORMAT_H
#define OFFRAMP_STORE_FORMAT_H

#include "common/base/string.h"
#include "common/store/store.h"

/* ---- keys ---- */

#define SEQUENCE_KEY_SIZE 8

/* Big-endian: the split in the top bit, then the index. */
void sequence_key(struct sequence sequence, unsigned char key[SEQUENCE_KEY_SIZE]);
struct sequence sequence_of_key(const unsigned char key[SEQUENCE_KEY_SIZE]);

/* ---- tokens ---- */

#define TOKENS_MAGIC "OFRT"

/* Little-endian, 32 bytes; then i32 ids[rows + 1], i32 starts[count]. */
struct tokens_header {
    char magic[4];
    uint16_t version; /* 1 */
    uint8_t split;
    uint8_t flags; /* 0; later: what else follows, such as a loss mask */
    uint64_t index;
    uint32_t rows, starts;
    uint64_t hash; /* XXH3-64 of the header with this field 0, then what follows */
};

/* Appends the value to *value. ids below vocab; starts ascending in 0 .. rows. */
int tokens_encode(const struct store_info *info, struct sequence sequence, const int32_t *ids,
                  const int32_t *starts, int count, struct string *value, struct error *error);
/* Checks everything. ids [rows + 1], or NULL: only checks. */
int tokens_decode(const struct store_info *info, struct sequence sequence, const void *value, size_t size,
                  int32_t *ids, struct error *error);
/* starts [rows + 1]: the document starts of a value that tokens_decode has checked. *count: how many. */
int tokens_starts(const struct store_info *info, const void *value, int32_t *starts, int *count,
                  struct error *error);

/* ---- source ---- */

#define SOURCE_NAME_SIZE 200

struct source_part {
    char name[SOURCE_NAME_SIZE]; /* of the tensor */
    uint32_t parts; /* of the tensor; 0 when the value is damaged */
};

/* Checks one value of the source database under its key ("NAME#0"). The parts of a tensor lie together. */
int source_verify(const void *key, size_t key_size, const void *value, size_t size, struct source_part *part,
                  struct error *error);

/* ---- meta ---- */

#define KEY_VERSION "version"

/* Appends hash and value to *framed. */
void meta_frame(const char *key, const void *value, size_t size, struct string *framed);
/* *value points into `framed`. */
int meta_unframe(const char *key, const void *framed, size_t framed_size, const void **value, size_t *size,
                 struct error *error);

/* Of a value of KEY_VERSION. Another format than this program's is an error that says what to do. A value that
 * does not match its hash is an error, too, with *damaged set. */
int version_check(const void *framed, size_t framed_size, bool *damaged, struct error *error);

#endif
