/* Writing: puts are kept, then given to LMDB in one synced transaction. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/store/environment.h"
#include "common/store/format.h"
#include "common/store/internal.h"
#include "common/store/target.h"

#define NOTE_MAX      ((size_t)1 << 20)
#define PENDING_LIMIT ((size_t)64 << 20)

/* ---- putting ---- */

int store_check_writing(const struct store *store, struct error *error)
{
    return store->writing ? 0 : error_set(error, "%s: nothing can be put outside a transaction", store->path);
}

void store_drop_puts(struct store *store)
{
    for (size_t i = 0; i < store->put_count; i++)
        free(store->puts[i].bytes);
    store->put_count = 0;
    store->pending = 0;
    store->writing = false;
}

int store_put_parts(struct store *store, MDB_dbi database, MDB_val key, const MDB_val part[2],
                    struct error *error)
{
    const size_t size = part[0].mv_size + part[1].mv_size;
    if (store_check_writing(store, error) < 0)
        return -1;
    if (size > UINT32_MAX - 4096)
        return error_set(error, "%s: a value of %zu bytes is more than LMDB keeps", store->path, size);
    if (store->change.before_put && store->change.before_put(store, database, &key, error) < 0)
        return -1;
    if (array_grow(&store->puts, &store->put_capacity, store->put_count + 1, error) < 0)
        return -1;
    unsigned char *bytes = malloc(key.mv_size + size), *end = bytes;
    if (!bytes)
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory: %zu bytes could not be had",
                              key.mv_size + size);
    end = mempcpy(end, key.mv_data, key.mv_size);
    end = mempcpy(end, part[0].mv_data, part[0].mv_size);
    if (part[1].mv_size > 0)
        memcpy(end, part[1].mv_data, part[1].mv_size);
    store->puts[store->put_count++] = (struct put){database, key.mv_size, size, bytes};
    store->pending += size;
    return 0;
}

int store_put(struct store *store, MDB_dbi database, MDB_val key, MDB_val value, struct error *error)
{
    return store_put_parts(store, database, key, (MDB_val[]){value, {0}}, error);
}

int store_check_idle(const struct store *store, struct error *error)
{
    if (store->mode != STORE_WRITE)
        return error_set(error, "%s: is open for reading only", store->path);
    if (store->failed)
        return error_set(error, "%s: an earlier commit failed; open the store again", store->path);
    if (store->writing)
        return error_set(error, "%s: a transaction is open already", store->path);
    return 0;
}

int store_begin(struct store *store, struct error *error)
{
    if (store_check_idle(store, error) < 0)
        return -1;
    if (store_is_sealed(store) && !store->change.open)
        return error_set(error, "%s: the store is finished and sealed", store->path);
    store->writing = true;
    return 0;
}

struct sequence store_next_sequence(const struct store *store, enum split split)
{
    return store_sequence(&store->info, split, store_sequences(store, split));
}

bool store_commit_due(const struct store *store)
{
    return store->pending >= PENDING_LIMIT;
}

int store_put_record(struct store *store, int tap, struct sequence sequence, const void *record, size_t size,
                     struct error *error)
{
    struct record_header header;
    unsigned char key[SEQUENCE_KEY_SIZE];
    const struct coder *coder;
    uint64_t number;
    if (store_check_writing(store, error) < 0 || store_number(store, sequence, &number, error) < 0)
        return -1;
    int result = store_coder(store, tap, &coder, error);
    if (result == 0) {
        const struct record_key expected = record_key(&store->info, coder, tap, sequence);
        result = record_check_header(&expected, record, size, &header, error);
    }
    if (result < 0) {
        store_name_record(store, tap, sequence, error);
        return error_prefix(error, "%s", store->path);
    }
    if (number >= store_sequences(store, sequence.split))
        return error_set(error, "%s: %s sequence %" PRIu64 " has no tokens yet", store->path,
                         split_name(sequence.split), sequence.index);
    sequence_key(sequence, key);
    return store_put(store, store->tap[tap], bytes_val(key, sizeof key), bytes_val(record, size), error);
}

