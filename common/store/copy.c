#include "common/store/copy.h"

#include <inttypes.h>
#include <string.h>

#include "common/store/environment.h"
#include "common/store/format.h"
#include "common/store/internal.h"

int copy_tokens(struct store *to, struct reader *from, struct sequence sequence, struct error *error)
{
    const void *value;
    size_t size;
    const struct sequence next = store_next_sequence(to, sequence.split);
    if (store_check_writing(to, error) < 0)
        return -1;
    if (next.index != sequence.index)
        return error_set(error, "%s: %s sequence %" PRIu64 " comes next, not %" PRIu64, to->path,
                         split_name(sequence.split), next.index, sequence.index);
    if (reader_record(from, STORE_TOKENS, sequence, &value, &size, error) < 0)
        return -1;
    if (reader_check(from, STORE_TOKENS, sequence, value, size, NULL, error) < 0)
        return error_prefix(error, "%s", from->store->path);
    return store_put_tokens_value(to, sequence.split, value, size, error);
}

int copy_record(struct store *to, struct reader *from, int tap, struct sequence sequence, size_t *size,
                struct error *error)
{
    const void *record;
    if (reader_record(from, tap, sequence, &record, size, error) < 0)
        return -1;
    if (reader_check(from, tap, sequence, record, *size, &(struct record_parts){0}, error) < 0)
        return error_prefix(error, "%s", from->store->path);
    return store_put_record(to, tap, sequence, record, *size, error);
}

static int copy_part(struct store *to, const MDB_val *key, const MDB_val *value, struct error *error)
{
    struct source_part part;
    if (source_verify(key->mv_data, key->mv_size, value->mv_data, value->mv_size, &part, error) < 0)
        return error_prefix(error, "source");
    if (store_put(to, to->source, *key, *value, error) < 0)
        return -1;
    return store_commit_often(to, error);
}

int copy_sources(struct store *to, struct store *from, struct error *error)
{
    MDB_txn *snapshot;
    MDB_cursor *cursor;
    MDB_val key, value;
    if (store_begin(to, error) < 0 || store_snapshot(from, &snapshot, error) < 0)
        return -1;
    int code = mdb_cursor_open(snapshot, from->source, &cursor), result = 0;
    if (code == 0) {
        code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
        for (; code == 0 && result == 0; code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))
            result = copy_part(to, &key, &value, error);
        mdb_cursor_close(cursor);
    }
    store_end_snapshot(from, snapshot);
    if (result == 0 && code != 0 && code != MDB_NOTFOUND)
        result = environment_error(error, code, "%s", from->path);
    else if (result < 0)
        error_prefix(error, "%s", from->path);
    return result < 0 ? -1 : store_commit(to, error);
}

int copy_notes(struct store *to, const struct store *from, struct error *error)
{
    static const char prefix[] = "note/";
    for (size_t i = 0; i < from->state.count; i++) {
        const struct state_entry *entry = &from->state.entries[i];
        if (strncmp(entry->name, prefix, sizeof prefix - 1) == 0 &&
            store_put_note(to, entry->name + sizeof prefix - 1, entry->value, entry->size, error) < 0)
            return -1;
    }
    return 0;
}
