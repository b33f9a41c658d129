/* internal.h: the inside of a store, for common/store, for common/repair, and for tests that must reach it. */
#ifndef OFFRAMP_STORE_INTERNAL_H
#define OFFRAMP_STORE_INTERNAL_H

#include <lmdb.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "common/lmdb/pages.h"
#include "common/store/record.h"
#include "common/store/snapshot.h"
#include "common/store/state.h"

/* LMDB's struct for bytes. LMDB does not write to them. */
static inline MDB_val bytes_val(const void *bytes, size_t size)
{
    return (MDB_val){size, (void *)(uintptr_t)bytes};
}
static inline MDB_val text_val(const char *text)
{
    return bytes_val(text, strlen(text));
}

/* A put that waits for its commit: key, then value. */
struct put {
    MDB_dbi database;
    size_t key_size, value_size;
    unsigned char *bytes;
};

/* Called before each put of a change. An error refuses the put. */
typedef int put_hook(struct store *store, MDB_dbi database, const MDB_val *key, struct error *error);

struct change {
    bool open;
    put_hook *before_put; /* NULL: nobody wants to know */
    MDB_txn *kept; /* the snapshot that readers without locks may have: LMDB writes over none of its pages */
};

struct store {
    char *path;
    enum store_mode mode;
    int lock, own_lock; /* the writer's and the process's, or -1 */
    MDB_env *env;
    struct snapshots *snapshots;
    size_t map_growth; /* a full map grows by this, and by what waits */
    MDB_dbi meta, tokens, source, *tap; /* [taps] */
    MDB_dbi parameters; /* database "codec"; there when has_parameters */
    bool has_parameters; /* some tap's codec has them */
    json_t *manifest;
    struct store_info info;
    struct state state; /* the open transaction's changes included */

    /* Writing. Puts are kept in memory until store_commit, which gives all of them to one LMDB transaction.
     * When the map is full, the map is made larger, and the transaction is made again. */
    bool writing;
    struct change change; /* of a store that may be finished */
    bool failed; /* a commit failed: what this process believes may not be on disk */
    struct put *puts;
    size_t put_count, put_capacity, pending; /* pending in bytes */

    pthread_mutex_t coder_mutex;
    struct coder **coder; /* [taps], made when first asked for */
};

/* The number of a sequence among those of its split in this store, the reverse of store_sequence; an error when
 * it is another shard's. */
int store_number(const struct store *store, struct sequence sequence, uint64_t *number, struct error *error);

/* Puts "tap 12.mid, train sequence 7: " before the error. Always returns -1. */
int store_name_record(const struct store *store, int tap, struct sequence sequence, struct error *error);

/* Keeps a put for the next commit; inside a transaction only. */
int store_put(struct store *store, MDB_dbi database, MDB_val key, MDB_val value, struct error *error);
/* The same of a value in two parts, one behind the other. */
int store_put_parts(struct store *store, MDB_dbi database, MDB_val key, const MDB_val part[2],
                    struct error *error);
/* Commits and begins again where store_commit_due: for long lists of puts. */
int store_commit_often(struct store *store, struct error *error);
/* An error outside a transaction. */
int store_check_writing(const struct store *store, struct error *error);
/* An error unless a transaction may begin: the store is open for writing, and no transaction is open. */
int store_check_idle(const struct store *store, struct error *error);
/* The sequence that the next tokens of a split will have. */
struct sequence store_next_sequence(const struct store *store, enum split split);
/* Puts its tokens: a value of tokens_encode. */
int store_put_tokens_value(struct store *store, enum split split, const void *value, size_t size,
                           struct error *error);
/* Ends the transaction without a commit. */
void store_drop_puts(struct store *store);

/* ---- changing a store that may be finished ---- */

/* Begins a transaction, the first or a further one of a change. Until store_end_change, the store lacks
 * SEALED_FILE, and LMDB does not write over pages of the store as it was before, unless the map must grow. */
int store_begin_change(struct store *store, put_hook *before_put, struct error *error);
/* Outside a transaction. A sealed store gets SEALED_FILE back. */
int store_end_change(struct store *store, struct error *error);
/* From now on LMDB may write over the pages of the store as it was. */
void store_drop_kept(struct store *store);

/* Write and remove SEALED_FILE. */
int store_mark_sealed(const struct store *store, struct error *error);
int store_unmark_sealed(const struct store *store, struct error *error);

/* Where LMDB has mapped the file, as a page of meta says, which must be sound. */
int store_find_map(const struct store *store, MDB_txn *snapshot, struct pages_map *map, struct error *error);

/* A read-only snapshot (snapshot.h says who waits for whom); end it with store_end_snapshot. */
int store_snapshot(const struct store *store, MDB_txn **snapshot, struct error *error);
void store_end_snapshot(const struct store *store, MDB_txn *snapshot);

/* ---- codecs' parameters ---- */

/* "codec/12.mid", and for the copy "codec/12.mid/copy": what the hash of a tap's parameters begins with; the
 * database's key is what follows the first slash. */
#define PARAMETERS_NAME_SIZE (TAP_NAME_SIZE + 16)
void parameters_name(const struct store *store, int tap, int copy, char name[PARAMETERS_NAME_SIZE]);
#define PARAMETERS_KEY(name) ((name) + 6)

/* The parameters in the snapshot's map, checked; mv_data NULL: there are none. */
int parameters_find(const struct store *store, MDB_txn *snapshot, int tap, int copy, MDB_val *parameters,
                    struct error *error);
int parameters_put(struct store *store, int tap, int copy, MDB_val parameters, struct error *error);

/* ---- reading ---- */

struct reader {
    struct store *store;
    MDB_txn *snapshot;
    struct codec_worker *worker;
};

/* All checks of what reader_record gave; `parts`: of a record, what is wanted (record_decode). */
int reader_check(struct reader *reader, int tap, struct sequence sequence, const void *value, size_t size,
                 const struct record_parts *parts, struct error *error);

/* ---- state ---- */

#define KEY_STATE "state" /* in meta */

#define KEY_MANIFEST "manifest" /* in meta */

/* Appends the value of KEY_MANIFEST. */
int store_frame_manifest(const struct store *store, struct string *framed, struct error *error);
/* Appends the value of KEY_STATE. */
int store_frame_state(const struct store *store, struct string *framed, struct error *error);

#define STATE_SEQUENCES "sequences"
#define STATE_SEALED    "sealed"
#define STATE_NAME_SIZE (TAP_NAME_SIZE + 16)
/* "progress/TAP" */
void store_progress_name(const struct store *store, int tap, char name[STATE_NAME_SIZE]);

#endif
