#include "common/text/vocab.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/memory.h"
#include "common/text/unicode.h"

/* What the name of a token decodes to, for merges. One look-up reads this and a slot of an index, and nothing
 * else that might not be in a cache. */
struct spelling {
    int32_t id;
    uint32_t size;
    char bytes[];
};

enum { BLOCK_SIZE = 1 << 18, ALIGNMENT = 4 };
_Static_assert(BLOCK_SIZE >= UINT16_MAX + 1 + sizeof(struct spelling) + UINT16_MAX + 2 * ALIGNMENT,
               "any token fits");

/* The byte that a character of byte-level text stands for, or -1. GPT-2 lets the printable characters of
 * Latin-1 stand for themselves and numbers the other 68 bytes from U+0100 on. */
static int byte_of_character(int32_t character)
{
    if ((character >= '!' && character <= '~') || (character >= 0xA1 && character <= 0xFF && character != 0xAD))
        return character;
    if (character >= 0x100 && character <= 0x120)
        return character - 0x100; /* 00 .. 20 */
    if (character >= 0x121 && character <= 0x142)
        return character - 0x121 + 0x7F; /* 7F .. A0 */
    return character == 0x143 ? 0xAD : -1;
}

/* Decodes byte-level text into `bytes`, which has room for `size`. False, with nothing of use written,
 * when some character stands for no byte. */
static bool decode_name(const char *name, size_t size, char *bytes, uint32_t *filled)
{
    size_t length;
    *filled = 0;
    for (size_t i = 0; i < size; i += length) {
        int32_t character = utf8_decode(name + i, size - i, &length);
        int byte = character < 0 ? -1 : byte_of_character(character);
        if (byte < 0)
            return false;
        bytes[(*filled)++] = (char)byte;
    }
    return true;
}

int vocab_create(struct vocab *vocab, size_t count, struct error *error)
{
    *vocab = (struct vocab){0};
    if (count < 1 || count > VOCAB_LIMIT)
        return error_set(error, "a vocabulary of %zu tokens; 1 .. %d are possible", count, VOCAB_LIMIT);
    if (array_alloc(&vocab->tokens, count, error) < 0)
        return -1;
    vocab->count = (int)count;
    return 0;
}

void vocab_free(struct vocab *vocab)
{
    for (size_t i = 0; i < vocab->block_count; i++)
        free(vocab->blocks[i]);
    free(vocab->blocks);
    free(vocab->tokens);
    hash_index_free(&vocab->names);
    hash_index_free(&vocab->spelled);
    *vocab = (struct vocab){0};
}

static void *at_position(const struct vocab *vocab, uint32_t position)
{
    return vocab->blocks[position / BLOCK_SIZE] + position % BLOCK_SIZE;
}

/* So many bytes of a block, in which all blocks count as one. */
static int take_bytes(struct vocab *vocab, size_t size, uint32_t *position, struct error *error)
{
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size > vocab->left) {
        if (vocab->block_count == UINT32_MAX / BLOCK_SIZE)
            return error_set(error, "the names of the tokens take more than 4 GB");
        if (array_grow(&vocab->blocks, &vocab->block_capacity, vocab->block_count + 1, error) < 0 ||
            !(vocab->blocks[vocab->block_count] = memory_alloc(BLOCK_SIZE, 1, error)))
            return -1;
        vocab->block_count++;
        vocab->left = BLOCK_SIZE;
    }
    *position = (uint32_t)(vocab->block_count * BLOCK_SIZE - vocab->left);
    vocab->left -= size;
    return 0;
}

static int add_token(struct vocab *vocab, struct vocab_token *token, int32_t id, const char *name, size_t size,
                     enum token_kind kind, struct error *error)
{
    uint32_t at, spelled, filled;
    if (take_bytes(vocab, size + 1, &at, error) < 0 ||
        take_bytes(vocab, sizeof(struct spelling) + size, &spelled, error) < 0)
        return -1;
    char *copy = memcpy(at_position(vocab, at), name, size);
    struct spelling *spelling = at_position(vocab, spelled);
    const bool byte_level = kind == TOKEN_MODEL && decode_name(name, size, spelling->bytes, &filled);
    *token = (struct vocab_token){.name = copy,
                                  .bytes = byte_level ? spelling->bytes : copy,
                                  .name_size = (uint32_t)size,
                                  .size = byte_level ? filled : (uint32_t)size,
                                  .kind = kind};
    if (hash_index_put(&vocab->names, hash_bytes(name, size, 0), (uint32_t)id, error) < 0)
        return -1;
    if (!byte_level)
        return 0;
    spelling->id = id;
    spelling->size = filled;
    return hash_index_put(&vocab->spelled, hash_bytes(spelling->bytes, filled, 0), spelled, error);
}

int vocab_set(struct vocab *vocab, int64_t id, const char *name, size_t size, enum token_kind kind,
              struct error *error)
{
    if (id < 0 || id >= vocab->count)
        return error_set(error, "token \"%.*s\" has id %" PRId64 ", not in 0 .. %d",
                         (int)(size < 80 ? size : 80), name, id, vocab->count - 1);
    struct vocab_token *token = &vocab->tokens[id];
    if (token->kind != TOKEN_ABSENT)
        return error_set(error, "tokens \"%.80s\" and \"%.*s\" have the same id %" PRId64, token->name,
                         (int)(size < 80 ? size : 80), name, id);
    if (size == 0 || size > UINT16_MAX)
        return error_set(error, "token %" PRId64 " is %zu bytes long, not 1 .. %d", id, size, UINT16_MAX);
    int32_t other = vocab_find(vocab, name, size);
    if (other >= 0)
        return error_set(error, "tokens %d and %" PRId64 " are both \"%.*s\"", other, id,
                         (int)(size < 80 ? size : 80), name);
    return add_token(vocab, token, (int32_t)id, name, size, kind, error);
}

void vocab_add(struct vocab *vocab, int32_t id, enum token_kind kind)
{
    struct vocab_token *token = &vocab->tokens[id];
    token->kind = kind;
    token->bytes = token->name;
    token->size = token->name_size;
}

int32_t vocab_find(const struct vocab *vocab, const char *name, size_t size)
{
    struct hash_probe probe = {.key = hash_bytes(name, size, 0)};
    for (uint32_t id; (id = hash_index_next(&vocab->names, &probe)) != HASH_INDEX_END;) {
        const struct vocab_token *token = &vocab->tokens[id];
        if (token->name_size == size && memcmp(token->name, name, size) == 0)
            return (int32_t)id;
    }
    return -1;
}

int32_t vocab_find_bytes(const struct vocab *vocab, const char *bytes, size_t size)
{
    struct hash_probe probe = {.key = hash_bytes(bytes, size, 0)};
    for (uint32_t at; (at = hash_index_next(&vocab->spelled, &probe)) != HASH_INDEX_END;) {
        const struct spelling *spelling = at_position(vocab, at);
        if (spelling->size == size && memcmp(spelling->bytes, bytes, size) == 0)
            return spelling->id;
    }
    return -1;
}
