#include "common/model/forward.h"

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

struct forward {
    struct forward_shape shape;
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
    struct span *spans; /* [batch], whole sequences */
    int count;
    struct stage loading; /* waiting: for weights */
    double call_seconds; /* forward_measure */
};

int forward_open(const struct model *model, struct backend *backend, const struct forward_shape *shape,
                 struct forward **result, struct error *error)
{
    const int64_t rows = (int64_t)shape->batch * shape->rows;
    struct forward *forward;
    *result = NULL;
    if (array_alloc(&forward, 1, error) < 0)
        return -1;
    forward->shape = *shape;
    forward->model = model;
    forward->backend = backend;
    forward->hidden = model_config(model)->hidden;
    if (array_alloc(&forward->spans, shape->batch, error) < 0 ||
        queue_create(backend, &forward->queue, error) < 0 ||
        ends_load(model, backend, false, 0, &forward->ends, error) < 0 ||
        layers_open(model, backend, shape->layers, shape->resident, &forward->layers, error) < 0 ||
        scratch_create(model_config(model), backend, (int)rows, shape->batch, shape->rows, &forward->scratch,
                       error) < 0 ||
        buffer_create(backend, (size_t)rows * sizeof(int32_t), &forward->ids, error) < 0 ||
        forward_resize(forward, shape->group, error) < 0) {
        forward_close(forward);
        return -1;
    }
    for (int s = 0; s < shape->batch; s++)
        forward->spans[s].rows = shape->rows;
    *result = forward;
    return 0;
}

void forward_close(struct forward *forward)
{
    if (!forward)
        return;
    free(forward->calls);
    free(forward->spans);
    buffer_destroy(forward->ids);
    buffer_destroy(forward->x);
    scratch_destroy(forward->scratch);
    layers_close(forward->layers);
    ends_destroy(forward->ends);
    queue_destroy(forward->queue);
    free(forward);
}

int forward_resize(struct forward *forward, int group, struct error *error)
{
    const size_t rows = (size_t)group * (size_t)forward->shape.batch * (size_t)forward->shape.rows;
    if (forward->calls && group == forward->shape.group)
        return 0;
    buffer_destroy(forward->x);
    free(forward->calls);
    forward->x = NULL;
    forward->calls = NULL;
    forward->shape.group = group;
    if (buffer_create(forward->backend, rows * (size_t)forward->hidden * sizeof(float), &forward->x, error) < 0)
        return -1;
    return array_alloc(&forward->calls, group, error);
}

static struct matrix call_states(const struct forward *forward, const struct call *call)
{
    const struct forward_shape *shape = &forward->shape;
    const int64_t rows = (int64_t)shape->group * shape->batch * shape->rows;
    return matrix_rows(matrix_f32(forward->x, rows, forward->hidden), call->row,
                       (int64_t)call->sequences * shape->rows);
}

void forward_add(struct forward *forward, const int32_t *ids, int sequences)
{
    const struct call *before = forward->count > 0 ? &forward->calls[forward->count - 1] : NULL;
    struct call *call = &forward->calls[forward->count++];
    *call =
        (struct call){sequences, before ? before->row + (int64_t)before->sequences * forward->shape.rows : 0};
    const struct matrix tokens = matrix_i32(forward->ids, (int64_t)sequences * forward->shape.rows, 1);
    op_write(forward->queue, tokens, ids);
    ends_embed(forward->ends, forward->queue, tokens, call_states(forward, call));
    if (!forward->shape.resident) /* rows of the embedding stay in the file: they would add up to all of it */
        tensor_release(model_tensor(forward->model, 0, ROLE_EMBEDDING));
}

/* On states of zero, which every layer takes. */
int forward_measure(struct forward *forward, struct error *error)
{
    const struct call call = {.sequences = forward->shape.batch};
    const struct layer *layer;
    if (forward->shape.layers == 0)
        return 0;
    if (layers_use(forward->layers, 0, -1, &forward->loading, &layer, error) < 0)
        return -1;
    for (int again = 0; again < 2; again++) { /* the first time makes what later ones find ready */
        const double started = clock_seconds();
        layer_attention(layer, forward->queue, forward->scratch, forward->spans, call.sequences,
                        call_states(forward, &call));
        layer_mlp(layer, forward->queue, forward->scratch, call_states(forward, &call));
        if (queue_wait(forward->queue, error) < 0)
            return -1;
        forward->call_seconds = clock_seconds() - started;
    }
    forward->loading.waiting = 0; /* the first load, which nothing can hide */
    return 0;
}

struct forward_times forward_times(const struct forward *forward)
{
    const struct layers_times times = layers_times(forward->layers);
    return (struct forward_times){.read = times.loads > 0 ? times.read / times.loads : 0,
                                  .prepare = times.prepare,
                                  .call = forward->call_seconds,
                                  .loading = times.load,
                                  .waited = forward->loading.waiting};
}

/* One layer over all calls; `next`: the index of the layer to load meanwhile, or -1. */
static int run_layer(struct forward *forward, int number, int next, forward_visit *visit, void *context,
                     struct error *error)
{
    const struct layer *layer;
    const bool attention_only = forward->shape.half && number == forward->shape.layers;
    if (layers_use(forward->layers, number - 1, next, &forward->loading, &layer, error) < 0)
        return -1;
    for (int i = 0; i < forward->count; i++) {
        const struct matrix x = call_states(forward, &forward->calls[i]);
        layer_attention(layer, forward->queue, forward->scratch, forward->spans, forward->calls[i].sequences,
                        x);
        if (visit(context, i, number, true, forward->queue, x, error) < 0)
            return -1;
        if (attention_only)
            continue;
        layer_mlp(layer, forward->queue, forward->scratch, x);
        if (visit(context, i, number, false, forward->queue, x, error) < 0)
            return -1;
    }
    return 0;
}

int forward_run(struct forward *forward, bool more, forward_visit *visit, void *context, struct error *error)
{
    const int layers = forward->shape.layers;
    int result = 0;
    for (int i = 0; i < forward->count && result == 0; i++)
        result = visit(context, i, 0, false, forward->queue, call_states(forward, &forward->calls[i]), error);
    for (int number = 1; number <= layers && result == 0; number++)
        result = run_layer(forward, number, number < layers ? number : more ? 0 : -1, visit, context, error);
    forward->count = 0;
    return result < 0 ? -1 : queue_wait(forward->queue, error);
}
