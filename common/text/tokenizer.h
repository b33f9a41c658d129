/* tokenizer.h: the model's own byte-level BPE tokenizer.
 *
 * From GGUF metadata (tokenizer.ggml.*) or a Hugging Face tokenizer.json. A text is cut at added and
 * special tokens, then by the pre-tokenizer's pattern (PCRE2), and each pretoken is merged by rank
 * (Sennrich et al. 2016, over bytes as in GPT-2). Equal to Hugging Face `tokenizers`, token for
 * token; decoding gives the same bytes back, but for what the tokenizer itself changes or cannot
 * say: normalization form C (Qwen2), a space put in front (add_prefix_space), white space that a
 * token strips, and bytes the vocabulary has no token for (SmolLM2 lacks six control characters and
 * two lead bytes of planes without characters), which are left out as Hugging Face leaves them out.
 *
 *     struct tokenizer *tokenizer;
 *     struct token_list ids = {0};
 *     tokenizer_open(model_gguf(model), folder, &tokenizer, error);
 *     tokenizer_encode(tokenizer, text, size, TOKENIZER_SPECIAL, &ids, error);
 *     free(ids.data);
 *     tokenizer_close(tokenizer);
 */
#ifndef OFFRAMP_TEXT_TOKENIZER_H
#define OFFRAMP_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/model/gguf.h"
#include "common/text/frame.h"
#include "common/text/token_list.h"

struct tokenizer;

/* From an open GGUF file, which may be closed afterwards, or a folder that holds tokenizer.json (and
 * config.json, generation_config.json and tokenizer_config.json, for the ids that end a text and those that
 * go around one): one of the two is NULL. An unknown tokenizer model, pre-tokenizer or post-processor is an
 * error that names it. Of tokenizer.json truncation and padding are not used. */
int tokenizer_open(const struct gguf *gguf, const char *folder, struct tokenizer **tokenizer,
                   struct error *error);
void tokenizer_close(struct tokenizer *tokenizer); /* NULL is fine */

enum {
    TOKENIZER_PLAIN =
        0, /* special tokens in the text are ordinary text (Hugging Face: encode_special_tokens) */
    TOKENIZER_SPECIAL = 1, /* special tokens in the text become their ids; as Hugging Face does it */
    TOKENIZER_BEGIN = 2, /* a text begins here: the frame's `before` goes before it */
    TOKENIZER_END = 4 /* a text ends here: the frame's `behind` goes behind it */
};

/* Appends the ids of `size` bytes of text to *ids. What the frame puts around a text goes there once, also where
 * the text has it written out. Bytes that are not UTF-8
 * become U+FFFD, one for each longest beginning of a sequence (utf8_decode in unicode.h), as in
 * Rust and Python. After an error *ids holds what it held before. Safe from several threads at once. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size, int flags,
                     struct token_list *ids, struct error *error);

/* A place in a text, of which the first `size` bytes are here, valid UTF-8 up to a last character that may be cut
 * off: the ids of what is before the place, and of all that is behind it, one behind the other, are the whole
 * text's, whatever comes behind `size` and with whatever flags. It is the last such place that is known, behind
 * `from`; 0: there is none. */
size_t tokenizer_cut(const struct tokenizer *tokenizer, const char *text, size_t from, size_t size);

/* The bytes of one token, borrowed; a text is its tokens' bytes one behind the other. A character may
 * be spread over several tokens. id in range; an id that no token has gives no bytes. */
void tokenizer_decode(const struct tokenizer *tokenizer, int32_t id, const char **bytes, size_t *size);

int tokenizer_size(const struct tokenizer *tokenizer); /* ids are 0 .. size-1 */

/* The end-of-text id put between documents; -1 when the model has none. It is the special token
 * "<|endoftext|>", "<|end_of_text|>" or "</s>", the first that is there, since that is what stood between
 * documents in pretraining; a chat model's eos often ends a turn instead (SmolLM2-Instruct: <|im_end|>).
 * Without any of them it is the model's eos. */
int32_t tokenizer_end(const struct tokenizer *tokenizer);

/* The ids that the model was trained to find around a text (begin-of-text), borrowed. From the post-processor of
 * tokenizer.json or the flags of tokenizer_config.json; from a GGUF file's flags, or where it has none from
 * tokenizer.ggml.pre as llama.cpp does. */
const struct frame *tokenizer_frame(const struct tokenizer *tokenizer);

/* One side of it for people: "<|begin_of_text|> (128000)", or "no token"; cut where it is longer than `size`. */
void tokenizer_frame_text(const struct tokenizer *tokenizer, const struct frame_side *side, char *text,
                          size_t size);

/* The files want a token around a text and do not name it: which, borrowed. NULL: nothing is wrong. */
const char *tokenizer_frame_warning(const struct tokenizer *tokenizer);

/* A file that only generation needs is damaged, or names an end that is not a token's id: what and where, borrowed.
 * NULL: nothing is wrong. */
const char *tokenizer_warning(const struct tokenizer *tokenizer);

/* Whether generation stops there: true for tokenizer_end, for every end of a text, turn or message that the model's
 * files name by id (eos_token_id and its like, several of them) and for special tokens with the name of one
 * (<|im_end|>, <|eot_id|>, ...). */
bool tokenizer_is_end(const struct tokenizer *tokenizer, int32_t id);
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);

/* Identity: XXH3-64 of the vocabulary, merges, pattern and added tokens in a canonical form: equal for
 * GGUF and tokenizer.json of the same tokenizer is not promised. 16 hexadecimal digits. */
void tokenizer_fingerprint(const struct tokenizer *tokenizer, char fingerprint[17]);

#endif
