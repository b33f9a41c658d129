/* tokenizer.h: the model's own byte-level BPE tokenizer.
 *
 * It is read from GGUF metadata (tokenizer.ggml.*) or from a Hugging Face tokenizer.json, and gives the tokens
 * that Hugging Face `tokenizers` gives. A text is cut at added and special tokens. What is between them is cut
 * into pretokens by a pattern (PCRE2). Each pretoken's bytes are merged by rank (Sennrich et al. 2016, over
 * bytes as in GPT-2).
 *
 * Decoding gives the same bytes back, with these exceptions, as in Hugging Face: normalization form C (Qwen2),
 * a space put in front (add_prefix_space), white space that a token strips, and bytes for which the vocabulary
 * has no token, which are left out. (SmolLM2 has none for six control characters and for two lead bytes of
 * planes without characters.)
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

/* Appends the ids of `size` bytes of text to *ids. The tokens that the frame puts around a text are there once,
 * even where the text spells them out. Bytes that are not UTF-8 become U+FFFD, as in Rust and Python
 * (utf8_decode in unicode.h). After an error *ids is as it was. Several threads may call this at once. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size, int flags,
                     struct token_list *ids, struct error *error);

/* Finds where a long text can be cut in two: the ids of the first part, followed by those of the rest, are the
 * ids of the whole text, with any flags. `text` has the first `size` bytes of it; more may follow. They are
 * valid UTF-8, but the last character may be cut off. Returns the last offset behind `from` that is known to be
 * such, or 0. */
size_t tokenizer_cut(const struct tokenizer *tokenizer, const char *text, size_t from, size_t size);

/* The bytes of one token, borrowed. A text is the bytes of its tokens, one behind the other; a character may be
 * spread over several tokens. The id must be in range; one that no token has gives no bytes. */
void tokenizer_decode(const struct tokenizer *tokenizer, int32_t id, const char **bytes, size_t *size);

int tokenizer_size(const struct tokenizer *tokenizer); /* ids are 0 .. size-1 */

/* The id that goes between documents; -1 when the model has none. It is the first of the special tokens
 * "<|endoftext|>", "<|end_of_text|>" and "</s>" that the vocabulary has, because that was between documents in
 * pretraining; a chat model's eos often ends a turn instead (SmolLM2-Instruct: <|im_end|>). Without any of them
 * it is the model's eos. */
int32_t tokenizer_end(const struct tokenizer *tokenizer);

/* The ids that the model was trained to find around a text (begin-of-text), borrowed. From the post-processor
 * of tokenizer.json or the flags of tokenizer_config.json; from a GGUF file's flags, or where it has none from
 * tokenizer.ggml.pre as llama.cpp does. */
const struct frame *tokenizer_frame(const struct tokenizer *tokenizer);

/* One side of it for people: "<|begin_of_text|> (128000)", or "no token"; cut where it is longer than
 * `size`. */
void tokenizer_frame_text(const struct tokenizer *tokenizer, const struct frame_side *side, char *text,
                          size_t size);

/* Says which token the files ask for around a text without naming it; borrowed. NULL when nothing is wrong. */
const char *tokenizer_frame_warning(const struct tokenizer *tokenizer);

/* Says which file that only generation needs is damaged, or names an end that is not a token's id; borrowed.
 * NULL when nothing is wrong. */
const char *tokenizer_warning(const struct tokenizer *tokenizer);

/* Whether generation stops at this token. True for tokenizer_end, for every end of a text, turn or message that
 * the model's files give by id (eos_token_id and others), and for special tokens that are called like one
 * (<|im_end|>, <|eot_id|>, ...). */
bool tokenizer_is_end(const struct tokenizer *tokenizer, int32_t id);

/* 16 hexadecimal digits: XXH3-64 of vocabulary, merges, pattern and added tokens. A GGUF file and a
 * tokenizer.json of the same tokenizer may have different ones. */
void tokenizer_fingerprint(const struct tokenizer *tokenizer, char fingerprint[17]);

#endif
