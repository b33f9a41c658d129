#include "common/store/manifest.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/memory.h"

static int parse_tap(const char *name, const json_t *object, struct store_info *info, struct error *error)
{
    const char *text, *codec_name;
    struct tap tap;
    if (json_get_string(name, object, "name", &text, error) < 0 ||
        json_get_string(name, object, "codec", &codec_name, error) < 0 ||
        tap_parse_stored(text, info->layers, &tap, error) < 0)
        return -1;
    struct codec_choice choice;
    if (codec_parse(codec_name, &choice, error) < 0)
        return -1;
    if (choice.codec->bound(info->rows, info->hidden) == 0)
        return error_set(error, "%s cannot code records of %d rows x %d values", choice.name, info->rows,
                         info->hidden);
    if (tap.layer > info->layers &&
        columns_parse(json_object_get(object, "columns"), &info->columns, error) < 0)
        return error_prefix(error, "tap %s", text);
    int at = info->taps;
    while (at > 0 && tap_compare(info->tap[at - 1], tap) > 0)
        at--;
    if (at > 0 && tap_compare(info->tap[at - 1], tap) == 0)
        return error_set(error, "tap %s is there twice", text);
    memmove(info->tap + at + 1, info->tap + at, (size_t)(info->taps - at) * sizeof *info->tap);
    memmove(info->codec + at + 1, info->codec + at, (size_t)(info->taps - at) * sizeof *info->codec);
    info->tap[at] = tap;
    info->codec[at] = choice;
    info->taps++;
    return 0;
}

static int parse_taps(const char *name, const json_t *manifest, struct store_info *info, struct error *error)
{
    const json_t *taps = json_object_get(manifest, "taps");
    size_t count = json_array_size(taps);
    if (count < 1 || count > MANIFEST_TAPS_MAX)
        return error_set(error, "%s: \"taps\" must be a list of 1 to %d taps", name, MANIFEST_TAPS_MAX);
    if (array_alloc(&info->tap, count, error) < 0 || array_alloc(&info->codec, count, error) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (parse_tap("a tap", json_array_get(taps, i), info, error) < 0)
            return error_prefix(error, "%s", name);
    return 0;
}

static int parse_shard(const char *name, const json_t *manifest, struct store_info *info, struct error *error)
{
    const json_t *shard = json_object_get(manifest, "shard");
    int64_t index = 0, count = 1;
    if (shard && (json_get_integer(name, shard, "count", 1, 1 << 20, &count, error) < 0 ||
                  json_get_integer(name, shard, "index", 0, count - 1, &index, error) < 0))
        return -1;
    info->shard = (int)index;
    info->shards = (int)count;
    return 0;
}

int manifest_parse(const char *name, const json_t *manifest, struct store_info *info, struct error *error)
{
    const json_t *model = json_object_get(manifest, "model");
    int64_t layers, hidden, vocab, rows;
    if (!json_is_object(model))
        return error_set(error, "%s: \"model\" is missing", name);
    if (json_get_integer(name, model, "layers", 1, 99999, &layers, error) < 0 ||
        json_get_integer(name, model, "hidden", 1, 1 << 24, &hidden, error) < 0 ||
        json_get_integer(name, model, "vocab", 1, 1 << 30, &vocab, error) < 0 ||
        json_get_integer(name, manifest, "rows", 1, 1 << 24, &rows, error) < 0)
        return -1;
    info->layers = (int)layers;
    info->hidden = (int)hidden;
    info->vocab = (int)vocab;
    info->rows = (int)rows;
    if (parse_shard(name, manifest, info, error) == 0 && parse_taps(name, manifest, info, error) == 0)
        return 0;
    manifest_free(info);
    return -1;
}

void manifest_free(struct store_info *info)
{
    free(info->tap);
    free(info->codec);
    *info = (struct store_info){0};
}

/* ---- comparing ---- */

static int report_difference(const char *path, const json_t *stored, const json_t *wanted, struct error *error)
{
    char *left = stored ? json_dumps(stored, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    char *right = wanted ? json_dumps(wanted, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    error_set(error, "\"%s\" differs: the store has %.300s, this command wants %.300s", path,
              left ? left : "none", right ? right : "none");
    free(left);
    free(right);
    return -1;
}

static bool is_listed(const char *const *list, const char *name)
{
    for (; list && *list; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

static int compare(const char *path, const json_t *stored, const json_t *wanted, const char *const *ignored,
                   struct error *error);

static int compare_member(const char *path, const char *key, const json_t *stored, const json_t *wanted,
                          const char *const *ignored, struct error *error)
{
    char inner[256];
    snprintf(inner, sizeof inner, "%s%s%s", path, *path ? "." : "", key);
    return is_listed(ignored, inner) ? 0 : compare(inner, stored, wanted, ignored, error);
}

static int compare_objects(const char *path, const json_t *stored, const json_t *wanted,
                           const char *const *ignored, struct error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)wanted, key, value)
    {
        if (compare_member(path, key, json_object_get(stored, key), value, ignored, error) < 0)
            return -1;
    }
    json_object_foreach((json_t *)(uintptr_t)stored, key, value)
    {
        if (!json_object_get(wanted, key) && compare_member(path, key, value, NULL, ignored, error) < 0)
            return -1;
    }
    return 0;
}

static int compare(const char *path, const json_t *stored, const json_t *wanted, const char *const *ignored,
                   struct error *error)
{
    if (json_is_object(stored) && json_is_object(wanted))
        return compare_objects(path, stored, wanted, ignored, error);
    if (stored && wanted && json_equal(stored, wanted))
        return 0;
    return report_difference(path, stored, wanted, error);
}

int manifest_compare(const json_t *stored, const json_t *wanted, const char *const *ignored,
                     struct error *error)
{
    return compare("", stored, wanted, ignored, error);
}
