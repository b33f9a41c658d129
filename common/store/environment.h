/* environment.h: LMDB environments as stores open them. Only common/store and common/repair include this.
 *
 *     writer_lock(folder, &lock, error);                         // a writer only
 *     process_lock(folder, &own_lock, error);                    // unless the store is read without locks
 *     environment_open(folder, STORE_WRITE, &env, error);
 *
 * The folder of a store:
 *
 *     data.mdb       LMDB's file
 *     lock.mdb       LMDB's locks: they tell the writer which old pages a reader still needs
 *     writer.lock    held with flock(2) by the one writer; its text is the writer's process number
 *     sealed         is there while the store is finished and nobody changes it (store.h, Caveats)
 *
 * The map. LMDB maps the file at a fixed size, of which only what was written takes up memory. The size is 1
 * TiB at first. Where addresses are limited (ulimit -v), it is the file's size and MAP_GROWTH, and store_commit
 * lets it grow (snapshot.h says who waits then).
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

/* Takes the writer's lock of the store in `folder`. *lock: a descriptor to close. A second writer is an error,
 * which names the first one's process. */
int writer_lock(const char *folder, int *lock, struct error *error);

/* Before environment_open. LMDB's locks belong to the process: when it has a file open twice, closing one drops
 * the locks of both. So it is an error when this process has the store open already. *lock: a descriptor to
 * close, or -1 where the file system has no locks. */
int process_lock(const char *folder, int *lock, struct error *error);

/* Checks the file's meta pages, for writing all of its trees too, then opens the environment. A writer has
 * writer_lock. A damaged structure is ERROR_DAMAGED. */
int environment_open(const char *folder, enum store_mode mode, MDB_env **env, struct error *error);
/* A new file at `path`, for a store in the making. */
int environment_create(const char *path, MDB_env **env, struct error *error);

/* The size that the map needs after MDB_MAP_RESIZED: the file's, and MAP_GROWTH. */
size_t environment_map_size(MDB_env *env);

/* Takes the map's pages out of this process's memory; the system's cache keeps them. Otherwise all that was
 * ever read or written counts as the process's memory. Other threads read on meanwhile. */
void environment_release(MDB_env *env, const struct pages_map *map);

/* Sets the error "FORMAT: what LMDB says", and what to do about it. Always returns -1. */
int environment_error(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
