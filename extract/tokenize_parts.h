/* tokenize_parts.h: turns parts of text into token ids, on all threads. */
#ifndef OFFRAMP_EXTRACT_TOKENIZE_PARTS_H
#define OFFRAMP_EXTRACT_TOKENIZE_PARTS_H

#include "common/base/pool.h"
#include "extract/corpus.h"

/* Fills in the ids of parts that have text, with what the tokenizer puts around each text (tokenizer_frame). An
 * end-of-text id that it puts last is left out: it is the one that goes behind every document. */
int parts_tokenize(struct pool *pool, const struct corpus_rules *rules, struct part_list *parts,
                   struct error *error);

#endif
