#include "common/model/layers.h"

#include <stdlib.h>

#include "common/base/memory.h"

struct layers {
    const struct model *model;
    struct backend *backend;
    int count;
    bool resident;
    struct layer **layer; /* [count] */
    int loaded; /* not resident: the one there is, or -1 */
};

static void advise(const struct model *model, int index, void (*advice)(const struct tensor *))
{
    for (int role = ROLE_ATTENTION_NORM; role < ROLE_COUNT; role++) {
        const struct tensor *tensor = model_tensor(model, index, (enum tensor_role)role);
        if (tensor)
            advice(tensor);
    }
}

/* Prepares a layer; its pages of the file are not needed afterwards, and would count as memory. */
static int load(struct layers *layers, int index, struct error *error)
{
    if (layer_load(layers->model, index, layers->backend, WEIGHT_FORWARD, &layers->layer[index], error) < 0)
        return -1;
    advise(layers->model, index, tensor_release);
    return 0;
}

int layers_open(const struct model *model, struct backend *backend, int count, bool resident,
                struct layers **result, struct error *error)
{
    struct layers *layers = memory_alloc(1, sizeof *layers, error);
    *result = NULL;
    if (!layers)
        return -1;
    *layers =
        (struct layers){.model = model, .backend = backend, .count = count, .resident = resident, .loaded = -1};
    if (array_alloc(&layers->layer, count, error) < 0) {
        layers_close(layers);
        return -1;
    }
    for (int i = 0; resident && i < count; i++) {
        if (load(layers, i, error) < 0) {
            layers_close(layers);
            return -1;
        }
    }
    *result = layers;
    return 0;
}

int layers_use(struct layers *layers, int index, const struct layer **layer, struct error *error)
{
    *layer = NULL;
    if (!layers->layer[index]) {
        if (layers->loaded >= 0) {
            layer_destroy(layers->layer[layers->loaded]);
            layers->layer[layers->loaded] = NULL;
            layers->loaded = -1;
        }
        if (load(layers, index, error) < 0)
            return -1;
        layers->loaded = index;
        advise(layers->model, index + 1 < layers->count ? index + 1 : 0, tensor_read_ahead);
    }
    *layer = layers->layer[index];
    return 0;
}

void layers_close(struct layers *layers)
{
    if (!layers)
        return;
    for (int i = 0; layers->layer && i < layers->count; i++)
        layer_destroy(layers->layer[i]);
    free(layers->layer);
    free(layers);
}
