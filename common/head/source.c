#include "common/head/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/model/block.h"
#include "common/store/extend.h"
#include "common/store/target.h"

/* The note says which of them a store has: "complete", those of programs that kept no whole layers, or what this one puts. */
#define NOTE       "sources"
#define NOTE_VALUE "complete 2"

void source_name(enum tensor_role role, int layer, char name[SOURCE_NAME_SIZE])
{
    if (role_is_per_layer(role))
        snprintf(name, SOURCE_NAME_SIZE, "%d/%s", layer, role_name(role));
    else
        snprintf(name, SOURCE_NAME_SIZE, "%s", role_name(role));
}

typedef int source_visit(void *context, const char *name, const struct tensor *tensor, struct error *error);

/* layer: from 1, as taps count. */
static int visit_tensor(const struct model *model, int layer, enum tensor_role role, source_visit *visit,
                        void *context, struct error *error)
{
    const struct tensor *tensor =
        role == ROLE_NONE ? NULL : model_tensor(model, role_is_per_layer(role) ? layer - 1 : 0, role);
    char name[SOURCE_NAME_SIZE];
    if (!tensor)
        return 0; /* this family has none */
    source_name(role, layer, name);
    return visit(context, name, tensor, error);
}

static int visit_half(const struct model *model, int layer, const struct block_half *half, source_visit *visit,
                      void *context, struct error *error)
{
    const int products = half_products(half);
    if (visit_tensor(model, layer, half->norm, visit, context, error) < 0)
        return -1;
    for (int i = 0; i < products; i++) {
        if (visit_tensor(model, layer, half->in[i].weight, visit, context, error) < 0)
            return -1;
    }
    if (visit_tensor(model, layer, half->out.weight, visit, context, error) < 0)
        return -1;
    for (int i = 0; i < products; i++) {
        if (visit_tensor(model, layer, half->in[i].bias, visit, context, error) < 0)
            return -1;
    }
    if (visit_tensor(model, layer, half->out.bias, visit, context, error) < 0)
        return -1;
    for (int i = 0; i < products; i++) {
        if (visit_tensor(model, layer, half->in_norm[i], visit, context, error) < 0)
            return -1;
    }
    return 0;
}

/* The first of the layers, from 1, of which all tensors are kept. */
static int first_whole_layer(const struct model *model)
{
    const int layers = model_config(model)->layers;
    return layers > SOURCE_LAYERS ? layers - SOURCE_LAYERS + 1 : 1;
}

static int visit_all(const struct model *model, const struct store_info *info, source_visit *visit,
                     void *context, struct error *error)
{
    const struct block *block = block_of(model_config(model));
    const int whole = first_whole_layer(model);
    if (visit_tensor(model, 0, ROLE_FINAL_NORM, visit, context, error) < 0 ||
        visit_tensor(model, 0, ROLE_OUTPUT, visit, context, error) < 0 ||
        (!model_config(model)->tied && visit_tensor(model, 0, ROLE_EMBEDDING, visit, context, error) < 0))
        return -1;
    for (int i = 0; i < info->taps; i++) {
        const int layer = info->tap[i].layer;
        if (layer == 0 || layer >= whole || i == store_find_target(info) ||
            (i > 0 && info->tap[i - 1].layer == layer))
            continue;
        if (visit_half(model, layer, &block->half[HALF_MLP], visit, context, error) < 0)
            return -1;
    }
    for (int layer = whole; layer <= model_config(model)->layers; layer++) {
        for (int half = 0; half < BLOCK_HALVES; half++) {
            if (visit_half(model, layer, &block->half[half], visit, context, error) < 0)
                return -1;
        }
    }
    return 0;
}

static int put_tensor(void *context, const char *name, const struct tensor *tensor, struct error *error)
{
    const struct source_shape shape = {.type = tensor->type,
                                       .rows = tensor->dims == 1 ? 1 : tensor->shape[0],
                                       .cols = tensor->shape[tensor->dims - 1]};
    int result = store_put_source(context, name, shape, tensor->data, error);
    tensor_release(tensor);
    return result;
}

static int count_tensor(void *context, const char *name, const struct tensor *tensor, struct error *error)
{
    (void)name, (void)error;
    *(uint64_t *)context += tensor->bytes;
    return 0;
}

uint64_t sources_bytes(const struct model *model, const struct store_info *info)
{
    uint64_t bytes = 0;
    struct error ignored;
    if (info->shard == 0)
        visit_all(model, info, count_tensor, &bytes, &ignored);
    return bytes;
}

int sources_put(const struct model *model, struct store *store, struct error *error)
{
    return store_info(store)->shard > 0 ? 0 : visit_all(model, store_info(store), put_tensor, store, error);
}

static int read_tensor(void *context, const char *name, const struct tensor *tensor, struct error *error)
{
    struct source_shape shape;
    void *data;
    (void)tensor;
    int result = store_get_source(context, name, &shape, &data, error);
    free(data);
    return result;
}

bool sources_are_there(const struct model *model, struct store *store)
{
    struct error missing;
    return store_info(store)->shard > 0 ||
           visit_all(model, store_info(store), read_tensor, store, &missing) == 0;
}

/* Puts what the store lacks. */
static int put_missing(void *context, const char *name, const struct tensor *tensor, struct error *error)
{
    struct source_shape shape;
    return store_find_source(context, name, &shape, error) == 0 ? 0 : put_tensor(context, name, tensor, error);
}

/* Whether the store has all that this program keeps. */
static int read_note(struct store *store, bool *complete, struct error *error)
{
    void *note = NULL;
    size_t size;
    if (store_get_note(store, NOTE, &note, &size, error) < 0)
        return -1;
    *complete = note && size == strlen(NOTE_VALUE) && !memcmp(note, NOTE_VALUE, size);
    free(note);
    return 0;
}

int sources_store(const struct model *model, struct store *store, struct error *error)
{
    const bool sealed = store_is_sealed(store);
    bool complete;
    if (store_info(store)->shard > 0)
        return 0;
    if (read_note(store, &complete, error) < 0)
        return -1;
    if (complete)
        return 0;
    if ((sealed ? extend_sources_begin(store, error) : store_begin(store, error)) < 0 ||
        visit_all(model, store_info(store), put_missing, store, error) < 0 ||
        store_put_note(store, NOTE, NOTE_VALUE, strlen(NOTE_VALUE), error) < 0 ||
        store_commit(store, error) < 0)
        return -1;
    return sealed ? extend_sources_end(store, error) : 0;
}
