/* tokenizer_parts.h: what a tokenizer is made of. The readers of GGUF and of tokenizer.json fill it;
 * tokenizer.c works with it.
 *
 * Internal to common/text.
 */
#ifndef OFFRAMP_TEXT_TOKENIZER_PARTS_H
#define OFFRAMP_TEXT_TOKENIZER_PARTS_H

#include <jansson.h>

#include "common/model/gguf.h"
#include "common/text/added.h"
#include "common/text/bpe.h"
#include "common/text/frame.h"
#include "common/text/pretokenize.h"
#include "common/text/vocab.h"

struct tokenizer_parts {
    struct vocab vocab;
    struct bpe_rules rules;
    struct pretokenizer *pretokenizer;
    struct added added; /* found in the text as it comes */
    struct added added_composed; /* found in normalized text */
    bool compose; /* text is brought to normalization form C */
    bool *ends; /* [vocab.count] the ids that end a text; NULL: none does */
    int32_t first_end; /* the model's own eos */
    struct frame frame;
    struct error
        frame_warning; /* a side of the frame that is wanted, and for which no token is named; "": none */
    struct error warning; /* what went wrong and is not an error; "": nothing */
};

/* Both: parts are zeroed at first, and to be freed whatever the result. */
int parts_from_gguf(const struct gguf *gguf, struct tokenizer_parts *parts, struct error *error);
int parts_from_folder(const char *folder, struct tokenizer_parts *parts, struct error *error);
void parts_free(struct tokenizer_parts *parts);

/* For both readers. Makes a token whose kind is not TOKEN_MODEL one that is found in texts. */
int parts_add_token(struct tokenizer_parts *parts, int32_t id, bool composed, int flags, struct error *error);
/* "a b" with one space, of two tokens whose names together are a third's. `rank` is for the error. */
int parts_add_merge(struct tokenizer_parts *parts, size_t rank, const char *left, size_t left_size,
                    const char *right, size_t right_size, struct error *error);
int parts_split_merge(struct tokenizer_parts *parts, size_t rank, const char *pair, size_t size,
                      struct error *error);
/* tokenizer_cut. */
size_t parts_find_cut(const struct tokenizer_parts *parts, const char *text, size_t from, size_t size);
bool parts_has_token(const struct tokenizer_parts *parts, int64_t id);
/* Ids that no token has are left out. */
int parts_add_end(struct tokenizer_parts *parts, int64_t id, struct error *error);

/* For tokenizer.json: its post_processor; and the files beside it. */
int parts_read_frame(const json_t *processor, struct tokenizer_parts *parts, struct error *error);
int parts_read_beside(const char *folder, struct tokenizer_parts *parts, struct error *error);
/* Notes that `flag` wants a token at one side, and that `key`, which would name it, does not. */
void parts_warn_unnamed(struct tokenizer_parts *parts, const struct frame_side *side, const char *flag,
                        const char *key);
/* Puts an id behind those of one side; an error when no token has it. */
int parts_frame_id(const struct tokenizer_parts *parts, int64_t id, struct frame_side *side,
                   struct error *error);

#endif
