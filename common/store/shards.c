#include "common/store/shards.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/store/manifest.h"

struct shards {
    int count;
    struct store **store; /* [count], by shard */
    struct split_list split;
    uint64_t held_out; /* sequences that are stored as such */
};

struct shards_reader {
    const struct shards *shards;
    int count;
    struct reader **reader; /* [count], by shard */
};

/* Puts the store at its shard's index. */
static int add_store(struct shards *shards, struct store *store, struct error *error)
{
    const struct store_info *info = store_info(store);
    if (info->shards != shards->count)
        return error_set_kind(error, ERROR_USAGE, "%s: is shard %d of %d: all %d are needed, and %d given",
                              store_path(store), info->shard, info->shards, info->shards, shards->count);
    if (shards->store[info->shard])
        return error_set_kind(error, ERROR_USAGE, "%s and %s are both shard %d",
                              store_path(shards->store[info->shard]), store_path(store), info->shard);
    shards->store[info->shard] = store;
    return 0;
}

/* Whether both have parameters of a tap's codec that differ. */
static int compare_parameters(struct store *a, struct store *b, int tap, struct error *error)
{
    void *left = NULL, *right = NULL;
    size_t left_size, right_size;
    int result = -1;
    if (store_get_parameters(a, tap, &left, &left_size, error) < 0 ||
        store_get_parameters(b, tap, &right, &right_size, error) < 0)
        goto done;
    result = 0;
    if (left && right && (left_size != right_size || memcmp(left, right, left_size) != 0))
        result = error_set(error, "their parameters of %s differ: make all of them with one --pilot file",
                           store_info(a)->codec[tap].name);
done:
    free(left);
    free(right);
    return result;
}

static int compare_stores(struct store *a, struct store *b, struct error *error)
{
    static const char *const own[] = {"shard", "command", "model.name", "corpus.paths", "split", NULL};
    int result = manifest_compare(store_manifest(a), store_manifest(b), own, error);
    for (int tap = 0; tap < store_info(a)->taps && result == 0; tap++)
        result = compare_parameters(a, b, tap, error);
    return result;
}

static int check_alike(const struct shards *shards, struct error *error)
{
    for (int i = 1; i < shards->count; i++)
        if (compare_stores(shards->store[0], shards->store[i], error) < 0)
            return error_prefix(error, "%s and %s are not shards of one store", store_path(shards->store[0]),
                                store_path(shards->store[i]));
    return 0;
}

/* Where `cache split` was stopped, some have the split and others do not. */
static int check_splits(const struct shards *shards, struct error *error)
{
    const json_t *split = json_object_get(store_manifest(shards->store[0]), "split");
    for (int i = 1; i < shards->count; i++) {
        const json_t *other = json_object_get(store_manifest(shards->store[i]), "split");
        if (split != other && !json_equal(split, other))
            return error_set(error,
                             "%s and %s do not have the same split: give `cache split` again, with all shards",
                             store_path(shards->store[0]), store_path(shards->store[i]));
    }
    return 0;
}

static uint64_t stored_sequences(const struct shards *shards, enum split split);

static int read_split(struct shards *shards, struct error *error)
{
    struct split_list *list = &shards->split;
    const char *path = store_path(shards->store[0]);
    if (check_splits(shards, error) < 0 || split_parse(path, shards_manifest(shards), list, error) < 0)
        return -1;
    shards->held_out = stored_sequences(shards, SPLIT_HELD_OUT);
    if (list->runs > 0 && list->run[list->runs - 1].to > stored_sequences(shards, SPLIT_TRAIN))
        return error_set_kind(error, ERROR_DAMAGED,
                              "%s: its split goes beyond its sequences; see `cache split`", path);
    return 0;
}

static int open_shards(const char *const *paths, int count, bool stored, struct shards **result,
                       struct error *error)
{
    struct shards *shards;
    *result = NULL;
    if (array_alloc(&shards, 1, error) < 0)
        return -1;
    shards->count = count;
    if (array_alloc(&shards->store, count, error) < 0)
        goto failed;
    for (int i = 0; i < count; i++) {
        struct store *store;
        if (store_open(paths[i], STORE_READ, &store, error) < 0)
            goto failed;
        if (add_store(shards, store, error) < 0) {
            store_close(store);
            goto failed;
        }
    }
    if (check_alike(shards, error) < 0 || (!stored && read_split(shards, error) < 0))
        goto failed;
    *result = shards;
    return 0;
failed:
    shards_close(shards);
    return -1;
}

int shards_open(const char *const *paths, int count, struct shards **shards, struct error *error)
{
    return open_shards(paths, count, false, shards, error);
}

int shards_open_stored(const char *const *paths, int count, struct shards **shards, struct error *error)
{
    return open_shards(paths, count, true, shards, error);
}

void shards_forget_split(struct shards *shards)
{
    split_free(&shards->split);
}

void shards_close(struct shards *shards)
{
    if (!shards)
        return;
    for (int i = 0; shards->store && i < shards->count; i++)
        store_close(shards->store[i]);
    free(shards->store);
    split_free(&shards->split);
    free(shards);
}

const struct store_info *shards_info(const struct shards *shards)
{
    return store_info(shards->store[0]);
}

const json_t *shards_manifest(const struct shards *shards)
{
    return store_manifest(shards->store[0]);
}

