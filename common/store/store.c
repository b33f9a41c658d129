/* Makes, opens and asks a store. transaction.c writes, reader.c reads. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/store/environment.h"
#include "common/store/format.h"
#include "common/store/internal.h"
#include "common/store/manifest.h"
#include "common/store/target.h"

#define DATA_NEW "data.mdb.new"

/* ---- asking ---- */

bool store_exists(const char *path)
{
    struct error ignored;
    char *data = path_join(path, DATA_FILE, &ignored);
    bool found = data && file_exists(data);
    free(data);
    return found;
}

/* All that a store's folder holds. */
static const char *const files[] = {SEALED_FILE, DATA_FILE, DATA_NEW, "lock.mdb", WRITER_FILE, NULL};

int store_remove(const char *path, struct error *error)
{
    int result = 0;
    if (path_is_link(path))
        return error_set(
            error,
            "%s: is a symbolic link, and nothing was removed. Name the folder itself, or remove the link",
            path);
    for (int i = 0; files[i] && result == 0; i++) {
        char *file = path_join(path, files[i], error);
        if (!file)
            return -1;
        result = file_remove(file, error);
        free(file);
    }
    return result < 0 ? -1 : directory_remove(path, error);
}

int store_advise(struct error *error)
{
    return error->kind != ERROR_DAMAGED
               ? -1
               : error_set_kind(error, ERROR_DAMAGED,
                                "%s (`cache verify` finds all that is damaged, `cache repair` mends it)",
                                error->text);
}

const char *store_path(const struct store *store)
{
    return store->path;
}

const struct store_info *store_info(const struct store *store)
{
    return &store->info;
}

const json_t *store_manifest(const struct store *store)
{
    return store->manifest;
}

int store_find_tap(const struct store *store, struct tap tap, struct error *error)
{
    struct string names = {0};
    char name[TAP_NAME_SIZE];
    for (int i = 0; i < store->info.taps; i++) {
        if (tap_compare(store->info.tap[i], tap) == 0) {
            string_free(&names);
            return i;
        }
        tap_name(store->info.tap[i], store->info.layers, name);
        string_print(&names, "%s%s", i ? ", " : "", name);
    }
    tap_name(tap, store->info.layers, name);
    if (!string_failed(&names, error))
        error_set_kind(error, ERROR_USAGE, "%s: there is no tap %s; the store has %s", store->path, name,
                       names.data);
    string_free(&names);
    return -1;
}

int store_find_target(const struct store_info *info)
{
    return info->taps > 0 && info->tap[info->taps - 1].layer > info->layers ? info->taps - 1 : -1;
}

void store_progress_name(const struct store *store, int tap, char name[STATE_NAME_SIZE])
{
    char tap_text[TAP_NAME_SIZE];
    tap_name(store->info.tap[tap], store->info.layers, tap_text);
    snprintf(name, STATE_NAME_SIZE, "progress/%s", tap_text);
}

static uint64_t state_count(const struct state *state, const char *name, enum split split)
{
    uint64_t counts[SPLIT_COUNT] = {0};
    size_t size;
    const void *value = state_get(state, name, &size);
    if (value && size == sizeof counts)
        memcpy(counts, value, sizeof counts);
    return counts[split];
}

uint64_t store_sequences(const struct store *store, enum split split)
{
    return state_count(&store->state, STATE_SEQUENCES, split);
}

uint64_t store_progress(const struct store *store, int tap, enum split split)
{
    char name[STATE_NAME_SIZE];
    store_progress_name(store, tap, name);
    return state_count(&store->state, name, split);
}

uint64_t split_sum(const uint64_t count[SPLIT_COUNT])
{
    return count[SPLIT_TRAIN] + count[SPLIT_HELD_OUT];
}

uint64_t store_all_sequences(const struct store *store)
{
    return store_sequences(store, SPLIT_TRAIN) + store_sequences(store, SPLIT_HELD_OUT);
}

uint64_t store_all_progress(const struct store *store, int tap)
{
    return store_progress(store, tap, SPLIT_TRAIN) + store_progress(store, tap, SPLIT_HELD_OUT);
}

bool store_is_sealed(const struct store *store)
{
    size_t size;
    return state_get(&store->state, STATE_SEALED, &size) != NULL;
}

