/* snapshot.h: LMDB's read transactions, and the map that they lie in. Only common/store includes this.
 *
 * LMDB moves the map when it makes it larger. No transaction may be open in the process then, so each snapshot is
 * begun and ended here, and the map grows here. Who waits for whom:
 *   - The writer that makes the map larger waits until the snapshots of other threads have ended.
 *   - A thread that begins a snapshot waits for a writer that waits. So the writer gets its turn, however often
 *     others read.
 *   - A thread with a snapshot of its own gets more of them at once. It would wait for a writer that waits for it.
 *   - A writer with a snapshot of its own gets an error when the map has to grow.
 * A thread with a snapshot must not wait for the writer, nor for a mutex under which others begin snapshots.
 *
 *     snapshot_begin(snapshots, env, &snapshot, error);
 *     ... mdb_get(snapshot, ...) ...                          // values lie in the map
 *     snapshot_end(snapshots, snapshot);
 */
#ifndef OFFRAMP_STORE_SNAPSHOT_H
#define OFFRAMP_STORE_SNAPSHOT_H

#include <lmdb.h>
#include <stddef.h>

#include "common/base/error.h"

/* All of one environment in this process. */
struct snapshots;

/* NULL on error. */
struct snapshots *snapshots_create(struct error *error);
void snapshots_free(struct snapshots *snapshots); /* NULL is fine; all have ended */

/* What was committed last. Where another process has made the file larger than the map is here, the map grows, too,
 * unless other snapshots are open: then it is an error. From any thread. */
int snapshot_begin(struct snapshots *snapshots, MDB_env *env, MDB_txn **snapshot, struct error *error);
/* From any thread; the snapshot is its that began it. */
void snapshot_end(struct snapshots *snapshots, MDB_txn *snapshot);

/* The map is `more` bytes larger then. On error there may be no map any more; every later snapshot is an error then. */
int snapshots_grow_map(struct snapshots *snapshots, MDB_env *env, size_t more, struct error *error);

#endif
