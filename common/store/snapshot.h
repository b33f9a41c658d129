/* snapshot.h: LMDB's read transactions, and the map that they lie in. Only common/store includes this.
 *
 * LMDB moves the map when it makes it larger, and no transaction may be open in the process then. So snapshots
 * begin and end here, and the map grows here.
 *
 * Caveats: who waits for whom.
 *   - The writer that makes the map larger waits until the snapshots of other threads have ended.
 *   - A thread that begins a snapshot waits for a writer that waits. So the writer gets its turn, however often
 *     others read.
 *   - A thread that has a snapshot gets another one at once. If it waited, it and the writer would wait for each other.
 *   - A writer that has a snapshot gets an error when the map must grow.
 *   - So a thread with a snapshot must not wait for the writer, and not for a mutex under which others begin snapshots.
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

/* All snapshots of one environment in this process. */
struct snapshots;

/* NULL on error. */
struct snapshots *snapshots_create(struct error *error);
void snapshots_free(struct snapshots *snapshots); /* All have ended. NULL is fine. */

/* A snapshot of what was committed last, from any thread. Another process may have made the file larger than
 * the map. Then the map grows; it is an error if other snapshots are open. */
int snapshot_begin(struct snapshots *snapshots, MDB_env *env, MDB_txn **snapshot, struct error *error);
/* From any thread. Until then the snapshot counts as one of the thread that began it. */
void snapshot_end(struct snapshots *snapshots, MDB_txn *snapshot);

/* Makes the map `more` bytes larger. On error the map may be gone, and then every later snapshot is an
 * error. */
int snapshots_grow_map(struct snapshots *snapshots, MDB_env *env, size_t more, struct error *error);

#endif