int store_get_note(struct store *store, const char *name, void **value, size_t *size, struct error *error)
{
    char entry[256];
    *value = NULL;
    *size = 0;
    if (snprintf(entry, sizeof entry, "note/%s", name) >= (int)sizeof entry)
        return 0;
    const void *found = state_get(&store->state, entry, size);
    if (!found)
        return 0;
    if (!(*value = memory_alloc(*size, 1, error)))
        return -1;
    memcpy(*value, found, *size);
    return 0;
}

int store_measure(const struct store *store, int tap, struct store_usage *usage, struct error *error)
{
    MDB_txn *snapshot;
    MDB_stat stat;
    *usage = (struct store_usage){0};
    if (tap == STORE_PARAMETERS && !store->has_parameters)
        return 0;
    MDB_dbi database = tap == STORE_TOKENS       ? store->tokens
                       : tap == STORE_SOURCE     ? store->source
                       : tap == STORE_PARAMETERS ? store->parameters
                                                 : store->tap[tap];
    if (store_snapshot(store, &snapshot, error) < 0)
        return -1;
    int code = mdb_stat(snapshot, database, &stat);
    store_end_snapshot(store, snapshot);
    if (code)
        return environment_error(error, code, "%s: cannot be measured", store->path);
    usage->values = stat.ms_entries;
    usage->bytes =
        (uint64_t)(stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages) * stat.ms_psize;
    return 0;
}

/* LMDB makes a new file with the system's page size. */
double store_value_bytes(size_t size)
{
    return pages_value_bytes((size_t)sysconf(_SC_PAGESIZE), SEQUENCE_KEY_SIZE, size);
}

size_t store_value_slack(size_t size)
{
    return pages_value_slack((size_t)sysconf(_SC_PAGESIZE), SEQUENCE_KEY_SIZE, size);
}

int store_file_bytes(const struct store *store, uint64_t *bytes, struct error *error)
{
    struct stat status;
    int file;
    if (mdb_env_get_fd(store->env, &file) != 0 || fstat(file, &status) < 0)
        return error_system(error, "%s: the size of its file", store->path);
    *bytes = (uint64_t)status.st_blocks * 512;
    return 0;
}

int store_number(const struct store *store, struct sequence sequence, uint64_t *number, struct error *error)
{
    const struct store_info *info = &store->info;
    if ((unsigned)sequence.split >= SPLIT_COUNT || sequence.index > INT64_MAX ||
        sequence.index % (uint64_t)info->shards != (uint64_t)info->shard)
        return error_set_kind(error, ERROR_INTERNAL,
                              "%s: %s sequence %" PRIu64 " does not belong to shard %d of %d", store->path,
                              split_name(sequence.split), sequence.index, info->shard, info->shards);
    *number = sequence.index / (uint64_t)info->shards;
    return 0;
}

struct sequence store_sequence(const struct store_info *info, enum split split, uint64_t number)
{
    return shard_sequence(info->shard, info->shards, split, number);
}

struct sequence shard_sequence(int shard, int shards, enum split split, uint64_t number)
{
    return (struct sequence){split, number * (uint64_t)shards + (uint64_t)shard};
}

uint64_t store_share(const struct store_info *info, uint64_t count)
{
    return (count + (uint64_t)(info->shards - 1 - info->shard)) / (uint64_t)info->shards;
}

int store_name_record(const struct store *store, int tap, struct sequence sequence, struct error *error)
{
    char name[TAP_NAME_SIZE];
    tap_name(store->info.tap[tap], store->info.layers, name);
    return error_prefix(error, "tap %s, %s sequence %" PRIu64, name, split_name(sequence.split),
                        sequence.index);
}

/* ---- opening ---- */

static int get_meta(const struct store *store, MDB_txn *snapshot, const char *key, MDB_val *value,
                    struct error *error)
{
    MDB_val name = text_val(key);
    int code = mdb_get(snapshot, store->meta, &name, value);
    return code ? environment_error(error, code, "\"%s\"", key) : 0;
}

static int check_version(const struct store *store, MDB_txn *snapshot, struct error *error)
{
    MDB_val framed;
    bool damaged;
    return get_meta(store, snapshot, KEY_VERSION, &framed, error) < 0
               ? -1
               : version_check(framed.mv_data, framed.mv_size, &damaged, error);
}

