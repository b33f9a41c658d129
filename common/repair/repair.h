/* repair.h: puts values again where damaged ones are, in a store that may be finished.
 *
 *     store_open(path, STORE_WRITE, &store, error);         // refuses a damaged structure: see salvage.h
 *     repair_begin(store, error);
 *     store_put_record(store, tap, sequence, record, size, error);   // and what else store.h and this file put
 *     store_commit(store, error);                           // as often as wanted; then begin again
 *     repair_finish(store, error);
 *
 * From repair_begin to repair_finish a finished store lacks the file that says so: store.h's caveats say how it is read
 * then. A kill in between leaves what was committed; the next writer restores the file.
 */
#ifndef OFFRAMP_REPAIR_REPAIR_H
#define OFFRAMP_REPAIR_REPAIR_H

#include "common/store/store.h"

int repair_begin(struct store *store, struct error *error);

/* Tokens with one bit flipped are put as they were. *mended: whether that was it. */
int repair_tokens(struct store *store, struct sequence sequence, bool *mended, struct error *error);

/* The parameters of a tap's codec from their copy, or the other way round. *mended: whether one of both was right. */
int repair_parameters(struct store *store, int tap, bool *mended, struct error *error);

/* Outside a transaction. */
int repair_finish(struct store *store, struct error *error);

#endif
