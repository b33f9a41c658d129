/* texts.h: which tokens go around the texts of a corpus, for people and for the manifest. */
#ifndef OFFRAMP_EXTRACT_TEXTS_H
#define OFFRAMP_EXTRACT_TEXTS_H

#include <jansson.h>

#include "extract/corpus.h"

/* The ids that go before each text, or behind it, as a new list. JSON's null when the corpus has token files
 * only: those are taken as they are. */
json_t *texts_before(const struct tokenizer *tokenizer, const struct corpus_list *list);
json_t *texts_behind(const struct tokenizer *tokenizer, const struct corpus_list *list);

/* "before each text <|begin_of_text|> (128000), by ...; between documents <|end_of_text|> (128001)"; cut where
 * it is longer than `size`. */
void texts_describe(const struct corpus_rules *rules, const struct corpus_list *list, char *text, size_t size);

#endif
