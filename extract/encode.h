/* encode.h: turns pieces of text into token ids, on all threads. */
#ifndef OFFRAMP_EXTRACT_ENCODE_H
#define OFFRAMP_EXTRACT_ENCODE_H

#include "common/base/pool.h"
#include "extract/corpus.h"

/* Fills in the ids of pieces that have text, with what the tokenizer puts around each text (tokenizer_frame). An
 * end-of-text id that it puts last is left out: it is the one that goes behind every document. */
int pieces_encode(struct pool *pool, const struct corpus_rules *rules, struct piece_list *pieces,
                  struct error *error);

#endif
