/* repair.h: puts records again where damaged ones are, in a store that may be finished.
 *
 *     store_open(path, STORE_WRITE, &store, error);         // refuses a damaged structure
 *     repair_begin(store, error);
 *     repair_put_record(store, tap, sequence, record, size, error);
 *     store_commit(store, error);                           // as often as wanted; then begin again
 *     repair_finish(store, error);
 *
 * A finished store is read without locks. From repair_begin to repair_finish it lacks the file that says so,
 * so that whoever opens it meanwhile uses locks; one who had it open before may find records damaged that
 * are not, never wrong ones. A kill in between leaves what was committed; the next writer restores the file.
 */
#ifndef OFFRAMP_STORE_REPAIR_H
#define OFFRAMP_STORE_REPAIR_H

#include "common/store/store.h"

int repair_begin(struct store *store, struct error *error);

/* As store_put_record. What LMDB keeps before the old record, and would believe when it frees its pages, is
 * written again first where it is damaged. */
int repair_put_record(struct store *store, int tap, struct sequence sequence, const void *record, size_t size,
                      struct error *error);

/* Outside a transaction. */
int repair_finish(struct store *store, struct error *error);

#endif
