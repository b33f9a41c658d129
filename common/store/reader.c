#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/memory.h"
#include "common/store/environment.h"
#include "common/store/format.h"
#include "common/store/internal.h"
#include "common/store/target.h"

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
    *result = reader;
    return 0;
}

void reader_close(struct reader *reader)
{
    if (!reader)
        return;
    store_end_snapshot(reader->store, reader->snapshot);
    codec_worker_destroy(reader->worker);
    free(reader);
}

int reader_record(struct reader *reader, int tap, struct sequence sequence, const void **bytes, size_t *size,
                  struct error *error)
{
    const struct store *store = reader->store;
    unsigned char key_bytes[SEQUENCE_KEY_SIZE];
    MDB_val key = {sizeof key_bytes, key_bytes}, value;
    char name[TAP_NAME_SIZE] = "tokens";
    uint64_t number;
    if (store_number(store, sequence, &number, error) < 0)
        return -1;
    if (tap != STORE_TOKENS)
        tap_name(store->info.tap[tap], store->info.layers, name);
    sequence_key(sequence, key_bytes);
    int code = mdb_get(reader->snapshot, tap == STORE_TOKENS ? store->tokens : store->tap[tap], &key, &value);
    if (code == MDB_NOTFOUND)
        return error_set(error, "%s: there is no %s sequence %" PRIu64 " (%s)", store->path,
                         split_name(sequence.split), sequence.index, name);
    if (code)
        return environment_error(error, code, "%s: %s sequence %" PRIu64 " (%s)", store->path,
                                 split_name(sequence.split), sequence.index, name);
    *bytes = value.mv_data;
    *size = value.mv_size;
    return 0;
}

/* Tells the system about the pages that a record lies in. Returns the record's bytes; 0: there is none. */
static size_t advise(struct reader *reader, int tap, struct sequence sequence, int advice)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    struct error ignored;
    const void *record;
    size_t size;
    if (reader_record(reader, tap, sequence, &record, &size, &ignored) < 0)
        return 0;
    const uintptr_t from = (uintptr_t)record / page * page;
    madvise((void *)from, (uintptr_t)record + size - from, advice);
    return size;
}

size_t reader_ahead(struct reader *reader, int tap, struct sequence sequence)
{
    return advise(reader, tap, sequence, MADV_WILLNEED);
}

void reader_forget(struct reader *reader, int tap, struct sequence sequence)
{
    advise(reader, tap, sequence, MADV_DONTNEED);
}

int reader_check(struct reader *reader, int tap, struct sequence sequence, const void *value, size_t size,
                 const struct record_parts *parts, struct error *error)
{
    const struct store_info *info = &reader->store->info;
    const struct coder *coder;
    if (tap == STORE_TOKENS)
        return tokens_decode(info, sequence, value, size, NULL, error);
    if (store_coder(reader->store, tap, &coder, error) < 0)
        return store_name_record(reader->store, tap, sequence, error);
    const struct record_key key = record_key(info, coder, tap, sequence);
    if (record_decode(reader->worker, &key, value, size, parts, error) < 0)
        return store_name_record(reader->store, tap, sequence, error);
    return 0;
}

static int read_tokens(struct reader *reader, struct sequence sequence, int32_t *ids, const void **value,
                       struct error *error)
{
    const struct store *store = reader->store;
    size_t size;
    if (reader_record(reader, STORE_TOKENS, sequence, value, &size, error) < 0)
        return -1;
    if (tokens_decode(&store->info, sequence, *value, size, ids, error) < 0)
        return error_prefix(error, "%s", store->path);
    return 0;
}

int reader_tokens(struct reader *reader, struct sequence sequence, int32_t *ids, struct error *error)
{
    const void *value;
    return read_tokens(reader, sequence, ids, &value, error);
}

int reader_starts(struct reader *reader, struct sequence sequence, int32_t *starts, int *count,
                  struct error *error)
{
    const void *value;
    if (read_tokens(reader, sequence, NULL, &value, error) < 0)
        return -1;
    if (tokens_starts(&reader->store->info, value, starts, count, error) < 0)
        return error_prefix(error, "%s: tokens of %s sequence %" PRIu64, reader->store->path,
                            split_name(sequence.split), sequence.index);
    return 0;
}

static int read_parts(struct reader *reader, int tap, struct sequence sequence,
                      const struct record_parts *parts, struct error *error)
{
    const void *record;
    size_t size;
    if (reader_record(reader, tap, sequence, &record, &size, error) < 0)
        return -1;
    if (reader_check(reader, tap, sequence, record, size, parts, error) < 0)
        return error_prefix(error, "%s", reader->store->path);
    return 0;
}

int reader_states(struct reader *reader, int tap, struct sequence sequence, float *states, struct error *error)
{
    return read_parts(reader, tap, sequence, &(struct record_parts){.states = states}, error);
}

int reader_view(struct reader *reader, int tap, struct sequence sequence, float *states,
                struct states_view *view, struct error *error)
{
    return read_parts(reader, tap, sequence, &(struct record_parts){.states = states, .view = view}, error);
}

static int read_target(struct reader *reader, struct sequence sequence, const struct record_parts *parts,
                       struct error *error)
{
    const int tap = store_find_target(&reader->store->info);
    return tap < 0 ? error_set(error, "%s: was made without a target", reader->store->path)
                   : read_parts(reader, tap, sequence, parts, error);
}

int reader_target(struct reader *reader, struct sequence sequence, struct target_row *values, float *u,
                  struct error *error)
{
    return read_target(reader, sequence, &(struct record_parts){.values = values, .states = u}, error);
}

int reader_target_columns(struct reader *reader, struct sequence sequence, const void **columns, float *u,
                          struct error *error)
{
    return read_target(reader, sequence, &(struct record_parts){.columns = columns, .states = u}, error);
}

int reader_target_view(struct reader *reader, struct sequence sequence, struct target_row *values,
                       float *states, struct states_view *u, struct error *error)
{
    const struct record_parts parts = {.values = values, .states = states, .view = u};
    return read_target(reader, sequence, &parts, error);
}
