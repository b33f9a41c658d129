#include "common/repair/salvage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/progress.h"
#include "common/lmdb/wreck.h"
#include "common/repair/mend.h"
#include "common/store/environment.h"
#include "common/store/format.h"
#include "common/store/internal.h"
#include "common/store/manifest.h"

#define SALVAGE_FOLDER "salvage"

struct salvage {
    const char *path;
    char *data, *folder; /* the damaged file; where the new store is made */
    struct wreck *wreck;
    int commit; /* of the wreck */
    json_t *manifest; /* of the commit */
    struct state state; /* of the commit */
    bool has_state;
    struct store *to;
    unsigned char *copy; /* [MEND_MAX] */
    uint64_t bytes; /* taken over */
    struct progress progress;
    struct salvage_report *report;
};

/* ---- manifest and state ---- */

static bool framed_is_right(void *context, const unsigned char *bytes, size_t size)
{
    struct error wrong;
    const void *body;
    size_t body_size;
    return meta_unframe(context, bytes, size, &body, &body_size, &wrong) == 0;
}

/* Mends a value whose entry says that it is `key`: a flipped bit of it, or its size. */
static bool mend_meta(struct salvage *salvage, char *key, const struct wreck_value *value, size_t *size)
{
    if (!value->key || value->key_size != strlen(key) || memcmp(value->key, key, value->key_size) != 0 ||
        value->size > MEND_MAX || value->room < value->size)
        return false;
    memcpy(salvage->copy, value->bytes, value->room < MEND_MAX ? value->room : MEND_MAX);
    *size = value->size;
    if (mend_bit(salvage->copy, *size, framed_is_right, key))
        return true;
    for (*size = value->room < MEND_MAX ? value->room : MEND_MAX; *size > 0; --*size)
        if (framed_is_right(key, salvage->copy, *size))
            return true;
    return false;
}

/* Whether this is the value of `key` in meta. Its hash covers the key. */
static bool is_meta(struct salvage *salvage, char *key, const struct wreck_value *value, const void **body,
                    size_t *body_size)
{
    struct error wrong;
    size_t size;
    if (meta_unframe(key, value->bytes, value->size, body, body_size, &wrong) == 0)
        return true;
    return mend_meta(salvage, key, value, &size) &&
           meta_unframe(key, salvage->copy, size, body, body_size, &wrong) == 0;
}

/* A store of another format is an error. A damaged version is not: it is written again. */
static int check_version(const struct salvage *salvage, const struct wreck_value *value, struct error *error)
{
    static const char key[] = KEY_VERSION;
    bool damaged;
    if (!value->key || value->key_size != sizeof key - 1 || memcmp(value->key, key, sizeof key - 1) != 0 ||
        value->size > value->room || version_check(value->bytes, value->size, &damaged, error) == 0 || damaged)
        return 0;
    return error_prefix(error, "%s", salvage->path);
}

static int take_meta(void *context, const struct wreck_value *value, struct error *error)
{
    struct salvage *salvage = context;
    char manifest[] = KEY_MANIFEST, state[] = KEY_STATE;
    const void *body;
    size_t size;
    if (check_version(salvage, value, error) < 0)
        return -1;
    if (!salvage->manifest && is_meta(salvage, manifest, value, &body, &size)) {
        salvage->manifest = json_parse("manifest", body, size, error);
        return salvage->manifest ? 1 : -1;
    }
    if (!salvage->has_state && is_meta(salvage, state, value, &body, &size)) {
        salvage->has_state = true;
        return state_read(body, size, &salvage->state, error) < 0 ? -1 : 1;
    }
    return 0;
}

static void forget_meta(struct salvage *salvage)
{
    json_decref(salvage->manifest);
    salvage->manifest = NULL;
    state_free(&salvage->state);
    salvage->state = (struct state){0};
    salvage->has_state = false;
}

/* The newest commit whose manifest and state can be read. */
static int find_commit(struct salvage *salvage, struct error *error)
{
    for (; salvage->commit < wreck_commits(salvage->wreck); salvage->commit++) {
        if (wreck_visit(salvage->wreck, salvage->commit, take_meta, salvage, error) < 0)
            return -1;
        if (salvage->manifest && salvage->has_state)
            return 0;
        forget_meta(salvage);
    }
    return error_set_kind(
        error, ERROR_DAMAGED,
        "%s: too much of its structure is damaged: nothing was changed; copy the store again from "
        "where it came, or extract into another one",
        salvage->path);
}

/* ---- values ---- */

/* What a value becomes in the new store. */
struct entry {
    MDB_dbi database;
    char key[SOURCE_NAME_SIZE + 16];
    size_t key_size;
    size_t size; /* of the value */
};