int store_put_tokens_value(struct store *store, enum split split, const void *value, size_t size,
                           struct error *error)
{
    uint64_t counts[SPLIT_COUNT];
    unsigned char key[SEQUENCE_KEY_SIZE];
    for (enum split s = 0; s < SPLIT_COUNT; s++)
        counts[s] = store_sequences(store, s);
    sequence_key(store_next_sequence(store, split), key);
    counts[split]++;
    if (store_put(store, store->tokens, bytes_val(key, sizeof key), bytes_val(value, size), error) < 0)
        return -1;
    return state_set(&store->state, STATE_SEQUENCES, counts, sizeof counts, error);
}

int store_put_tokens(struct store *store, enum split split, const int32_t *ids, const int32_t *starts,
                     int count, struct error *error)
{
    struct string value = {0};
    if (store_check_writing(store, error) < 0)
        return -1;
    int result =
        tokens_encode(&store->info, store_next_sequence(store, split), ids, starts, count, &value, error);
    if (result < 0)
        error_prefix(error, "%s", store->path);
    else
        result = store_put_tokens_value(store, split, value.data, value.length, error);
    string_free(&value);
    return result;
}

int store_put_note(struct store *store, const char *name, const void *value, size_t size, struct error *error)
{
    char entry[256];
    if (store_check_writing(store, error) < 0)
        return -1;
    if (size > NOTE_MAX || strlen(name) > 200)
        return error_set(error, "%s: note \"%s\" of %zu bytes is larger than a note may be", store->path, name,
                         size);
    snprintf(entry, sizeof entry, "note/%s", name);
    return state_set(&store->state, entry, value, size, error);
}

int store_set_progress(struct store *store, int tap, enum split split, uint64_t count, struct error *error)
{
    uint64_t counts[SPLIT_COUNT];
    char name[STATE_NAME_SIZE];
    if (store_check_writing(store, error) < 0)
        return -1;
    for (enum split s = 0; s < SPLIT_COUNT; s++)
        counts[s] = store_progress(store, tap, s);
    counts[split] = count;
    store_progress_name(store, tap, name);
    if (count > store_sequences(store, split))
        return error_set(error, "%s: %s: %" PRIu64 " %s sequences, but only %" PRIu64 " have tokens",
                         store->path, name, count, split_name(split), store_sequences(store, split));
    return state_set(&store->state, name, counts, sizeof counts, error);
}

/* ---- committing ---- */

/* Keys that ascend fill LMDB's pages completely. Others (train after held-out) go between those that are
 * there. */
static int put_pending(MDB_txn *transaction, const struct put *put)
{
    MDB_val key = {put->key_size, put->bytes}, value = {put->value_size, put->bytes + put->key_size};
    int code = mdb_put(transaction, put->database, &key, &value, MDB_APPEND);
    return code == MDB_KEYEXIST ? mdb_put(transaction, put->database, &key, &value, 0) : code;
}

/* All puts and the state in one LMDB transaction. Returns LMDB's code. */
static int apply(struct store *store, struct string *state)
{
    MDB_txn *transaction;
    MDB_val key = text_val(KEY_STATE), value = {state->length, state->data};
    int code = mdb_txn_begin(store->env, NULL, 0, &transaction);
    if (code)
        return code;
    for (size_t i = 0; code == 0 && i < store->put_count; i++)
        code = put_pending(transaction, &store->puts[i]);
    if (code == 0)
        code = mdb_put(transaction, store->meta, &key, &value, 0);
    if (code) {
        mdb_txn_abort(transaction);
        return code;
    }
    return mdb_txn_commit(transaction);
}

/* The map cannot grow under a transaction, so a change gives up the pages of the store as it was. */
static int grow_map(struct store *store, struct error *error)
{
    store_drop_kept(store);
    if (snapshots_grow_map(store->snapshots, store->env, store->map_growth + 2 * store->pending, error) < 0)
        return error_prefix(error, "%s", store->path);
    return 0;
}

