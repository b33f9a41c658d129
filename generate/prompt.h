/* prompt.h: the text to go on from, as tokens. */
#ifndef OFFRAMP_GENERATE_PROMPT_H
#define OFFRAMP_GENERATE_PROMPT_H

#include "common/base/string.h"
#include "common/text/tokenizer.h"
#include "generate/options.h"

/* Reads --prompt, --prompt-file or standard input. string_free the text, also after an error. The line feed at
 * the end of a file or of standard input is left out: it ends the line and is not a part of the prompt. A file
 * and standard input must be UTF-8; the error says which byte is not. On a terminal, Ctrl-D ends the input. */
int prompt_read(const struct generate_options *options, struct string *text, struct error *error);

/* The ids of the prompt, with the ids before them that the model was trained to find before a text. Where there
 * are none at all, the prompt is the end-of-text token, as between two documents of a corpus. free
 * ids->data. */
int prompt_encode(const struct tokenizer *tokenizer, const struct string *text, struct token_list *ids,
                  struct error *error);

#endif
