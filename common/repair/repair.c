#include "common/repair/repair.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/lmdb/pages.h"
#include "common/repair/mend.h"
#include "common/store/environment.h"
#include "common/store/format.h"
#include "common/store/internal.h"

/* ---- the change ---- */

/* The trees were checked when the store was opened, so the value's address and size are right. */
static int mend_page(const struct store *store, const struct pages_map *map, const void *value, size_t size,
                     struct error *error)
{
    if (pages_value_is_right(map, value, size))
        return 0;
    char *path = path_join(store->path, DATA_FILE, error);
    if (!path)
        return -1;
    int result = pages_mend_value(map, path, value, size, error);
    free(path);
    return result;
}

/* When a value is replaced, LMDB frees its pages, and believes the header before them. So the header is mended
 * first. */
static int mend_replaced(struct store *store, MDB_dbi database, const MDB_val *key, struct error *error)
{
    MDB_txn *snapshot;
    MDB_val name = *key, old;
    struct pages_map map;
    if (store_snapshot(store, &snapshot, error) < 0)
        return -1;
    int code = mdb_get(snapshot, database, &name, &old), result = 0;
    if (code == 0)
        result = store_find_map(store, snapshot, &map, error) < 0
                     ? -1
                     : mend_page(store, &map, old.mv_data, old.mv_size, error);
    else if (code != MDB_NOTFOUND)
        result = environment_error(error, code, "%s", store->path);
    store_end_snapshot(store, snapshot);
    return result;
}

int repair_begin(struct store *store, struct error *error)
{
    return store_begin_change(store, mend_replaced, error);
}

int repair_finish(struct store *store, struct error *error)
{
    return store_end_change(store, error);
}

/* ---- tokens ---- */

struct tokens_of {
    const struct store_info *info;
    struct sequence sequence;
};

static bool tokens_are_right(void *context, const unsigned char *bytes, size_t size)
{
    const struct tokens_of *of = context;
    struct error wrong;
    return tokens_decode(of->info, of->sequence, bytes, size, NULL, &wrong) == 0;
}

/* A copy of the sequence's tokens, damaged as they are. *value NULL: there are none. */
static int copy_damaged(struct store *store, struct sequence sequence, unsigned char **value, size_t *size,
                        struct error *error)
{
    struct reader *reader;
    struct error missing;
    const void *old;
    int result = 0;
    *value = NULL;
    if (reader_open(store, &reader, error) < 0)
        return -1;
    if (reader_record(reader, STORE_TOKENS, sequence, &old, size, &missing) == 0) {
        if ((result = array_alloc(value, *size, error)) == 0)
            memcpy(*value, old, *size);
    }
    reader_close(reader);
    return result;
}

int repair_tokens(struct store *store, struct sequence sequence, bool *mended, struct error *error)
{
    struct tokens_of of = {&store->info, sequence};
    unsigned char key[SEQUENCE_KEY_SIZE], *value;
    size_t size;
    *mended = false;
    if (copy_damaged(store, sequence, &value, &size, error) < 0)
        return -1;
    *mended = value && (tokens_are_right(&of, value, size) || mend_bit(value, size, tokens_are_right, &of));
    sequence_key(sequence, key);
    int result =
        *mended ? store_put(store, store->tokens, bytes_val(key, sizeof key), bytes_val(value, size), error)
                : 0;
    free(value);
    return result;
}

/* ---- parameters ---- */

int repair_parameters(struct store *store, int tap, bool *mended, struct error *error)
{
    MDB_txn *snapshot;
    struct error wrong;
    int result = 0;
    *mended = false;
    if (store_snapshot(store, &snapshot, error) < 0)
        return -1;
    for (int copy = 0; copy < STORE_PARAMETERS_COPIES && !*mended; copy++) {
        MDB_val found;
        *mended = parameters_find(store, snapshot, tap, copy, &found, &wrong) == 0 && found.mv_data;
        for (int to = 0; *mended && to < STORE_PARAMETERS_COPIES && result == 0; to++)
            result = parameters_put(store, tap, to, found, error);
    }
    store_end_snapshot(store, snapshot);
    return result;
}
