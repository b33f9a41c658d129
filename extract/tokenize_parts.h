/* tokenize_parts.h: turns parts of texts into token ids, on all threads. */
#ifndef OFFRAMP_EXTRACT_TOKENIZE_PARTS_H
#define OFFRAMP_EXTRACT_TOKENIZE_PARTS_H

#include "common/base/pool.h"
#include "extract/corpus.h"

/* Fills in the ids of parts that have text. What the tokenizer puts around each text (tokenizer_frame) is
 * included, but for an end-of-text id at the end: the packing puts one behind every document (packing.h). */
int parts_tokenize(struct pool *pool, const struct corpus_rules *rules, struct part_list *parts,
                   struct error *error);

#endif
