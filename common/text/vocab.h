/* vocab.h: the tokens of a byte-level vocabulary, by id, by name and by bytes.
 *
 * Vocabularies are stored as text: GPT-2 (Radford et al. 2019) gives each of the 256 bytes a printable
 * character of its own, so that " the" is written as "Ġthe". A token's name is that text, as it stands in
 * the model's file; its bytes are what it decodes to.
 *
 *     vocab_create(&vocab, 49152, error);
 *     vocab_set(&vocab, 17, "Ġthe", 5, TOKEN_MODEL, error);
 *     vocab_find_bytes(&vocab, " the", 4);          // 17
 */
#ifndef OFFRAMP_TEXT_VOCAB_H
#define OFFRAMP_TEXT_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/hash_index.h"

enum token_kind {
    TOKEN_ABSENT, /* the id is not used */
    TOKEN_MODEL, /* reached by merges */
    TOKEN_ADDED, /* cut out of the text before it is split; bytes and name are the same */
    TOKEN_SPECIAL /* as ADDED, and a mark in a text instead of a part of it */
};

struct vocab_token {
    const char *name; /* in a block of the vocabulary's, as the bytes are */
    const char *bytes;
    uint32_t name_size, size; /* of name and of bytes */
    enum token_kind kind;
};

struct vocab {
    struct vocab_token *tokens; /* [count], by id */
    int count;
    struct hash_index names; /* ids of all tokens, by name */
    struct hash_index
        spelled; /* of the tokens that merges reach, by bytes: where their spelling is in the blocks */
    char **blocks; /* [block_count], with names and spellings one behind the other */
    size_t block_count, block_capacity, left; /* left: bytes of the last block that are free */
};

enum { VOCAB_LIMIT = 1 << 22 }; /* ids in a vocabulary; the largest known has 2^18 */

/* Ids 0 .. count-1, all absent. */
int vocab_create(struct vocab *vocab, size_t count, struct error *error);
void vocab_free(struct vocab *vocab); /* a zeroed vocabulary is fine */

/* Copies the name. An error when the id is out of range or taken, or the name is empty or taken. */
int vocab_set(struct vocab *vocab, int64_t id, const char *name, size_t size, enum token_kind kind,
              struct error *error);

/* Turns a token that is there into TOKEN_ADDED or TOKEN_SPECIAL; it can still be reached by merges. */
void vocab_add(struct vocab *vocab, int32_t id, enum token_kind kind);

/* -1 when there is none. */
int32_t vocab_find(const struct vocab *vocab, const char *name, size_t size);
int32_t vocab_find_bytes(const struct vocab *vocab, const char *bytes, size_t size);

#endif
