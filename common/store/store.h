/* store.h: hidden states of a tokenized corpus in one LMDB environment.
 *
 * Any number of threads read, each with its own reader:
 *
 *     store_open(path, STORE_READ, &store, error);
 *     reader_open(store, &reader, error);
 *     reader_states(reader, tap, sequence, states, error);
 *
 * One thread writes:
 *
 *     store_create(path, manifest, &store, error);              // or store_open(path, STORE_WRITE, ...)
 *     store_begin(store, error);
 *     store_put_tokens(store, split, ids, starts, count, error);
 *     store_coder(store, tap, &coder, error);                   // record.h makes a record
 *     store_put_record(store, tap, sequence, record.bytes, record.size, error);
 *     store_set_progress(store, tap, split, count, error);
 *     store_commit(store, error);                               // synced: it survives kill -9 and power loss
 *     store_seal(store, error);                                 // when everything is there
 *     store_close(store);
 *
 * Caveats:
 *   - A sealed store is read without LMDB's locks, so that network file systems and read-only ones serve. While somebody
 *     changes it (common/repair, extend.h), it counts as unsealed: a reader that opens it then uses locks. A reader that
 *     has it open already reads on without: no page that it may see is written over, unless the map is full and must grow.
 *   - A store that is not sealed is read with LMDB's locks. They belong to the process, so opening the store a second time in
 *     one process is an error. Where the file system has no locks, it is read without them; while its writer is at work,
 *     that is an error.
 *   - The map may have to grow. That waits for readers of other threads, and is an error under a reader of the writer's own
 *     thread. A thread with an open reader must not wait for the writer (snapshot.h).
 *   - A reader keeps the pages that it may see from being used again. Beside a writer, close it soon.
 *   - Neither stores nor readers outlive a fork.
 *
 * A store is one of n shards, mostly of 1. Each split is numbered 0 .. N-1 over all shards. Shard i holds the
 * sequences i, i + n, i + 2n, ...: so a sequence has the same index, and the same record, in any number of
 * shards. shards.h reads all shards as one.
 *
 * Every value carries an XXH3-64 of its key and itself, and is not used before that matches. docs/formats.md
 * says what is in the databases. Errors name the store's path.
 */
#ifndef OFFRAMP_STORE_STORE_H
#define OFFRAMP_STORE_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/codec/codec.h"
#include "common/store/columns.h"
#include "common/store/tap.h"
#include "kernels/dtype.h"

#define STORE_VERSION 2

/* ---- opening ---- */

struct store;
enum store_mode { STORE_READ, STORE_WRITE };

/* STORE_READ never writes, and checks the file's size and meta pages first. STORE_WRITE refuses a second
 * writer, and checks all of LMDB's trees first. A damaged structure is ERROR_DAMAGED. */
int store_open(const char *path, enum store_mode mode, struct store **store, struct error *error);
/* All readers are closed. Drops an open transaction. NULL is fine. */
void store_close(struct store *store);
bool store_exists(const char *path);

/* A new store in the folder `path`, which is made if it is missing, opened for writing. A store that is there
 * already is an error, and so are other files. manifest.h says what the manifest must hold. */
int store_create(const char *path, const json_t *manifest, struct store **store, struct error *error);

/* ---- asking ---- */

/* What the store was made for, from the manifest. A tap's index, here and below, is that in `tap`. */
struct store_info {
    int layers, hidden, vocab; /* of the model */
    int rows; /* tokens per sequence, T */
    int shard, shards; /* this is shard 0 .. shards-1 */
    int taps;
    struct tap *tap; /* [taps], ascending; the last one may be the target */
    struct codec_choice *codec; /* [taps] */
    struct columns columns; /* of the target; none without one */
};

/* All three are the store's. */
const char *store_path(const struct store *store);
const struct store_info *store_info(const struct store *store);
const json_t *store_manifest(const struct store *store);

/* The index of a tap. -1 and an error, which lists the taps that there are: it is not one of them. */
int store_find_tap(const struct store *store, struct tap tap, struct error *error);