static bool entry_of_sequence(const struct store *to, uint8_t split, uint64_t index, MDB_dbi database,
                              size_t size, struct entry *entry)
{
    struct error wrong;
    uint64_t number;
    const struct sequence sequence = {split, index};
    if (split >= SPLIT_COUNT || store_number(to, sequence, &number, &wrong) < 0)
        return false;
    *entry = (struct entry){.database = database, .key_size = SEQUENCE_KEY_SIZE, .size = size};
    sequence_key(sequence, (unsigned char *)entry->key);
    return true;
}

static bool is_record(const struct store *to, const struct wreck_value *value, struct entry *entry)
{
    struct record_header header;
    if (!record_is_whole(value->bytes, value->room, &header))
        return false;
    for (int tap = 0; tap < to->info.taps; tap++)
        if ((uint32_t)to->info.tap[tap].layer == header.layer && to->info.tap[tap].mid == header.mid)
            return entry_of_sequence(to, header.split, header.index, to->tap[tap],
                                     sizeof header + header.payload, entry);
    return false;
}

static bool is_tokens(const struct store *to, const unsigned char *bytes, size_t room, struct entry *entry)
{
    struct error wrong;
    struct tokens_header header;
    const uint32_t rows = (uint32_t)to->info.rows;
    if (room < sizeof header)
        return false;
    memcpy(&header, bytes, sizeof header);
    if (header.rows != rows || header.starts > rows + 1 || header.split >= SPLIT_COUNT)
        return false;
    const size_t size = sizeof header + ((size_t)rows + 1 + header.starts) * sizeof(int32_t);
    const struct sequence sequence = {header.split, header.index};
    return size <= room && tokens_decode(&to->info, sequence, bytes, size, NULL, &wrong) == 0 &&
           entry_of_sequence(to, header.split, header.index, to->tokens, size, entry);
}

static bool is_source(const struct store *to, const struct wreck_value *value, struct entry *entry)
{
    struct error wrong;
    struct source_part part;
    if (!value->key || value->key_size > sizeof entry->key ||
        source_verify(value->key, value->key_size, value->bytes, value->size, &part, &wrong) < 0)
        return false;
    *entry = (struct entry){.database = to->source, .key_size = value->key_size, .size = value->size};
    memcpy(entry->key, value->key, value->key_size);
    return true;
}

static bool is_parameters(const struct store *to, const struct wreck_value *value, struct entry *entry)
{
    struct error wrong;
    const void *body;
    size_t size;
    for (int tap = 0; tap < to->info.taps; tap++)
        for (int copy = 0; copy < STORE_PARAMETERS_COPIES; copy++) {
            char name[PARAMETERS_NAME_SIZE];
            parameters_name(to, tap, copy, name);
            if (!to->info.codec[tap].codec->prepare ||
                meta_unframe(name, value->bytes, value->size, &body, &size, &wrong) < 0)
                continue;
            *entry = (struct entry){
                .database = to->parameters, .key_size = strlen(PARAMETERS_KEY(name)), .size = value->size};
            memcpy(entry->key, PARAMETERS_KEY(name), entry->key_size);
            return true;
        }
    return false;
}

static bool tokens_are_right(void *context, const unsigned char *bytes, size_t size)
{
    struct entry entry;
    return is_tokens(context, bytes, size, &entry);
}

/* Mends tokens with one flipped bit, in salvage->copy. */
static bool mend_tokens(struct salvage *salvage, const struct wreck_value *value, struct entry *entry)
{
    const struct store *to = salvage->to;
    const struct tokens_header *header = (const struct tokens_header *)salvage->copy;
    const size_t most = sizeof *header + (2 * (size_t)to->info.rows + 2) * sizeof(int32_t);
    const size_t size = value->room < most ? value->room : most;
    if (size < sizeof *header || size > MEND_MAX)
        return false;
    memcpy(salvage->copy, value->bytes, size);
    if (memcmp(header->magic, TOKENS_MAGIC, sizeof header->magic) != 0 &&
        header->rows != (uint32_t)to->info.rows)
        return false; /* these are not tokens */
    return mend_bit(salvage->copy, size, tokens_are_right, salvage->to) &&
           is_tokens(to, salvage->copy, size, entry);
}

static int take_value(void *context, const struct wreck_value *value, struct error *error)
{
    struct salvage *salvage = context;
    struct store *to = salvage->to;
    struct entry entry;
    const void *bytes = value->bytes;
    if (cli_interrupted())
        return error_set_kind(error, ERROR_INTERRUPTED, "interrupted; nothing was changed");
    if (!is_record(to, value, &entry) && !is_tokens(to, bytes, value->room, &entry) &&
        !is_source(to, value, &entry) && !is_parameters(to, value, &entry)) {
        if (!mend_tokens(salvage, value, &entry))
            return 0;
        bytes = salvage->copy;
    }
    if (store_put(to, entry.database, bytes_val(entry.key, entry.key_size), bytes_val(bytes, entry.size),
                  error) < 0 ||
        store_commit_often(to, error) < 0)
        return -1;
    salvage->bytes += entry.size;
    progress_update(&salvage->progress, salvage->bytes);
    return 1;
}

