#include "common/store/repair.h"

#include <stdlib.h>

#include "common/base/file.h"
#include "common/store/environment.h"
#include "common/store/internal.h"
#include "common/store/pages.h"

int repair_begin(struct store *store, struct error *error)
{
    if (store_check_idle(store, error) < 0 || store_unmark_sealed(store, error) < 0)
        return -1;
    store->writing = true;
    return 0;
}

/* The tree has been checked when the store was opened: it says where a value lies and how long it is. */
static int mend_page(const struct store *store, const struct map_place *map, const void *value, size_t size,
                     struct error *error)
{
    if (pages_value_is_right(value, size, map->page_size, map->origin))
        return 0;
    char *path = path_join(store->path, DATA_FILE, error);
    if (!path)
        return -1;
    int result = pages_mend_value(path, value, size, map->page_size, map->origin, error);
    free(path);
    return result;
}

int repair_put_record(struct store *store, int tap, struct sequence sequence, const void *record, size_t size,
                      struct error *error)
{
    struct reader *reader;
    struct map_place map;
    struct error missing;
    const void *old;
    size_t old_size;
    if (store_check_writing(store, error) < 0 || reader_open(store, &reader, error) < 0)
        return -1;
    int result = 0;
    if (reader_record(reader, tap, sequence, &old, &old_size, &missing) == 0)
        result = store_find_map(store, reader->snapshot, &map, error) < 0
                     ? -1
                     : mend_page(store, &map, old, old_size, error);
    reader_close(reader);
    return result < 0 ? -1 : store_put_record(store, tap, sequence, record, size, error);
}

int repair_finish(struct store *store, struct error *error)
{
    return store_is_sealed(store) ? store_mark_sealed(store, error) : 0;
}