/* Keys and headers hold these numbers. */
enum split { SPLIT_TRAIN = 0, SPLIT_HELD_OUT = 1, SPLIT_COUNT };

/* "train", "held-out"; "unknown" for what is not a split. */
const char *split_name(enum split split);

/* Of all splits together. */
uint64_t split_sum(const uint64_t count[SPLIT_COUNT]);

/* How many sequences of a split have tokens here: when the store was opened, or in the writer's now, with its
 * open transaction. */
uint64_t store_sequences(const struct store *store, enum split split);
/* So many of these, from the first on, have their record at a tap. */
uint64_t store_progress(const struct store *store, int tap, enum split split);
/* The same of all splits together. */
uint64_t store_all_sequences(const struct store *store);
uint64_t store_all_progress(const struct store *store, int tap);
/* store_seal was called: every sequence has its record at every tap. */
bool store_is_sealed(const struct store *store);

struct sequence {
    enum split split;
    uint64_t index; /* in its split, over all shards */
};

/* The sequence that has a number, from 0, among those of its split in this store. */
struct sequence store_sequence(const struct store_info *info, enum split split, uint64_t number);
/* The same for those who have no store_info. */
struct sequence shard_sequence(int shard, int shards, enum split split, uint64_t number);
/* How many of the first `count` sequences of a split, over all shards, belong to this store. */
uint64_t store_share(const struct store_info *info, uint64_t count);

/* ---- reading ---- */

/* One thread's view of what was committed when the reader was opened. */
struct reader;
int reader_open(struct store *store, struct reader **reader, struct error *error);
void reader_close(struct reader *reader); /* NULL is fine */

/* ids [rows + 1]: the sequence's tokens, and the label of the last one. */
int reader_tokens(struct reader *reader, struct sequence sequence, int32_t *ids, struct error *error);

/* states [rows, hidden], checked and decoded; of the target u (target.h). */
int reader_states(struct reader *reader, int tap, struct sequence sequence, float *states, struct error *error);

/* ---- writing ---- */

/* Begins a transaction. A sealed store is an error. */
int store_begin(struct store *store, struct error *error);

/* Appends the next sequence of a split. ids [rows + 1], each below vocab. starts [count]: the rows at which
 * documents start, ascending, `rows` included. */
int store_put_tokens(struct store *store, enum split split, const int32_t *ids, const int32_t *starts,
                     int count, struct error *error);
/* Copies a record, whose header must name this tap and sequence. The sequence's tokens were put before. Records
 * may come in any order; ascending ones pack best. A second record of a sequence replaces the first. */
int store_put_record(struct store *store, int tap, struct sequence sequence, const void *record, size_t size,
                     struct error *error);
/* The first `count` sequences of a split have their record at a tap. The caller has seen to that. */
int store_set_progress(struct store *store, int tap, enum split split, uint64_t count, struct error *error);

/* Whether so much was put since store_begin (64 MB) that it is time to commit: a transaction lives in
 * memory. */
bool store_commit_due(const struct store *store);
/* Ends the transaction: all of it is on the disk, or nothing. After an error the store must be closed and
 * opened again. */
int store_commit(struct store *store, struct error *error);

/* Outside a transaction. Every sequence must have its record at every tap. Nothing can be put afterwards. */
int store_seal(struct store *store, struct error *error);

/* ======== Advanced ======== */

/* ---- codecs with parameters ---- */

/* The tap's codec, ready with its parameters. It is the store's, and serves any thread. Parameters that were
 * not put yet are an error. */
int store_coder(struct store *store, int tap, const struct coder **coder, struct error *error);

/* The parameters of a tap's codec: put once, in a transaction, before the tap's first record. They are stored
 * twice. */
#define STORE_PARAMETERS_COPIES 2
int store_put_parameters(struct store *store, int tap, const void *bytes, size_t size, struct error *error);
/* free(*bytes). *bytes NULL: the codec has none, or they were not put yet. */
int store_get_parameters(struct store *store, int tap, void **bytes, size_t *size, struct error *error);

/* ---- more of reading ---- */

