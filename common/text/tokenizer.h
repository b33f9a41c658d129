/* tokenizer.h: the model's own byte-level BPE tokenizer.
 *
 * From GGUF metadata (tokenizer.ggml.*) or a Hugging Face tokenizer.json. A text is cut at added and
 * special tokens, then by the pre-tokenizer's pattern (PCRE2), and each piece is merged by rank
 * (Sennrich et al. 2016, over bytes as in GPT-2). Equal to Hugging Face `tokenizers`, token for
 * token; decoding gives the same bytes back.
 *
 *     struct tokenizer *tokenizer;
 *     tokenizer_open(model, path, &tokenizer, error);
 *     tokenizer_encode(tokenizer, text, size, TOKENIZER_SPECIAL, &ids, error);
 */
#ifndef OFFRAMP_TEXT_TOKENIZER_H
#define OFFRAMP_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/model/gguf.h"

struct tokenizer;

/* A list of ids that grows; free ids.data. */
struct token_list {
    int32_t *data;
    size_t count, capacity;
};

/* From an open GGUF file, or a folder that holds tokenizer.json: one of the two is NULL. An unknown
 * tokenizer model or pre-tokenizer is an error that names it. */
int tokenizer_open(const struct gguf *gguf, const char *folder, struct tokenizer **tokenizer,
                   struct error *error);
void tokenizer_close(struct tokenizer *tokenizer); /* NULL is fine */

enum {
    TOKENIZER_PLAIN = 0, /* special tokens in the text are ordinary text */
    TOKENIZER_SPECIAL = 1 /* special tokens in the text become their ids; as Hugging Face does it */
};

/* Appends the ids of `size` bytes of text to *ids (no bos or eos is added). Bytes that are not
 * UTF-8 are replaced by U+FFFD, as Hugging Face does. Safe from several threads at once. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size, int flags,
                     struct token_list *ids, struct error *error);

/* The bytes of one token, borrowed; a text is its tokens' bytes one behind the other. id in range. */
void tokenizer_decode(const struct tokenizer *tokenizer, int32_t id, const char **bytes, size_t *size);

int tokenizer_size(const struct tokenizer *tokenizer); /* ids are 0 .. size-1 */
int32_t tokenizer_end(const struct tokenizer *tokenizer); /* the end-of-text id put between documents; -1 */
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);
/* Identity: XXH3-64 of the vocabulary, merges, pattern and added tokens in a canonical form: equal for
 * GGUF and tokenizer.json of the same tokenizer is not promised. 16 hexadecimal digits. */
void tokenizer_fingerprint(const struct tokenizer *tokenizer, char fingerprint[17]);

#endif
