#include "train/stores.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/memory.h"

static int read_model(struct stores *stores, const char *path, struct error *error)
{
    const json_t *model = json_object_get(shards_manifest(stores->shards), "model");
    const char *fingerprint;
    if (config_from_json(path, model, &stores->config, error) < 0 ||
        json_get_string(path, model, "fingerprint", &fingerprint, error) < 0)
        return -1;
    if (strlen(fingerprint) != sizeof stores->fingerprint - 1)
        return error_set(error, "%s: the model's fingerprint \"%.40s\" is not 16 digits", path, fingerprint);
    strcpy(stores->fingerprint, fingerprint);
    return 0;
}

int stores_open(const char *const *paths, int count, struct stores *stores, struct error *error)
{
    *stores = (struct stores){0};
    if (shards_open(paths, count, &stores->shards, error) < 0)
        return store_advise(error);
    stores->rows = shards_info(stores->shards)->rows;
    for (int split = 0; split < SPLIT_COUNT; split++)
        stores->sequences[split] = shards_sequences(stores->shards, (enum split)split);
    if (shards_check_finished(stores->shards, error) < 0)
        goto fail;
    if (!stores->sequences[SPLIT_TRAIN] || !stores->sequences[SPLIT_HELD_OUT]) {
        if (stores->sequences[SPLIT_TRAIN])
            error_set(error, "%s: holds no held-out sequences: `cache split` holds out a part of the others",
                      paths[0]);
        else
            error_set(error, "%s: holds no training sequences; extract more text", paths[0]);
        goto fail;
    }
    if (read_model(stores, paths[0], error) < 0)
        goto fail;
    return 0;
fail:
    stores_close(stores);
    return -1;
}

void stores_close(struct stores *stores)
{
    shards_close(stores->shards);
    *stores = (struct stores){0};
}

static int get_floats(void *context, const char *name, float **values, int64_t *rows, int64_t *cols,
                      struct error *error)
{
    struct source_shape shape;
    void *data = NULL;
    size_t row_bytes;
    *values = NULL;
    if (shards_get_source(context, name, &shape, &data, error) < 0)
        return -1;
    *rows = shape.rows;
    *cols = shape.cols;
    if (!dtype_row_bytes(shape.type, *cols, &row_bytes))
        error_set(error, "%s: rows of %" PRId64 " values are not whole blocks of %s", name, *cols,
                  dtype_name(shape.type));
    else if (array_alloc(values, *rows * *cols, error) == 0)
        dtype_to_f32(shape.type, data, *rows * *cols, *values);
    free(data);
    return *values ? 0 : -1;
}

struct head_source stores_head_source(const struct stores *stores)
{
    return (struct head_source){get_floats, stores->shards};
}