/* ---- the new store ---- */

static int put_state(struct salvage *salvage, struct error *error)
{
    for (size_t i = 0; i < salvage->state.count; i++) {
        const struct state_entry *entry = &salvage->state.entries[i];
        if (state_set(&salvage->to->state, entry->name, entry->value, entry->size, error) < 0)
            return -1;
    }
    return store_commit(salvage->to, error);
}

static int check_space(const struct salvage *salvage, uint64_t size, struct error *error)
{
    uint64_t free_bytes;
    if (disk_free(salvage->path, &free_bytes, error) < 0)
        return -1;
    if (free_bytes >= size)
        return 0;
    return error_set_kind(
        error, ERROR_NO_SPACE,
        "%s: to build its structure anew takes up to %.2f GB of disk beside it, and %.2f GB are free: "
        "nothing was changed; free some, or move the store to a larger disk",
        salvage->path, (double)size * 1e-9, (double)free_bytes * 1e-9);
}

static int fill(struct salvage *salvage, struct error *error)
{
    const uint64_t size = wreck_size(salvage->wreck);
    if (check_space(salvage, size, error) < 0 ||
        (file_exists(salvage->folder) && store_remove(salvage->folder, error) < 0) ||
        store_create(salvage->folder, salvage->manifest, &salvage->to, error) < 0 ||
        store_begin(salvage->to, error) < 0)
        return -1;
    progress_start(&salvage->progress, "salvage", "bytes", size);
    const int result = wreck_visit(salvage->wreck, salvage->commit, take_value, salvage, error);
    progress_finish(&salvage->progress);
    return result < 0 ? -1 : put_state(salvage, error);
}

/* The commit that was lost may be the one that sealed the store. */
static int settle_seal(struct salvage *salvage, struct error *error)
{
    char *marker = path_join(salvage->path, SEALED_FILE, error);
    struct error incomplete;
    if (!marker)
        return -1;
    int result = 0;
    if (file_exists(marker) && !store_is_sealed(salvage->to) && store_seal(salvage->to, &incomplete) < 0 &&
        file_remove(marker, error) < 0)
        result = -1;
    free(marker);
    return result;
}

/* LMDB's lock file is the old file's: it has its commits. */
static int replace(struct salvage *salvage, struct error *error)
{
    char *made = path_join(salvage->folder, DATA_FILE, error), *locks = NULL;
    int result = -1;
    store_close(salvage->to);
    salvage->to = NULL;
    if (!made || !(locks = path_join(salvage->path, "lock.mdb", error)))
        goto done;
    if (file_remove(locks, error) == 0 && file_rename(made, salvage->data, error) == 0)
        result = store_remove(salvage->folder, error);
done:
    free(locks);
    free(made);
    return result;
}

int salvage_settle(const char *path, struct error *error)
{
    char *folder = path_join(path, SALVAGE_FOLDER, error);
    char *marker = folder ? path_join(path, SEALED_FILE, error) : NULL;
    struct store *store = NULL;
    int result = marker ? 0 : -1;
    if (result == 0 && (file_exists(folder) || !file_exists(marker)))
        result = store_open(path, STORE_WRITE, &store, error); /* which marks a finished one */
    if (result == 0 && file_exists(folder))
        result = store_remove(folder, error);
    store_close(store);
    free(folder);
    free(marker);
    return result;
}

int store_salvage(const char *path, struct salvage_report *report, struct error *error)
{
    struct salvage salvage = {.path = path, .report = report};
    int lock = -1, result = -1;
    *report = (struct salvage_report){0};
    if (!store_exists(path))
        return error_set(error, "%s: there is no store here (no %s)", path, DATA_FILE);
    if (writer_lock(path, &lock, error) < 0)
        return -1;
    salvage.copy = malloc(MEND_MAX);
    salvage.data = path_join(path, DATA_FILE, error);
    salvage.folder = path_join(path, SALVAGE_FOLDER, error);
    if (!salvage.copy)
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory: %zu bytes could not be had", MEND_MAX);
    else if (salvage.data && salvage.folder && wreck_open(salvage.data, &salvage.wreck, error) == 0 &&
             find_commit(&salvage, error) == 0 && fill(&salvage, error) == 0 &&
             settle_seal(&salvage, error) == 0)
        result = replace(&salvage, error);
    report->older = salvage.wreck && !wreck_is_last(salvage.wreck, salvage.commit);
    store_close(salvage.to);
    wreck_close(salvage.wreck);
    forget_meta(&salvage);
    free(salvage.copy);
    free(salvage.data);
    free(salvage.folder);
    close(lock);
    return result;
}
