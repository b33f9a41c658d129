#include <inttypes.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/store/environment.h"
#include "common/store/format.h"
#include "common/store/internal.h"

struct reader {
    struct store *store;
    MDB_txn *snapshot;
    struct codec_worker *worker;
};

int reader_open(struct store *store, struct reader **result, struct error *error)
{
    struct reader *reader;
    *result = NULL;
    if (array_alloc(&reader, 1, error) < 0)
        return -1;
    if (codec_worker_create(&reader->worker, error) < 0 ||
        store_snapshot(store, &reader->snapshot, error) < 0) {
        codec_worker_destroy(reader->worker);
        free(reader);
        return -1;
    }
    reader->store = store;
    atomic_fetch_add(&store->readers, 1);
    *result = reader;
    return 0;
}

void reader_close(struct reader *reader)
{
    if (!reader)
        return;
    mdb_txn_abort(reader->snapshot);
    atomic_fetch_sub(&reader->store->readers, 1);
    codec_worker_destroy(reader->worker);
    free(reader);
}

/* `what` is "tokens" or a tap's name, for the error. */
static int get(struct reader *reader, MDB_dbi database, const char *what, struct sequence sequence,
               MDB_val *value, struct error *error)
{
    unsigned char bytes[SEQUENCE_KEY_SIZE];
    MDB_val key = {sizeof bytes, bytes};
    uint64_t place;
    if (store_place(reader->store, sequence, &place, error) < 0)
        return -1;
    sequence_key(sequence, bytes);
    int code = mdb_get(reader->snapshot, database, &key, value);
    if (code == MDB_NOTFOUND)
        return error_set(error, "%s: there is no %s sequence %" PRIu64 " (%s)", reader->store->path,
                         split_name(sequence.split), sequence.index, what);
    if (code)
        return environment_error(error, code, "%s: %s sequence %" PRIu64 " (%s)", reader->store->path,
                                 split_name(sequence.split), sequence.index, what);
    return 0;
}

int reader_tokens(struct reader *reader, struct sequence sequence, int32_t *ids, struct error *error)
{
    const struct store *store = reader->store;
    MDB_val value;
    if (get(reader, store->tokens, "tokens", sequence, &value, error) < 0)
        return -1;
    if (tokens_decode(&store->info, sequence, value.mv_data, value.mv_size, ids, error) < 0)
        return error_prefix(error, "%s", store->path);
    return 0;
}

int reader_record(struct reader *reader, int tap, struct sequence sequence, const void **record, size_t *size,
                  struct error *error)
{
    const struct store *store = reader->store;
    char name[TAP_NAME_SIZE];
    MDB_val value;
    tap_name(store->info.tap[tap], store->info.layers, name);
    if (get(reader, store->tap[tap], name, sequence, &value, error) < 0)
        return -1;
    *record = value.mv_data;
    *size = value.mv_size;
    return 0;
}

int reader_states(struct reader *reader, int tap, struct sequence sequence, float *states, struct error *error)
{
    const struct store_info *info = &reader->store->info;
    const void *record;
    size_t size;
    if (reader_record(reader, tap, sequence, &record, &size, error) < 0)
        return -1;
    if (record_decode(reader->worker, info->codec[tap], info->tap[tap], sequence, record, size, info->rows,
                      info->hidden, states, error) < 0)
        return error_prefix(error, "%s", reader->store->path);
    return 0;
}
