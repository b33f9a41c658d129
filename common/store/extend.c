#include "common/store/extend.h"

#include <string.h>

#include "common/store/internal.h"
#include "common/store/manifest.h"

static int shorten(struct store *store, const uint64_t sequences[SPLIT_COUNT], struct error *error)
{
    uint64_t counts[SPLIT_COUNT];
    for (int tap = 0; tap < store->info.taps; tap++)
        for (enum split split = 0; split < SPLIT_COUNT; split++)
            if (store_progress(store, tap, split) > sequences[split] &&
                store_set_progress(store, tap, split, sequences[split], error) < 0)
                return -1;
    for (enum split split = 0; split < SPLIT_COUNT; split++) {
        const uint64_t there = store_sequences(store, split);
        counts[split] = sequences[split] < there ? sequences[split] : there;
    }
    return state_set(&store->state, STATE_SEQUENCES, counts, sizeof counts, error);
}

/* The members of a manifest that the store itself depends on must stay. */
static int check_kept(const struct store *store, const json_t *manifest, struct error *error)
{
    static const char *const kept[] = {"model", "rows", "taps", "shard"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        const json_t *old = json_object_get(store->manifest, kept[i]),
                     *new = json_object_get(manifest, kept[i]);
        if (old != new && !json_equal(old, new))
            return error_set(error, "%s: the store cannot get another \"%s\"; use another folder", store->path,
                             kept[i]);
    }
    return 0;
}

static int put_manifest(struct store *store, struct error *error)
{
    struct string framed = {0};
    int result = store_frame_manifest(store, &framed, error);
    if (result == 0)
        result =
            store_put(store, store->meta, text_val(KEY_MANIFEST), bytes_val(framed.data, framed.length), error);
    string_free(&framed);
    return result;
}

/* Begins a transaction, and puts the manifest in it. */
static int begin(struct store *store, const json_t *manifest, struct error *error)
{
    if (store_check_idle(store, error) < 0 || check_kept(store, manifest, error) < 0 ||
        store_begin_change(store, NULL, error) < 0)
        return -1;
    json_decref(store->manifest);
    store->manifest = json_deep_copy(manifest);
    if (store->manifest && put_manifest(store, error) == 0)
        return 0;
    return -1;
}

/* What is in memory differs from what is on disk now. */
static int give_up(struct store *store)
{
    store->failed = true;
    store_drop_puts(store);
    return -1;
}

int extend_begin(struct store *store, const json_t *manifest, const uint64_t sequences[SPLIT_COUNT],
                 struct error *error)
{
    if (begin(store, manifest, error) < 0)
        return store->writing ? give_up(store) : -1;
    state_remove(&store->state, STATE_SEALED);
    return shorten(store, sequences, error) < 0 ? give_up(store) : 0;
}

int extend_manifest(struct store *store, const json_t *manifest, struct error *error)
{
    if (begin(store, manifest, error) < 0)
        return store->writing ? give_up(store) : -1;
    if (store_commit(store, error) < 0)
        return -1;
    return store_end_change(store, error);
}

int extend_sources_begin(struct store *store, struct error *error)
{
    return store_begin_change(store, NULL, error);
}

int extend_sources_end(struct store *store, struct error *error)
{
    return store_end_change(store, error);
}
