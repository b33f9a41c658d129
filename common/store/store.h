/* store.h: hidden states of a tokenized corpus in one LMDB environment.
 *
 * Reading is done by any number of threads, each with its own reader:
 *
 *     store_open(path, STORE_READ, &store, error);
 *     reader_open(store, &reader, error);
 *     reader_states(reader, tap, sequence, states, error);
 *
 * Writing is done by one thread. A commit is synced to disk, and the progress marks go with the data they count. What was
 * committed survives kill -9 and power loss.
 *
 *     store_create(path, manifest, &store, error);              // or store_open(path, STORE_WRITE, ...)
 *     store_begin(store, error);
 *     store_put_tokens(store, split, ids, starts, count, error);
 *     store_coder(store, tap, &coder, error);                   // record.h makes a record
 *     store_put_record(store, tap, sequence, record.bytes, record.size, error);
 *     store_set_progress(store, tap, split, count, error);
 *     store_commit(store, error);
 *     store_close(store);
 *
 * Caveats:
 *   - A finished ("sealed") store is read without LMDB's locks, so that network and read-only file systems do. While it is
 *     changed (repair.h, extend.h), it lacks the file that says it is finished: who opens it then uses locks. Who had it
 *     open before reads on: no page of the store as it was is written over, unless a map that is full must grow.
 *   - A store that is not finished is read with LMDB's locks. A process opens it once at a time, since they are a
 *     process's: a second time is an error. Where there are no locks to be had it is read without them, unless its writer
 *     is at work.
 *   - The map may have to grow, which waits for open readers of other threads and is an error under one of the writer's
 *     own thread. A thread with an open reader must not wait for the writer (snapshot.h).
 *   - A reader keeps the pages of its snapshot from being used again: beside a writer, open it for little and close it.
 *   - Neither stores nor readers outlive a fork.
 *
 * A store is one of n shards (of 1, mostly). Each split is numbered 0 .. N-1 with no gap over all of them; shard i holds the
 * sequences i, i + n, i + 2n, ...: an index is the same wherever it lies, and so is its record. shards.h reads shards as
 * one.
 *
 * Every value carries an XXH3-64 of itself and its place, and nothing is used before that matches. docs/formats.md says
 * what the databases hold.
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

/* Keys and headers hold these numbers. */
enum split { SPLIT_TRAIN = 0, SPLIT_HELD_OUT = 1, SPLIT_COUNT };

/* "train", "held-out"; "unknown" for what is not a split. */
const char *split_name(enum split split);

struct sequence {
    enum split split;
    uint64_t index; /* in its split, over all shards */
};

/* ---- opening ---- */

struct store;
enum store_mode { STORE_READ, STORE_WRITE };

/* What the store was made for, parsed from the manifest (manifest.h documents its JSON). */
struct store_info {
    int layers, hidden, vocab; /* of the model */
    int rows; /* tokens per sequence, T */
    int shard, shards; /* this is shard 0 .. shards-1 */
    int taps;
    struct tap *tap; /* [taps], ascending; the last one may be the target */
    struct codec_choice *codec; /* [taps] */
    struct columns columns; /* of the target; none without one */
};

/* STORE_READ never writes. STORE_WRITE refuses a second writer. Size and meta pages are checked before anything is
 * believed, and all of LMDB's trees before anything is written. */
int store_open(const char *path, enum store_mode mode, struct store **store, struct error *error);
/* No reader is open. An open transaction is dropped. NULL is fine. */
void store_close(struct store *store);
bool store_exists(const char *path);

/* A new store in folder `path` (made if missing; an existing store there is an error). The manifest
 * must hold {"model": {"layers", "hidden", "vocab", ...}, "rows": T, "taps": [{"name", "codec"}], ...};
 * what else it holds is kept as it is. ("model" is config_to_json's object with one member more,
 * "fingerprint", as model_fingerprint gives it.) */
int store_create(const char *path, const json_t *manifest, struct store **store, struct error *error);

/* Appends to the text of an ERROR_DAMAGED error of a store what finds the damage and mends it. Always returns -1. */
int store_advise(struct error *error);

/* ---- asking ---- */

const char *store_path(const struct store *store);
const struct store_info *store_info(const struct store *store);
const json_t *store_manifest(const struct store *store); /* borrowed */
/* The index of a tap in store_info, or -1 with an error that lists the taps there are. */
int store_find_tap(const struct store *store, struct tap tap, struct error *error);

/* The sequence that has a number, from 0, among those of its split in this store. */
struct sequence store_sequence(const struct store_info *info, enum split split, uint64_t number);

/* Sequences of tokens in this store: when it was opened, or by now in the writer's, whose open
 * transaction counts. */
uint64_t store_sequences(const struct store *store, enum split split);
/* Of those, the first so many have their record at tap (an index in store_info). */
uint64_t store_progress(const struct store *store, int tap, enum split split);
/* All taps have all sequences, and store_seal was called. */
bool store_is_sealed(const struct store *store);

/* ---- reading ---- */

/* One thread's view of the store as it was committed when the reader was opened. */
struct reader;
int reader_open(struct store *store, struct reader **reader, struct error *error);
void reader_close(struct reader *reader); /* NULL is fine */

/* ids [rows + 1]. */
int reader_tokens(struct reader *reader, struct sequence sequence, int32_t *ids, struct error *error);

/* Checked and decoded: states [rows, cols] f32; of the target its u (see reader_target). */
int reader_states(struct reader *reader, int tap, struct sequence sequence, float *states, struct error *error);

