#include "common/model/pass.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/model/ends.h"
#include "common/model/layer.h"
#include "common/model/layers.h"

/* Sequences that go through a layer together; their residuals lie in x from row `row`. */
struct call {
    int sequences;
    int64_t row;
};

struct pass {
    struct pass_shape shape;
    const struct model *model;
    struct backend *backend;
    int hidden;
    struct queue *queue;
    struct ends *ends;
    struct layers *layers;
    struct layer_scratch *scratch;
    struct buffer *x; /* [group * batch * rows, hidden] */
    struct buffer *ids; /* [batch * rows] i32 */
    struct call *calls; /* [group], the first `count` wait */
    int count;
    struct stage loading; /* waiting: for weights */
    double call_seconds; /* pass_measure */
};

int pass_open(const struct model *model, struct backend *backend, const struct pass_shape *shape,
              struct pass **result, struct error *error)
{
    const int64_t rows = (int64_t)shape->batch * shape->rows;
    struct pass *pass;
    *result = NULL;
    if (array_alloc(&pass, 1, error) < 0)
        return -1;
    pass->shape = *shape;
    pass->model = model;
    pass->backend = backend;
    pass->hidden = model_config(model)->hidden;
    if (queue_create(backend, &pass->queue, error) < 0 ||
        ends_load(model, backend, false, 0, &pass->ends, error) < 0 ||
        layers_open(model, backend, shape->layers, shape->resident, &pass->layers, error) < 0 ||
        scratch_create(model_config(model), backend, (int)rows, shape->rows, &pass->scratch, error) < 0 ||
        buffer_create(backend, (size_t)rows * sizeof(int32_t), &pass->ids, error) < 0 ||
        pass_resize(pass, shape->group, error) < 0) {
        pass_close(pass);
        return -1;
    }
    *result = pass;
    return 0;
}

void pass_close(struct pass *pass)
{
    if (!pass)
        return;
    free(pass->calls);
    buffer_destroy(pass->ids);
    buffer_destroy(pass->x);
    scratch_destroy(pass->scratch);
    layers_close(pass->layers);
    ends_destroy(pass->ends);
    queue_destroy(pass->queue);
    free(pass);
}

int pass_resize(struct pass *pass, int group, struct error *error)
{
    const size_t rows = (size_t)group * (size_t)pass->shape.batch * (size_t)pass->shape.rows;
    if (pass->calls && group == pass->shape.group)
        return 0;
    buffer_destroy(pass->x);
    free(pass->calls);
    pass->x = NULL;
    pass->calls = NULL;
    pass->shape.group = group;
    if (buffer_create(pass->backend, rows * (size_t)pass->hidden * sizeof(float), &pass->x, error) < 0)
        return -1;
    return array_alloc(&pass->calls, group, error);
}

static struct matrix call_states(const struct pass *pass, const struct call *call)
{
    const struct pass_shape *shape = &pass->shape;
    const int64_t rows = (int64_t)shape->group * shape->batch * shape->rows;
    return matrix_rows(matrix_f32(pass->x, rows, pass->hidden), call->row,
                       (int64_t)call->sequences * shape->rows);
}

void pass_add(struct pass *pass, const int32_t *ids, int sequences)
{
    const struct call *before = pass->count > 0 ? &pass->calls[pass->count - 1] : NULL;
    struct call *call = &pass->calls[pass->count++];
    *call = (struct call){sequences, before ? before->row + (int64_t)before->sequences * pass->shape.rows : 0};
    const struct matrix places = matrix_i32(pass->ids, (int64_t)sequences * pass->shape.rows, 1);
    op_write(pass->queue, places, ids);
    ends_embed(pass->ends, pass->queue, places, call_states(pass, call));
    if (!pass->shape.resident) /* rows of the embedding stay in the file: they would add up to all of it */
        tensor_release(model_tensor(pass->model, 0, ROLE_EMBEDDING));
}

/* On states of zero, which every layer takes. */
int pass_measure(struct pass *pass, struct error *error)
{
    const struct call call = {.sequences = pass->shape.batch};
    const struct place place = {.sequences = call.sequences};
    const struct layer *layer;
    if (pass->shape.layers == 0)
        return 0;
    if (layers_use(pass->layers, 0, -1, &pass->loading, &layer, error) < 0)
        return -1;
    for (int again = 0; again < 2; again++) { /* the first time makes what later ones find ready */
        const double started = clock_seconds();
        layer_attention(layer, pass->queue, pass->scratch, &place, call_states(pass, &call));
        layer_mlp(layer, pass->queue, pass->scratch, call_states(pass, &call));
        if (queue_wait(pass->queue, error) < 0)
            return -1;
        pass->call_seconds = clock_seconds() - started;
    }
    pass->loading.waiting = 0; /* the first load, which nothing can hide */
    return 0;
}

struct pass_times pass_times(const struct pass *pass)
{
    const struct layers_times times = layers_times(pass->layers);
    return (struct pass_times){.read = times.loads > 0 ? times.read / times.loads : 0,
                               .prepare = times.prepare,
                               .call = pass->call_seconds,
                               .loading = times.load,
                               .waited = pass->loading.waiting};
}

/* One layer over all calls; `next`: the index of the layer to load meanwhile, or -1. */
static int run_layer(struct pass *pass, int number, int next, pass_visit *visit, void *context,
                     struct error *error)
{
    const struct layer *layer;
    const bool attention_only = pass->shape.half && number == pass->shape.layers;
    if (layers_use(pass->layers, number - 1, next, &pass->loading, &layer, error) < 0)
        return -1;
    for (int i = 0; i < pass->count; i++) {
        const struct place place = {.sequences = pass->calls[i].sequences};
        const struct matrix x = call_states(pass, &pass->calls[i]);
        layer_attention(layer, pass->queue, pass->scratch, &place, x);
        if (visit(context, i, number, true, pass->queue, x, error) < 0)
            return -1;
        if (attention_only)
            continue;
        layer_mlp(layer, pass->queue, pass->scratch, x);
        if (visit(context, i, number, false, pass->queue, x, error) < 0)
            return -1;
    }
    return 0;
}

int pass_run(struct pass *pass, bool more, pass_visit *visit, void *context, struct error *error)
{
    const int layers = pass->shape.layers;
    int result = 0;
    for (int i = 0; i < pass->count && result == 0; i++)
        result = visit(context, i, 0, false, pass->queue, call_states(pass, &pass->calls[i]), error);
    for (int number = 1; number <= layers && result == 0; number++)
        result = run_layer(pass, number, number < layers ? number : more ? 0 : -1, visit, context, error);
    pass->count = 0;
    return result < 0 ? -1 : queue_wait(pass->queue, error);
}
