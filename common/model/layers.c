#include "common/model/layers.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/memory.h"

/* What is asked of the thread, and what it gives. */
struct load {
    int index;
    struct layer *layer;
    double read, prepare;
    bool failed;
    struct error error;
};

struct layers {
    const struct model *model;
    struct backend *backend;
    int count;
    bool resident;
    struct layer **layer; /* [count], those there are */

    /* Not resident. */
    int used; /* the one lent to the caller, or -1 */
    bool loading; /* `load` is with the thread */
    struct load load;
    struct channel *wanted, *loaded;
    pthread_t thread;
    bool started;
    struct layers_times times;
};

/* ---- one layer ---- */

static void each_tensor(const struct model *model, int index, void (*visit)(const struct tensor *))
{
    for (int role = ROLE_ATTENTION_NORM; role < ROLE_COUNT; role++) {
        const struct tensor *tensor = model_tensor(model, index, (enum tensor_role)role);
        if (tensor)
            visit(tensor);
    }
}

uint64_t layers_file_bytes(const struct model *model, int count)
{
    uint64_t most = 0;
    for (int index = 0; index < count; index++) {
        uint64_t bytes = 0;
        for (int role = ROLE_ATTENTION_NORM; role < ROLE_COUNT; role++) {
            const struct tensor *tensor = model_tensor(model, index, (enum tensor_role)role);
            bytes += tensor ? tensor->bytes : 0;
        }
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* Reads first, so that the threads that prepare do not wait for the disk page by page. Afterwards the pages of
 * the file are not needed, and would count as memory. */
static int load_layer(struct layers *layers, int index, struct load *load, struct error *error)
{
    const double started = clock_seconds();
    each_tensor(layers->model, index, tensor_read);
    const double read = clock_seconds();
    int result = layer_load(layers->model, index, layers->backend, WEIGHT_FORWARD, &load->layer, error);
    each_tensor(layers->model, index, tensor_release);
    load->read = read - started;
    load->prepare = clock_seconds() - read;
    return result;
}

/* ---- the thread ---- */

static void *load_layers(void *context)
{
    struct layers *layers = context;
    struct load *load;
    while ((load = channel_receive(layers->wanted, NULL))) {
        load->layer = NULL;
        load->failed = load_layer(layers, load->index, load, &load->error) < 0;
        if (!channel_send(layers->loaded, load, NULL))
            break;
    }
    return NULL;
}

static void ask_for(struct layers *layers, int index)
{
    layers->load.index = index;
    layers->loading = channel_send(layers->wanted, &layers->load, NULL);
}

static int take_loaded(struct layers *layers, struct stage *stage, struct error *error)
{
    const struct load *load = channel_receive(layers->loaded, stage);
    layers->loading = false;
    if (load->failed) {
        *error = load->error;
        return -1;
    }
    layers->layer[load->index] = load->layer;
    layers->used = load->index;
    if (layers->times.loads++ == 0)
        layers->times.prepare = load->prepare;
    layers->times.read += load->read;
    layers->times.load += load->read + load->prepare;
    return 0;
}

/* ---- all of them ---- */

static int start(struct layers *layers, struct error *error)
{
    if (channel_create(1, &layers->wanted, error) < 0 || channel_create(1, &layers->loaded, error) < 0)
        return -1;
    if (pthread_create(&layers->thread, NULL, load_layers, layers) != 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "a thread could not be started");
    layers->started = true;
    return 0;
}

static int load_all(struct layers *layers, struct error *error)
{
    for (int i = 0; i < layers->count; i++) {
        struct load load = {0};
        if (load_layer(layers, i, &load, error) < 0)
            return -1;
        layers->layer[i] = load.layer;
    }
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
        (struct layers){.model = model, .backend = backend, .count = count, .resident = resident, .used = -1};
    if (array_alloc(&layers->layer, count, error) < 0 ||
        (resident ? load_all(layers, error) : start(layers, error)) < 0) {
        layers_close(layers);
        return -1;
    }
    *result = layers;
    return 0;
}

int layers_use(struct layers *layers, int index, int next, struct stage *stage, const struct layer **layer,
               struct error *error)
{
    *layer = NULL;
    if (!layers->resident && layers->used != index) {
        if (layers->used >= 0) {
            layer_destroy(layers->layer[layers->used]);
            layers->layer[layers->used] = NULL;
            layers->used = -1;
        }
        if (!layers->loading)
            ask_for(layers, index);
        if (take_loaded(layers, stage, error) < 0)
            return -1;
    }
    if (!layers->resident && next >= 0 && next != index && !layers->loading)
        ask_for(layers, next);
    *layer = layers->layer[index];
    return 0;
}

struct layers_times layers_times(const struct layers *layers)
{
    return layers->times;
}

void layers_close(struct layers *layers)
{
    if (!layers)
        return;
    if (layers->started) {
        channel_close(layers->wanted);
        if (layers->loading) {
            const struct load *load = channel_receive(layers->loaded, NULL);
            layer_destroy(load->layer);
        }
        pthread_join(layers->thread, NULL);
    }
    for (int i = 0; layers->layer && i < layers->count; i++)
        layer_destroy(layers->layer[i]);
    channel_destroy(layers->wanted);
    channel_destroy(layers->loaded);
    free(layers->layer);
    free(layers);
}