/* Otherwise all that a writer reads and writes for days would count as its memory. */
static void release_pages(struct store *store)
{
    MDB_txn *snapshot;
    struct pages_map map;
    struct error ignored;
    if (store_snapshot(store, &snapshot, &ignored) < 0)
        return;
    if (store_find_map(store, snapshot, &map, &ignored) == 0)
        environment_release(store->env, &map);
    store_end_snapshot(store, snapshot);
}

int store_commit(struct store *store, struct error *error)
{
    struct string state = {0};
    if (store_check_writing(store, error) < 0)
        return -1;
    int result = store_frame_state(store, &state, error), code = 0;
    while (result == 0 && (code = apply(store, &state)) == MDB_MAP_FULL)
        result = grow_map(store, error);
    if (result == 0 && code != 0)
        result = environment_error(error, code, "%s: cannot be written", store->path);
    string_free(&state);
    store->failed = result < 0;
    store_drop_puts(store);
    if (result == 0)
        release_pages(store);
    return result;
}

int store_commit_often(struct store *store, struct error *error)
{
    if (!store_commit_due(store))
        return 0;
    return store_commit(store, error) < 0 ? -1 : store_begin(store, error);
}

/* ---- the mark of a finished store ---- */

int store_mark_sealed(const struct store *store, struct error *error)
{
    static const char text[] = "This store is finished: readers need no locks.\n";
    char *marker = path_join(store->path, SEALED_FILE, error);
    if (!marker)
        return -1;
    int result = file_exists(marker) ? 0 : file_write(marker, text, sizeof text - 1, error);
    free(marker);
    return result;
}

int store_unmark_sealed(const struct store *store, struct error *error)
{
    char *mark = path_join(store->path, SEALED_FILE, error);
    if (!mark)
        return -1;
    int result = file_remove(mark, error);
    free(mark);
    return result;
}

/* ---- changing ---- */

static int keep_pages(struct store *store, struct error *error)
{
    MDB_txn **kept = &store->change.kept;
    int code = *kept ? 0 : mdb_txn_begin(store->env, NULL, MDB_RDONLY, kept);
    return code ? environment_error(error, code, "%s: cannot be read", store->path) : 0;
}

void store_drop_kept(struct store *store)
{
    if (store->change.kept)
        mdb_txn_abort(store->change.kept);
    store->change.kept = NULL;
}

int store_begin_change(struct store *store, put_hook *before_put, struct error *error)
{
    if (store_check_idle(store, error) < 0 || store_unmark_sealed(store, error) < 0 ||
        keep_pages(store, error) < 0)
        return -1;
    store->change.before_put = before_put;
    store->change.open = store->writing = true;
    return 0;
}

int store_end_change(struct store *store, struct error *error)
{
    store->change.open = false;
    store->change.before_put = NULL;
    store_drop_kept(store);
    return store_is_sealed(store) ? store_mark_sealed(store, error) : 0;
}

/* ---- sealing ---- */

static int check_complete(const struct store *store, struct error *error)
{
    for (int tap = 0; tap < store->info.taps; tap++)
        for (enum split split = 0; split < SPLIT_COUNT; split++)
            if (store_progress(store, tap, split) != store_sequences(store, split)) {
                char name[TAP_NAME_SIZE];
                tap_name(store->info.tap[tap], store->info.layers, name);
                return error_set(error,
                                 "%s: cannot be sealed: tap %s has %" PRIu64 " of %" PRIu64 " %s sequences",
                                 store->path, name, store_progress(store, tap, split),
                                 store_sequences(store, split), split_name(split));
            }
    return 0;
}

int store_seal(struct store *store, struct error *error)
{
    if (store_check_idle(store, error) < 0)
        return -1;
    if (!store_is_sealed(store)) {
        if (store_begin(store, error) < 0)
            return -1;
        if (check_complete(store, error) < 0 || state_set(&store->state, STATE_SEALED, "", 0, error) < 0) {
            store_drop_puts(store);
            return -1;
        }
        if (store_commit(store, error) < 0)
            return -1;
    }
    return store_end_change(store, error);
}
