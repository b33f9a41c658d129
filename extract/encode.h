/* encode.h: turns pieces of text into token ids, on all threads. */
#ifndef OFFRAMP_EXTRACT_ENCODE_H
#define OFFRAMP_EXTRACT_ENCODE_H

#include "common/base/pool.h"
#include "extract/corpus.h"

/* Fills in the ids of pieces that have text. tokenizer: NULL when none has. */
int pieces_encode(struct pool *pool, const struct tokenizer *tokenizer, struct piece_list *pieces,
                  struct error *error);

#endif
