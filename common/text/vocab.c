#include "common/text/vocab.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/text/unicode.h"

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
    if (token_map_create(&vocab->names, count, error) < 0)
        return -1;
    return token_map_create(&vocab->pieces, count, error);
}

void vocab_free(struct vocab *vocab)
{
    for (int i = 0; i < vocab->count; i++)
        free(vocab->tokens[i].name);
    free(vocab->tokens);
    token_map_free(&vocab->names);
    token_map_free(&vocab->pieces);
    *vocab = (struct vocab){0};
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
    char *block = memory_alloc(2, size + 1, error);
    if (!block)
        return -1;
    memcpy(block, name, size);
    char *bytes = block + size + 1;
    uint32_t filled;
    bool byte_level = kind == TOKEN_MODEL && decode_name(name, size, bytes, &filled);
    *token = (struct vocab_token){.name = block,
                                  .bytes = byte_level ? bytes : block,
                                  .name_size = (uint32_t)size,
                                  .size = byte_level ? filled : (uint32_t)size,
                                  .kind = kind};
    token_map_put(&vocab->names, token->name, size, (int32_t)id);
    if (byte_level)
        token_map_put(&vocab->pieces, bytes, filled, (int32_t)id);
    return 0;
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
    return token_map_find(&vocab->names, name, size);
}

int32_t vocab_piece(const struct vocab *vocab, const char *bytes, size_t size)
{
    return token_map_find(&vocab->pieces, bytes, size);
}