int shards_check_apart(const struct shards *shards, const char *out, struct error *error)
{
    for (int i = 0; i < shards_count(shards); i++)
        if (file_check_apart(out, store_path(shards_store(shards, i)), error) < 0)
            return -1;
    return 0;
}

int shards_count(const struct shards *shards)
{
    return shards->count;
}

struct store *shards_store(const struct shards *shards, int shard)
{
    return shards->store[shard];
}

int shards_find_tap(const struct shards *shards, struct tap tap, struct error *error)
{
    return store_find_tap(shards->store[0], tap, error);
}

int shards_check_finished(const struct shards *shards, struct error *error)
{
    for (int i = 0; i < shards->count; i++)
        if (!store_is_sealed(shards->store[i]))
            return error_set(error, "%s: is not finished; give its extract command again",
                             store_path(shards->store[i]));
    return 0;
}

/* Shard i has the first `stored` of its sequences i, i + n, ... The first one that it lacks bounds the
 * whole. */
static uint64_t bound_by_shard(const struct shards *shards, int shard, uint64_t stored, uint64_t bound)
{
    uint64_t lacking = stored * (uint64_t)shards->count + (uint64_t)shard;
    return lacking < bound ? lacking : bound;
}

static uint64_t stored_sequences(const struct shards *shards, enum split split)
{
    uint64_t bound = UINT64_MAX;
    for (int i = 0; i < shards->count; i++)
        bound = bound_by_shard(shards, i, store_sequences(shards->store[i], split), bound);
    return bound;
}

static uint64_t stored_progress(const struct shards *shards, int tap, enum split split)
{
    uint64_t bound = UINT64_MAX;
    for (int i = 0; i < shards->count; i++)
        bound = bound_by_shard(shards, i, store_progress(shards->store[i], tap, split), bound);
    return bound;
}

uint64_t shards_sequences(const struct shards *shards, enum split split)
{
    const uint64_t stored[SPLIT_COUNT] = {stored_sequences(shards, SPLIT_TRAIN),
                                          stored_sequences(shards, SPLIT_HELD_OUT)};
    return split_count(&shards->split, split, stored);
}

uint64_t shards_all_sequences(const struct shards *shards)
{
    return shards_sequences(shards, SPLIT_TRAIN) + shards_sequences(shards, SPLIT_HELD_OUT);
}

uint64_t shards_progress(const struct shards *shards, int tap, enum split split)
{
    const uint64_t stored[SPLIT_COUNT] = {stored_progress(shards, tap, SPLIT_TRAIN),
                                          stored_progress(shards, tap, SPLIT_HELD_OUT)};
    return split_count(&shards->split, split, stored);
}

int shards_find_source(struct shards *shards, const char *name, struct source_shape *shape, struct error *error)
{
    return store_find_source(shards->store[0], name, shape, error);
}

int shards_get_source(struct shards *shards, const char *name, struct source_shape *shape, void **data,
                      struct error *error)
{
    return store_get_source(shards->store[0], name, shape, data, error);
}

int shards_reader_open(struct shards *shards, struct shards_reader **result, struct error *error)
{
    struct shards_reader *reader;
    *result = NULL;
    if (array_alloc(&reader, 1, error) < 0)
        return -1;
    reader->shards = shards;
    if (array_alloc(&reader->reader, shards->count, error) < 0) {
        free(reader);
        return -1;
    }
    for (; reader->count < shards->count; reader->count++)
        if (reader_open(shards->store[reader->count], &reader->reader[reader->count], error) < 0) {
            shards_reader_close(reader);
            return -1;
        }
    *result = reader;
    return 0;
}

void shards_reader_close(struct shards_reader *reader)
{
    if (!reader)
        return;
    for (int i = 0; i < reader->count; i++)
        reader_close(reader->reader[i]);
    free(reader->reader);
    free(reader);
}

struct reader *shards_reader_of(const struct shards_reader *reader, struct sequence *sequence)
{
    *sequence = split_stored(&reader->shards->split, *sequence, reader->shards->held_out);
    return reader->reader[sequence->index % (uint64_t)reader->count];
}

int shards_reader_tokens(struct shards_reader *reader, struct sequence sequence, int32_t *ids,
                         struct error *error)
{
    struct reader *of = shards_reader_of(reader, &sequence);
    return reader_tokens(of, sequence, ids, error);
}

int shards_reader_states(struct shards_reader *reader, int tap, struct sequence sequence, float *states,
                         struct error *error)
{
    struct reader *of = shards_reader_of(reader, &sequence);
    return reader_states(of, tap, sequence, states, error);
}

int shards_reader_view(struct shards_reader *reader, int tap, struct sequence sequence, float *states,
                       struct states_view *view, struct error *error)
{
    struct reader *of = shards_reader_of(reader, &sequence);
    return reader_view(of, tap, sequence, states, view, error);
}

int shards_reader_target_columns(struct shards_reader *reader, struct sequence sequence, const void **columns,
                                 float *u, struct error *error)
{
    struct reader *of = shards_reader_of(reader, &sequence);
    return reader_target_columns(of, sequence, columns, u, error);
}

int shards_reader_target_view(struct shards_reader *reader, struct sequence sequence, struct target_row *values,
                              float *states, struct states_view *u, struct error *error)
{
    struct reader *of = shards_reader_of(reader, &sequence);
    return reader_target_view(of, sequence, values, states, u, error);
}
