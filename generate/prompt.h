/* prompt.h: the text to go on from, as tokens. */
#ifndef OFFRAMP_GENERATE_PROMPT_H
#define OFFRAMP_GENERATE_PROMPT_H

#include "common/base/string.h"
#include "common/model/model.h"
#include "common/text/tokenizer.h"
#include "generate/options.h"

/* From the option, its file, or standard input. string_free the text, after an error too. */
int prompt_read(const struct generate_options *options, struct string *text, struct error *error);

/* Its ids, behind a begin-of-text token where the GGUF file asks for one. An empty prompt is the
 * end-of-text token, as between two documents of a corpus. free ids->data. */
int prompt_encode(const struct model *model, const struct tokenizer *tokenizer, const struct string *text,
                  struct token_list *ids, struct error *error);

#endif
