/* copy.h: values of one store put into another as they are, byte for byte; each is checked first. All but
 * copy_sources belong into a transaction of `to`.
 */
#ifndef OFFRAMP_STORE_COPY_H
#define OFFRAMP_STORE_COPY_H

#include "common/store/store.h"

/* The sequence must be the next of its split in `to`. */
int copy_tokens(struct store *to, struct reader *from, struct sequence sequence, struct error *error);

/* A record at a tap, which has the same index, codec and parameters in both. *size: the record's bytes. */
int copy_record(struct store *to, struct reader *from, int tap, struct sequence sequence, size_t *size,
                struct error *error);

/* All tensors of the model, in transactions of its own. */
int copy_sources(struct store *to, struct store *from, struct error *error);

/* All notes of the writer. */
int copy_notes(struct store *to, const struct store *from, struct error *error);

#endif
