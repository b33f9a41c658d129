/* copy.h: puts values of one store into another as they are, byte for byte. Each is checked first: a damaged
 * one is an error. All functions but copy_sources are called in a transaction of `to`.
 */
#ifndef OFFRAMP_STORE_COPY_H
#define OFFRAMP_STORE_COPY_H

#include "common/store/store.h"

/* Tokens and document starts. The sequence must be the next of its split in `to`. */
int copy_tokens(struct store *to, struct reader *from, struct sequence sequence, struct error *error);

/* A record. The tap must have the same index, codec and parameters in both stores. *size: the record's
 * bytes. */
int copy_record(struct store *to, struct reader *from, int tap, struct sequence sequence, size_t *size,
                struct error *error);

/* All tensors of the model. Makes transactions of its own. */
int copy_sources(struct store *to, struct store *from, struct error *error);

/* All notes of the writer. */
int copy_notes(struct store *to, const struct store *from, struct error *error);

#endif
