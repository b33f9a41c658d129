/* repair.h: puts values again where damaged ones are, in a store that may be finished. This folder is frozen
 * (common/lmdb/README.md).
 *
 * Caveats:
 *   - Others may read the store meanwhile; store.h says what they see. After a kill, what was committed is there, and the
 *     next writer finishes the store again.
 *   - A damaged structure is refused by store_open: salvage.h comes first.
 *
 *     store_open(path, STORE_WRITE, &store, error);
 *     repair_begin(store, error);
 *     store_put_record(store, tap, sequence, record, size, error);   // and what else store.h and this file put
 *     store_commit(store, error);                                    // as often as wanted; then begin again
 *     repair_finish(store, error);
 */
#ifndef OFFRAMP_REPAIR_REPAIR_H
#define OFFRAMP_REPAIR_REPAIR_H

#include "common/store/store.h"

/* Begins a transaction in which values may be put again. LMDB's page headers of damaged values are mended
 * before each put, since LMDB believes them when it frees the value's pages. */
int repair_begin(struct store *store, struct error *error);

/* Outside a transaction. */
int repair_finish(struct store *store, struct error *error);

/* Puts tokens in which one bit was flipped as they were. *mended: false when that is not what is wrong. */
int repair_tokens(struct store *store, struct sequence sequence, bool *mended, struct error *error);

/* Puts the parameters of a tap's codec again from their copy, or the copy from them. *mended: false when both
 * are damaged. */
int repair_parameters(struct store *store, int tap, bool *mended, struct error *error);

#endif