/* ---- writing, one thread, inside a transaction ---- */

int store_begin(struct store *store, struct error *error);
/* The value's bytes are copied, and written by store_commit. The header must be this tap's and
 * sequence's, and the sequence's tokens put before; records come in any order, ascending is best. A
 * second record of a sequence replaces the first. */
int store_put_record(struct store *store, int tap, struct sequence sequence, const void *record, size_t size,
                     struct error *error);
/* ids [rows + 1]; starts: rows of the document starts among them (ascending). Appends the next
 * sequence of the split. */
int store_put_tokens(struct store *store, enum split split, const int32_t *ids, const int32_t *starts,
                     int count, struct error *error);

int store_set_progress(struct store *store, int tap, enum split split, uint64_t count, struct error *error);
/* Whether so much was put since store_begin (64 MB) that it is time to commit: a transaction lives in memory. */
bool store_commit_due(const struct store *store);
/* All of it or nothing. (A map that is full is grown and the puts done again: callers see nothing of
 * it.) After a failed commit the store must be closed and opened again. */
int store_commit(struct store *store, struct error *error);
/* Outside a transaction. Every tap must have every sequence; nothing can be put afterwards. */
int store_seal(struct store *store, struct error *error);

/* ---- records ---- */

/* The tap's codec, ready with its parameters; the store's, safe from any thread. An error where they have
 * not been put yet. */
int store_coder(struct store *store, int tap, const struct coder **coder, struct error *error);
/* The parameters' bytes, checked; free() them. *bytes NULL: the tap has none, or none yet. */
int store_get_parameters(struct store *store, int tap, void **bytes, size_t *size, struct error *error);

/* The parameters of a tap's codec: put once, before its first record, and kept with a copy. From then on store_coder gives its coder. */
int store_put_parameters(struct store *store, int tap, const void *bytes, size_t size, struct error *error);

/* ---- more of reading ---- */

/* The rows at which documents start: starts [rows + 1] and how many of them; the last may be that of the label behind
 * the last row. */
int reader_starts(struct reader *reader, struct sequence sequence, int32_t *starts, int *count,
                  struct error *error);

/* The record's bytes in the map (with STORE_TOKENS those of the token list), valid until the reader is
 * closed; not checked. */
int reader_record(struct reader *reader, int tap, struct sequence sequence, const void **record, size_t *size,
                  struct error *error);

/* As reader_states without a copy where the record is the values themselves: *view is of them in the map then, valid
 * until the reader is closed, and `states` not used; else of `states`. (What was checked are the bytes in memory: the
 * system may forget them, and read them from disk again.) */
int reader_view(struct reader *reader, int tap, struct sequence sequence, float *states,
                struct states_view *view, struct error *error);

/* Has the system read a record from disk, without waiting for it. Returns its bytes; 0: there is none. */
size_t reader_ahead(struct reader *reader, int tap, struct sequence sequence);
/* The pages of a record no longer count as this process's memory, until they are read again. */
void reader_forget(struct reader *reader, int tap, struct sequence sequence);

/* ---- notes, and tensors of the model ---- */

/* A small value (up to 1 MB) of the writer's own, such as a corpus position; written in every commit. */
int store_put_note(struct store *store, const char *name, const void *value, size_t size, struct error *error);

/* The note's bytes, free() them; *value NULL when there is none. */
int store_get_note(struct store *store, const char *name, void **value, size_t *size, struct error *error);

/* Of a frozen tensor of the model: its type in the model's file, and [rows, cols]. A vector has one row. */
struct source_shape {
    enum dtype type;
    int64_t rows, cols;
};

/* A frozen tensor of the model, kept in pieces of at most 16 MB, each hashed: name such as
 * "final_norm", "output", "12/mlp_gate" (role_name, layer 1-based before it). Commits and begins again
 * whenever more than 64 MB wait, since a transaction lives in memory. */
int store_put_source(struct store *store, const char *name, struct source_shape shape, const void *data,
                     struct error *error);

/* The whole tensor in its own dtype, checked against its hashes; free(*data). Missing: an error that
 * names it. */
int store_get_source(struct store *store, const char *name, struct source_shape *shape, void **data,
                     struct error *error);
/* Its shape; an error names the tensors that there are. */
int store_find_source(struct store *store, const char *name, struct source_shape *shape, struct error *error);
/* The same bytes as store_get_source, piece after piece as they lie in the map, each checked; -1 from `visit` stops. */
typedef int source_visitor(void *context, const void *bytes, size_t size, struct error *error);
int store_visit_source(struct store *store, const char *name, source_visitor *visit, void *context,
                       struct error *error);

/* ---- room ---- */

/* Disk pages of a tap (an index in store_info), of the tokens, of the model's tensors or of the codecs' parameters. */
#define STORE_PARAMETERS_COPIES 2 /* of each tap's; what is measured is both */
enum { STORE_TOKENS = -1, STORE_SOURCE = -2, STORE_PARAMETERS = -3 };
struct store_usage {
    uint64_t values, bytes;
};
int store_measure(const struct store *store, int tap, struct store_usage *usage, struct error *error);
/* About what a value of so many bytes will add to that. */
double store_value_bytes(size_t size);
/* Of those, the unused end of its last page. */
size_t store_value_slack(size_t size);
/* What the store's file takes of the disk. Pages in it that nothing uses are written to before it grows. */
int store_file_bytes(const struct store *store, uint64_t *bytes, struct error *error);

/* Removes the files of a store that nobody has open, and its folder when that is empty then. */
int store_remove(const char *path, struct error *error);

#endif
