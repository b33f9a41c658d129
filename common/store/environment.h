/* environment.h: LMDB environments as stores use them. Only common/store includes this.
 *
 * Locks. The one writer holds flock(2) on WRITER_FILE, whose text is its process number. LMDB's own lock file tells that
 * writer which old pages somebody still reads. SEALED_FILE is there where a store is finished: store.h's caveats say what
 * follows for readers.
 *
 * Map. LMDB maps the file at a fixed size, of which only what was written takes up anything but
 * addresses: 1 TiB at first. Where addresses are limited (ulimit -v) the map starts at the file's size
 * and MAP_GROWTH, and is grown by the writer (snapshot.h).
 */
#ifndef OFFRAMP_STORE_ENVIRONMENT_H
#define OFFRAMP_STORE_ENVIRONMENT_H

#include <lmdb.h>

#include "common/lmdb/pages.h"
#include "common/store/store.h"

#define DATA_FILE   "data.mdb"
#define SEALED_FILE "sealed"
#define WRITER_FILE "writer.lock"
#define MAP_GROWTH  ((size_t)256 << 20)

/* Takes the writer's lock of the store in `folder`; *lock is a descriptor to close. A second writer is
 * an error that names the first. */
int writer_lock(const char *folder, int *lock, struct error *error);

/* LMDB's locks are a process's: of two environments of one file, the one closed first would take those of the
 * other along. An error when this process has the store open already; *lock is a descriptor to close, or -1
 * where there are no locks to be had. Before environment_open. */
int process_lock(const char *folder, int *lock, struct error *error);

/* Opens the environment in `folder`, checking its meta pages before. A writer has the lock already. */
int environment_open(const char *folder, enum store_mode mode, MDB_env **env, struct error *error);
/* A new file of its own at `path`, not a folder, for a store in the making. */
int environment_create(const char *path, MDB_env **env, struct error *error);

/* What the map must be for the file as it is, with MAP_GROWTH for what comes: after MDB_MAP_RESIZED. */
size_t environment_map_size(MDB_env *env);

/* Takes the map's pages out of this process's memory (not out of the system's cache): whatever is read
 * or written stays mapped otherwise and counts as the process's, however large the store. Reading goes on as before, by
 * other threads too. */
void environment_release(MDB_env *env, const struct pages_map *map);

/* "FORMAT: what LMDB says", with what to do about it. Always returns -1. */
int environment_error(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
