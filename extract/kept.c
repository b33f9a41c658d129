#include "extract/kept.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/pilot/pilot.h"
#include "common/store/manifest.h"

struct kept {
    struct store *own;
    struct reader *reader;
    uint64_t count;
    uint64_t *index; /* [count] ascending, among the training sequences of the store that is made */
    int target; /* index among the taps, or -1 */
    int shard, shards; /* of that store */
};

bool kept_pays(uint64_t count, uint64_t all)
{
    return count > 0 && count >= (all + KEPT_LEAST - 1) / KEPT_LEAST;
}

/* ---- the pilot's store ---- */

/* What a record of `codec` can be made of, bit by bit. */
static const char *codec_for(const struct codec *codec)
{
    return codec->exact && codec->type == DTYPE_BF16 ? "lossless" : "raw:f32";
}

static json_t *make_manifest(const struct store *store, uint64_t count, uint64_t all, bool everything,
                             const bool *lack, struct error *error)
{
    const struct store_info *info = store_info(store);
    json_t *taps = json_array();
    for (int tap = 0; tap < info->taps; tap++) {
        char name[TAP_NAME_SIZE];
        if (!everything && !lack[tap])
            continue;
        tap_name(info->tap[tap], info->layers, name);
        json_array_append_new(
            taps, json_pack("{s:s, s:s, s:o*}", "name", name, "codec",
                            everything ? codec_for(info->codec[tap].codec) : "lossless", "columns",
                            tap == store_find_target(info) ? columns_to_json(&info->columns) : NULL));
    }
    json_t *manifest =
        json_pack("{s:O, s:i, s:o, s:I, s:I}", "model", json_object_get(store_manifest(store), "model"), "rows",
                  info->rows, "taps", taps, "sequences", (json_int_t)count, "of", (json_int_t)all);
    if (!manifest)
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory for the pilot's manifest");
    return manifest;
}

json_t *kept_manifest(const struct store *store, uint64_t count, bool everything, const bool *lack,
                      struct error *error)
{
    return make_manifest(store, count, store_sequences(store, SPLIT_TRAIN), everything, lack, error);
}

/* ---- opening ---- */

/* The manifest says which sequences there are, if it is that of a pilot whose states are kept. */
static int check_manifest(struct kept *kept, const struct store *store, struct error *error)
{
    const json_t *there = store_manifest(kept->own);
    int64_t count, all;
    if (json_get_integer("manifest", there, "sequences", 1, INT64_MAX, &count, error) < 0 ||
        json_get_integer("manifest", there, "of", count, (int64_t)store_sequences(store, SPLIT_TRAIN), &all,
                         error) < 0)
        return -1;
    json_t *wanted = make_manifest(store, (uint64_t)count, (uint64_t)all, true, NULL, error);
    const int result = wanted ? manifest_compare(there, wanted, NULL, error) : -1;
    json_decref(wanted);
    if (result < 0 || array_alloc(&kept->index, count, error) < 0)
        return -1;
    kept->count = (uint64_t)count;
    for (uint64_t i = 0; i < kept->count; i++)
        kept->index[i] = pilot_index(i, kept->count, (uint64_t)all);
    return 0;
}

static struct sequence sequence_in_store(const struct kept *kept, uint64_t number)
{
    return shard_sequence(kept->shard, kept->shards, SPLIT_TRAIN, kept->index[number]);
}

/* The corpus may have grown since, so that its last sequence is another. */
static int check_tokens(const struct kept *kept, struct store *store, struct error *error)
{
    const int rows = store_info(store)->rows;
    struct reader *reader = NULL;
    int32_t *ids = NULL;
    int result = -1;
    if (array_alloc(&ids, 2 * (rows + 1), error) < 0 || reader_open(store, &reader, error) < 0)
        goto done;
    for (uint64_t i = 0; i < kept->count; i++) {
        if (reader_tokens(kept->reader, (struct sequence){SPLIT_TRAIN, i}, ids, error) < 0 ||
            reader_tokens(reader, sequence_in_store(kept, i), ids + rows + 1, error) < 0)
            goto done;
        if (memcmp(ids, ids + rows + 1, (size_t)(rows + 1) * sizeof *ids) != 0) {
            error_set(error, "%s: is of other tokens", store_path(kept->own));
            goto done;
        }
    }
    result = 0;
done:
    reader_close(reader);
    free(ids);
    return result;
}

static int check_records(const struct kept *kept, struct error *error)
{
    for (int tap = 0; tap < store_info(kept->own)->taps; tap++)
        if (store_progress(kept->own, tap, SPLIT_TRAIN) < kept->count)
            return error_set(error, "%s: is not complete", store_path(kept->own));
    return 0;
}

int kept_open(struct store *own, struct store *store, struct kept **result, struct error *error)
{
    struct kept *kept = memory_alloc(1, sizeof *kept, error);
    *result = NULL;
    if (!kept) {
        store_close(own);
        return -1;
    }
    kept->own = own;
    kept->target = store_find_target(store_info(store));
    kept->shard = store_info(store)->shard;
    kept->shards = store_info(store)->shards;
    if (check_manifest(kept, store, error) < 0 || check_records(kept, error) < 0 ||
        reader_open(own, &kept->reader, error) < 0 || check_tokens(kept, store, error) < 0) {
        kept_close(kept);
        return -1;
    }
    *result = kept;
    return 0;
}

void kept_close(struct kept *kept)
{
    if (!kept)
        return;
    reader_close(kept->reader);
    store_close(kept->own);
    free(kept->index);
    free(kept);
}

/* ---- reading ---- */

static int compare_indices(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* The sequence's number in the pilot's store, or -1. */
static int64_t find(const struct kept *kept, struct sequence sequence)
{
    const uint64_t index = sequence.index / (uint64_t)kept->shards;
    if (sequence.split != SPLIT_TRAIN)
        return -1;
    const uint64_t *found =
        bsearch(&index, kept->index, (size_t)kept->count, sizeof *kept->index, compare_indices);
    return found ? found - kept->index : -1;
}

bool kept_has(const struct kept *kept, struct sequence sequence)
{
    return kept && find(kept, sequence) >= 0;
}

int kept_read(struct kept *kept, int tap, struct sequence sequence, float *states, struct target_row *values,
              struct error *error)
{
    const struct sequence own = {SPLIT_TRAIN, (uint64_t)find(kept, sequence)};
    const int result = tap == kept->target ? reader_target(kept->reader, own, values, states, error)
                                           : reader_states(kept->reader, tap, own, states, error);
    if (result < 0)
        return kept_advise(kept->own, error);
    reader_forget(kept->reader, tap, own);
    return 0;
}

int kept_advise(const struct store *own, struct error *error)
{
    return error->kind == ERROR_DAMAGED
               ? error_set_kind(error, ERROR_DAMAGED, "%s. Remove the folder %s; the same command then goes on",
                                error->text, store_path(own))
               : -1;
}