static int load_manifest(struct store *store, MDB_txn *snapshot, struct error *error)
{
    MDB_val framed;
    const void *text;
    size_t size;
    if (get_meta(store, snapshot, KEY_MANIFEST, &framed, error) < 0 ||
        meta_unframe(KEY_MANIFEST, framed.mv_data, framed.mv_size, &text, &size, error) < 0)
        return -1;
    store->manifest = json_parse("manifest", text, size, error);
    return store->manifest ? manifest_parse("manifest", store->manifest, &store->info, error) : -1;
}

static int check_counts(const struct store *store, const char *name, struct error *error)
{
    size_t size;
    const void *value = state_get(&store->state, name, &size);
    if (!value || size != SPLIT_COUNT * sizeof(uint64_t))
        return error_set_kind(error, ERROR_DAMAGED, "the store's state has no \"%s\"", name);
    for (enum split split = 0; split < SPLIT_COUNT; split++)
        if (state_count(&store->state, name, split) > store_sequences(store, split))
            return error_set_kind(error, ERROR_DAMAGED, "\"%s\" counts more %s sequences than there are tokens",
                                  name, split_name(split));
    return 0;
}

static int load_state(struct store *store, MDB_txn *snapshot, struct error *error)
{
    MDB_val framed;
    const void *bytes;
    size_t size;
    char name[STATE_NAME_SIZE];
    if (get_meta(store, snapshot, KEY_STATE, &framed, error) < 0 ||
        meta_unframe(KEY_STATE, framed.mv_data, framed.mv_size, &bytes, &size, error) < 0 ||
        state_read(bytes, size, &store->state, error) < 0 || check_counts(store, STATE_SEQUENCES, error) < 0)
        return -1;
    for (int tap = 0; tap < store->info.taps; tap++) {
        store_progress_name(store, tap, name);
        if (check_counts(store, name, error) < 0)
            return -1;
    }
    return 0;
}

static int open_database(MDB_txn *transaction, const char *name, unsigned flags, MDB_dbi *database,
                         struct error *error)
{
    int code = mdb_dbi_open(transaction, name, flags, database);
    return code ? environment_error(error, code, "database \"%s\"", name) : 0;
}

/* All but meta. The manifest is loaded. */
static int open_databases(struct store *store, MDB_txn *transaction, unsigned flags, struct error *error)
{
    if (array_alloc(&store->tap, store->info.taps, error) < 0 ||
        open_database(transaction, "tokens", flags, &store->tokens, error) < 0 ||
        open_database(transaction, "source", flags, &store->source, error) < 0 ||
        array_alloc(&store->coder, store->info.taps, error) < 0)
        return -1;
    for (int tap = 0; tap < store->info.taps; tap++)
        store->has_parameters = store->has_parameters || store->info.codec[tap].codec->prepare;
    if (store->has_parameters && open_database(transaction, "codec", flags, &store->parameters, error) < 0)
        return -1;
    for (int tap = 0; tap < store->info.taps; tap++) {
        char name[TAP_NAME_SIZE], database[TAP_NAME_SIZE + 8];
        tap_name(store->info.tap[tap], store->info.layers, name);
        snprintf(database, sizeof database, "tap/%s", name);
        if (open_database(transaction, database, flags, &store->tap[tap], error) < 0)
            return -1;
    }
    return 0;
}

int store_snapshot(const struct store *store, MDB_txn **snapshot, struct error *error)
{
    if (snapshot_begin(store->snapshots, store->env, snapshot, error) < 0)
        return error_prefix(error, "%s", store->path);
    return 0;
}

void store_end_snapshot(const struct store *store, MDB_txn *snapshot)
{
    snapshot_end(store->snapshots, snapshot);
}

int store_find_map(const struct store *store, MDB_txn *snapshot, struct pages_map *map, struct error *error)
{
    MDB_cursor *cursor;
    MDB_val key;
    MDB_stat stat;
    mdb_env_stat(store->env, &stat);
    int code = mdb_cursor_open(snapshot, store->meta, &cursor);
    if (code == 0) {
        code = mdb_cursor_get(cursor, &key, NULL, MDB_FIRST);
        if (code == 0)
            *map = pages_map_of(key.mv_data, stat.ms_psize);
        mdb_cursor_close(cursor);
    }
    return code ? environment_error(error, code, "%s", store->path) : 0;
}