/* starts [rows + 1], *count of them: the rows at which documents start. The last may be `rows`, the label's. */
int reader_starts(struct reader *reader, struct sequence sequence, int32_t *starts, int *count,
                  struct error *error);

/* As reader_states, without a copy where the record holds the values themselves: *view is of them in the map
 * then, valid until the reader is closed. Else *view is of `states`. The bytes in memory were checked; the
 * system may drop them, and read them from disk again unchecked. */
int reader_view(struct reader *reader, int tap, struct sequence sequence, float *states,
                struct states_view *view, struct error *error);

/* What is not a tap, for the functions that take one where they say so. */
enum { STORE_TOKENS = -1, STORE_SOURCE = -2, STORE_PARAMETERS = -3 };

/* The record's bytes in the map, unchecked, valid until the reader is closed. tap: also STORE_TOKENS. */
int reader_record(struct reader *reader, int tap, struct sequence sequence, const void **record, size_t *size,
                  struct error *error);

/* Asks the system to read a record from disk, and does not wait for it. Returns its bytes; 0: there is none. */
size_t reader_ahead(struct reader *reader, int tap, struct sequence sequence);
/* A record's pages no longer count as this process's memory, until they are read again. */
void reader_forget(struct reader *reader, int tap, struct sequence sequence);

/* ---- notes ---- */

/* A small value of the writer's own, such as a position in the corpus; at most 1 MB, since every commit writes
 * it again. */
int store_put_note(struct store *store, const char *name, const void *value, size_t size, struct error *error);
/* free(*value). *value NULL: there is none. */
int store_get_note(struct store *store, const char *name, void **value, size_t *size, struct error *error);

/* ---- frozen tensors of the model ---- */

/* The tensor's type in the model's file, and [rows, cols]. A vector has one row. */
struct source_shape {
    enum dtype type;
    int64_t rows, cols;
};

/* `name`: "final_norm", "output", "12/mlp_gate" (role_name; the layer, from 1, before it). Stored in parts of
 * at most 16 MB, each hashed. Commits and begins again whenever store_commit_due. */
int store_put_source(struct store *store, const char *name, struct source_shape shape, const void *data,
                     struct error *error);
/* The whole tensor, checked; free(*data). A missing one is an error that names those there are. */
int store_get_source(struct store *store, const char *name, struct source_shape *shape, void **data,
                     struct error *error);
/* Its shape alone. */
int store_find_source(struct store *store, const char *name, struct source_shape *shape, struct error *error);
/* Its bytes part after part, as they lie in the map, each checked. -1 from `visit` stops. */
typedef int source_visitor(void *context, const void *bytes, size_t size, struct error *error);
int store_visit_source(struct store *store, const char *name, source_visitor *visit, void *context,
                       struct error *error);

/* ---- room ---- */

struct store_usage {
    uint64_t values, bytes; /* bytes: of whole pages on disk */
};
/* What a tap takes, or all tokens, tensors or parameters. tap: also STORE_TOKENS, STORE_SOURCE,
 * STORE_PARAMETERS. */
int store_measure(const struct store *store, int tap, struct store_usage *usage, struct error *error);
/* About what a value of so many bytes adds to that. */
double store_value_bytes(size_t size);
/* Of that, the unused end of its last page. */
size_t store_value_slack(size_t size);
/* What the file takes of the disk. It has unused pages, which are filled before it grows. */
int store_file_bytes(const struct store *store, uint64_t *bytes, struct error *error);

/* ---- the end of a store, and of an error ---- */

/* Whether a store that may be too damaged to open was finished: 1 or 0. -1 when a writer is at work on it; the error names
 * the writer's process. */
int store_was_finished(const char *path, struct error *error);

/* Removes the files of a store that nobody has open, and its folder when that is empty then. A path that is a
 * symbolic link is an error: what it leads to may serve others. */
int store_remove(const char *path, struct error *error);

/* Adds to an ERROR_DAMAGED of a store how damage is found and mended. Always returns -1. */
int store_advise(struct error *error);

#endif
