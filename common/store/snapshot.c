#include "common/store/snapshot.h"

#include <pthread.h>
#include <stdbool.h>

#include "common/base/memory.h"
#include "common/store/environment.h"

struct open_snapshot {
    pthread_t thread; /* that began it */
    MDB_txn *transaction;
};

struct snapshots {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct open_snapshot *open; /* [count] */
    size_t count, capacity;
    bool growing; /* a writer makes the map larger, or waits for its turn */
    bool lost; /* the map is gone: it could not be made larger */
};

struct snapshots *snapshots_create(struct error *error)
{
    struct snapshots *snapshots;
    if (array_alloc(&snapshots, 1, error) < 0)
        return NULL;
    pthread_mutex_init(&snapshots->mutex, NULL);
    pthread_cond_init(&snapshots->changed, NULL);
    return snapshots;
}

void snapshots_free(struct snapshots *snapshots)
{
    if (!snapshots)
        return;
    pthread_cond_destroy(&snapshots->changed);
    pthread_mutex_destroy(&snapshots->mutex);
    free(snapshots->open);
    free(snapshots);
}

/* These are called with the mutex held. */

static bool has_own(const struct snapshots *snapshots)
{
    for (size_t i = 0; i < snapshots->count; i++)
        if (pthread_equal(snapshots->open[i].thread, pthread_self()))
            return true;
    return false;
}

/* LMDB unmaps the file before it maps it again, and has no map when that fails. */
static int resize_map(struct snapshots *snapshots, MDB_env *env, size_t size)
{
    const int code = mdb_env_set_mapsize(env, size);
    snapshots->lost = code != 0;
    return code;
}

static int begin(struct snapshots *snapshots, MDB_env *env, MDB_txn **snapshot)
{
    const int code = mdb_txn_begin(env, NULL, MDB_RDONLY, snapshot);
    if (code != MDB_MAP_RESIZED || snapshots->count > 0)
        return code;
    const int resized = resize_map(snapshots, env, environment_map_size(env));
    return resized ? resized : mdb_txn_begin(env, NULL, MDB_RDONLY, snapshot);
}

/* ---- all may call ---- */

int snapshot_begin(struct snapshots *snapshots, MDB_env *env, MDB_txn **snapshot, struct error *error)
{
    int result = -1, code;
    pthread_mutex_lock(&snapshots->mutex);
    while (snapshots->growing && !has_own(snapshots))
        pthread_cond_wait(&snapshots->changed, &snapshots->mutex);
    if (snapshots->lost)
        error_set(error, "the map could not grow and is gone; open the store again");
    else if (array_grow(&snapshots->open, &snapshots->capacity, snapshots->count + 1, error) == 0) {
        if ((code = begin(snapshots, env, snapshot)))
            environment_error(error, code, "cannot be read");
        else {
            snapshots->open[snapshots->count++] = (struct open_snapshot){pthread_self(), *snapshot};
            result = 0;
        }
    }
    pthread_mutex_unlock(&snapshots->mutex);
    return result;
}

void snapshot_end(struct snapshots *snapshots, MDB_txn *snapshot)
{
    size_t i = 0;
    pthread_mutex_lock(&snapshots->mutex);
    while (snapshots->open[i].transaction != snapshot)
        i++;
    mdb_txn_abort(snapshot);
    snapshots->open[i] = snapshots->open[--snapshots->count];
    pthread_cond_broadcast(&snapshots->changed);
    pthread_mutex_unlock(&snapshots->mutex);
}

int snapshots_grow_map(struct snapshots *snapshots, MDB_env *env, size_t more, struct error *error)
{
    MDB_envinfo info;
    int result = -1, code;
    pthread_mutex_lock(&snapshots->mutex);
    mdb_env_info(env, &info);
    if (has_own(snapshots))
        error_set(error, "the map of %zu bytes is full and cannot grow under open readers", info.me_mapsize);
    else {
        snapshots->growing = true;
        while (snapshots->count > 0)
            pthread_cond_wait(&snapshots->changed, &snapshots->mutex);
        code = resize_map(snapshots, env, info.me_mapsize + more);
        snapshots->growing = false;
        pthread_cond_broadcast(&snapshots->changed);
        result = code ? environment_error(error, code, "the map cannot grow beyond %zu bytes (see ulimit -v)",
                                          info.me_mapsize)
                      : 0;
    }
    pthread_mutex_unlock(&snapshots->mutex);
    return result;
}