/* A database stays open only if the transaction that opened it is committed. */
static int load(struct store *store, struct error *error)
{
    MDB_txn *snapshot;
    int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &snapshot);
    if (code)
        return environment_error(error, code, "%s: cannot be read", store->path);
    if (open_database(snapshot, "meta", 0, &store->meta, error) < 0 ||
        check_version(store, snapshot, error) < 0 || load_manifest(store, snapshot, error) < 0 ||
        open_databases(store, snapshot, 0, error) < 0 || load_state(store, snapshot, error) < 0) {
        mdb_txn_abort(snapshot);
        return error_prefix(error, "%s", store->path);
    }
    code = mdb_txn_commit(snapshot);
    return code ? environment_error(error, code, "%s", store->path) : 0;
}

static struct store *store_new(const char *path, enum store_mode mode, struct error *error)
{
    struct store *store;
    if (array_alloc(&store, 1, error) < 0)
        return NULL;
    store->mode = mode;
    store->lock = store->own_lock = -1;
    store->map_growth = MAP_GROWTH;
    pthread_mutex_init(&store->coder_mutex, NULL);
    if (!(store->path = string_copy(path, error)) || !(store->snapshots = snapshots_create(error))) {
        store_close(store);
        return NULL;
    }
    return store;
}

/* 1: SEALED_FILE is in the folder. 0: it is not. */
static int is_marked(const char *folder, struct error *error)
{
    char *marker = path_join(folder, SEALED_FILE, error);
    const int marked = !marker ? -1 : file_exists(marker);
    free(marker);
    return marked;
}

int store_was_finished(const char *path, struct error *error)
{
    int lock;
    if (writer_lock(path, &lock, error) < 0)
        return -1;
    close(lock);
    return is_marked(path, error);
}

static int open_files(struct store *store, struct error *error)
{
    if (store->mode == STORE_WRITE && writer_lock(store->path, &store->lock, error) < 0)
        return -1;
    const int marked = is_marked(store->path, error);
    if (marked < 0)
        return -1;
    if (((store->mode == STORE_WRITE || !marked) && process_lock(store->path, &store->own_lock, error) < 0) ||
        environment_open(store->path, store->mode, &store->env, error) < 0 || load(store, error) < 0)
        return -1;

    /* SEALED_FILE is written after the commit that seals. A store with the file that is not sealed has lost
     * that commit. One that is sealed without the file was killed between the two. */
    if (marked && !store_is_sealed(store))
        return error_set_kind(error, ERROR_DAMAGED,
                              "%s: the store is marked as finished but has lost its last commit", store->path);
    return store->mode == STORE_WRITE && store_is_sealed(store) ? store_mark_sealed(store, error) : 0;
}

int store_open(const char *path, enum store_mode mode, struct store **result, struct error *error)
{
    *result = NULL;
    if (!store_exists(path))
        return error_set(error, "%s: there is no store here (no %s)", path, DATA_FILE);
    struct store *store = store_new(path, mode, error);
    if (!store)
        return -1;
    if (open_files(store, error) < 0) {
        store_close(store);
        return -1;
    }
    *result = store;
    return 0;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    store_drop_puts(store);
    store_drop_kept(store);
    free(store->puts);
    if (store->env)
        mdb_env_close(store->env);
    if (store->lock >= 0)
        close(store->lock);
    if (store->own_lock >= 0)
        close(store->own_lock);
    json_decref(store->manifest);
    for (int tap = 0; store->coder && tap < store->info.taps; tap++)
        coder_destroy(store->coder[tap]);
    free(store->coder);
    pthread_mutex_destroy(&store->coder_mutex);
    snapshots_free(store->snapshots);
    manifest_free(&store->info);
    state_free(&store->state);
    free(store->tap);
    free(store->path);
    free(store);
}

/* ---- creating ---- */

static int put_meta(MDB_txn *transaction, MDB_dbi meta, const char *key, const void *value, size_t size,
                    struct error *error)
{
    MDB_val name = text_val(key), data = bytes_val(value, size);
    int code = mdb_put(transaction, meta, &name, &data, 0);
    return code ? environment_error(error, code, "\"%s\"", key) : 0;
}

int store_frame_state(const struct store *store, struct string *framed, struct error *error)
{
    struct string bytes = {0};
    state_write(&store->state, &bytes);
    bool failed = string_failed(&bytes, error);
    if (!failed)
        meta_frame(KEY_STATE, bytes.data, bytes.length, framed);
    string_free(&bytes);
    return failed || string_failed(framed, error) ? -1 : 0;
}

static int put_state(struct store *store, MDB_txn *transaction, struct error *error)
{
    struct string framed = {0};
    int result = store_frame_state(store, &framed, error);
    if (result == 0)
        result = put_meta(transaction, store->meta, KEY_STATE, framed.data, framed.length, error);
    string_free(&framed);
    return result;
}

