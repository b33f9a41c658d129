/* prompt.h: the text to go on from, as tokens. */
#ifndef OFFRAMP_GENERATE_PROMPT_H
#define OFFRAMP_GENERATE_PROMPT_H

#include "common/base/string.h"
#include "common/text/tokenizer.h"
#include "generate/options.h"

/* From the option, its file, or standard input. Of a file and of standard input the last line's end is left out: it
 * ends the line, and is not a part of what is to go on. A terminal's input ends with Ctrl-D.
 * Both must be UTF-8; the error says which byte is not. string_free the text, after an error too. */
int prompt_read(const struct generate_options *options, struct string *text, struct error *error);

/* Its ids, behind those that the model was trained to find before a text. An empty prompt without such is the
 * end-of-text token, as between two documents of a corpus. free ids->data. */
int prompt_encode(const struct tokenizer *tokenizer, const struct string *text, struct token_list *ids,
                  struct error *error);

#endif