int store_frame_manifest(const struct store *store, struct string *framed, struct error *error)
{
    char *text = json_text("manifest", store->manifest, JSON_COMPACT | JSON_REAL_PRECISION(17), error);
    if (!text)
        return -1;
    meta_frame(KEY_MANIFEST, text, strlen(text), framed);
    free(text);
    return string_failed(framed, error) ? -1 : 0;
}

static int put_manifest(struct store *store, MDB_txn *transaction, struct error *error)
{
    const uint32_t version = STORE_VERSION;
    struct string framed = {0}, number = {0};
    int result = -1;
    meta_frame(KEY_VERSION, &version, sizeof version, &number);
    if (!string_failed(&number, error) && store_frame_manifest(store, &framed, error) == 0 &&
        put_meta(transaction, store->meta, KEY_MANIFEST, framed.data, framed.length, error) == 0)
        result = put_meta(transaction, store->meta, KEY_VERSION, number.data, number.length, error);
    string_free(&framed);
    string_free(&number);
    return result;
}

static int set_first_state(struct store *store, struct error *error)
{
    const uint64_t none[SPLIT_COUNT] = {0};
    char name[STATE_NAME_SIZE];
    if (state_set(&store->state, STATE_SEQUENCES, none, sizeof none, error) < 0)
        return -1;
    for (int tap = 0; tap < store->info.taps; tap++) {
        store_progress_name(store, tap, name);
        if (state_set(&store->state, name, none, sizeof none, error) < 0)
            return -1;
    }
    return 0;
}

/* Puts all that an empty store has, in its first transaction. */
static int fill_new(struct store *store, struct error *error)
{
    MDB_txn *transaction;
    int code = mdb_txn_begin(store->env, NULL, 0, &transaction);
    if (code)
        return environment_error(error, code, "cannot be written");
    if (open_database(transaction, "meta", MDB_CREATE, &store->meta, error) < 0 ||
        open_databases(store, transaction, MDB_CREATE, error) < 0 ||
        put_manifest(store, transaction, error) < 0 || set_first_state(store, error) < 0 ||
        put_state(store, transaction, error) < 0) {
        mdb_txn_abort(transaction);
        return -1;
    }
    code = mdb_txn_commit(transaction);
    return code ? environment_error(error, code, "cannot be written") : 0;
}

/* The data file is made under another name, and renamed when it is whole: after a kill there is no store. A
 * removal that was killed may have left SEALED_FILE. */
static int create_data(const char *path, json_t *manifest, struct error *error)
{
    int result = -1;
    struct error ignored;
    char *fresh = path_join(path, DATA_NEW, error), *data = fresh ? path_join(path, DATA_FILE, error) : NULL;
    struct store *store = data ? store_new(path, STORE_WRITE, error) : NULL;
    if (!store)
        goto done;
    store->manifest = json_incref(manifest);
    if (file_remove(fresh, error) < 0 || store_unmark_sealed(store, error) < 0)
        goto done;
    if (manifest_parse("manifest", manifest, &store->info, error) < 0 ||
        environment_create(fresh, &store->env, error) < 0 || fill_new(store, error) < 0) {
        error_prefix(error, "%s", path);
        file_remove(fresh, &ignored);
        goto done;
    }
    store_close(store);
    store = NULL;
    result = file_rename(fresh, data, error);
done:
    store_close(store);
    free(data);
    free(fresh);
    return result;
}

int store_create(const char *path, const json_t *manifest, struct store **store, struct error *error)
{
    struct store_info info = {0};
    char other[DIRECTORY_NAME_SIZE];
    int lock = -1;
    *store = NULL;
    if (manifest_parse("manifest", manifest, &info, error) < 0)
        return error_prefix(error, "%s", path);
    manifest_free(&info);
    if (directory_holds_other(path, files, other))
        return error_set(error, "%s: holds other files (%s is one); name an empty folder, or a new one", path,
                         other);
    if (directory_create(path, error) < 0 || writer_lock(path, &lock, error) < 0)
        return -1;
    int result = store_exists(path)
                     ? error_set(error, "%s: there is a store already; name another folder, or remove it", path)
                     : create_data(path, (json_t *)(uintptr_t)manifest, error);
    close(lock);
    return result < 0 ? -1 : store_open(path, STORE_WRITE, store, error);
}
