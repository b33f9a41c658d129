/* attention_grad.c: gradients of attention. A task has one key head of one span, all its queries in order: so the
 * gradients of keys and values depend on their span alone. */
#include <string.h>

#include "kernels/cpu/attention.h"

struct grad_job {
    const struct cpu_loops *loops;
    struct attention shape;
    const struct attention_span *spans, *dspans;
    struct matrix q, out, dout, dq;
    int64_t most_keys;
    float *scores; /* per worker [most_keys] */
};

/* Where the gradients of the keys that `list_keys` lists are added. */
static void list_grads(const struct attention *shape, const struct attention_span *span,
                       const struct attention_span *dspan, int64_t query, int64_t head,
                       struct attend_grads grads[ATTEND_KEYS])
{
    int64_t size = shape->head_size, kv_width = shape->kv_heads * size;
    int64_t first = first_key(shape, span->k.rows - span->queries + query);
    grads[0] = (struct attend_grads){.key_stride = dspan->k.stride, .value_stride = dspan->v.stride};
    grads[1] = (struct attend_grads){.key_stride = kv_width, .value_stride = kv_width};
    if (!matrix_is_none(dspan->k))
        grads[0].keys = head_row(dspan->k, first, head, size);
    if (!matrix_is_none(dspan->v))
        grads[0].values = head_row(dspan->v, first, head, size);
    if (!matrix_is_none(dspan->own_k))
        grads[1].keys = head_row(dspan->own_k, query, head, size);
    if (!matrix_is_none(dspan->own_v))
        grads[1].values = head_row(dspan->own_v, query, head, size);
}

static void grad_task(void *context, int task, int worker)
{
    const struct grad_job *job = context;
    const struct attention *shape = &job->shape;
    int64_t size = shape->head_size, group = shape->heads / shape->kv_heads, kv_head = task % shape->kv_heads;
    int64_t number = task / shape->kv_heads, row = 0;
    const struct attention_span *span = &job->spans[number];
    for (int64_t s = 0; s < number; s++)
        row += job->spans[s].queries;
    for (int64_t query = 0; query < span->queries; query++, row++) {
        struct attend_keys keys[ATTEND_KEYS];
        struct attend_grads grads[ATTEND_KEYS];
        list_keys(shape, span, query, kv_head, keys);
        list_grads(shape, span, &job->dspans[number], query, kv_head, grads);
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
            float *dq = head_row(job->dq, row, head, size);
            memset(dq, 0, (size_t)size * sizeof *dq);
            job->loops->attend_grad(head_row(job->q, row, head, size), keys, size, shape->scale,
                                    job->scores + worker * job->most_keys, head_row(job->out, row, head, size),
                                    head_row(job->dout, row, head, size), dq, grads);
        }
    }
}

void cpu_attention_grad(struct queue *queue, const struct attention *shape, struct matrix q,
                        const struct attention_span *spans, int count, struct matrix out, struct matrix dout,
                        struct matrix dq, const struct attention_span *dspans)
{
    struct cpu_backend *backend = queue_cpu(queue);
    struct grad_job job = {.loops = backend->loops,
                           .shape = *shape,
                           .spans = spans,
                           .dspans = dspans,
                           .q = q,
                           .out = out,
                           .dout = dout,
                           .dq = dq};
    for (int s = 0; s < count; s++)
        job.most_keys = max_int64(job.most_keys, spans[s].k.rows + own_keys(shape, &spans[s]));
    job.scores = scratch_get(queue, SCRATCH_SCORES, pool_threads(backend->pool) * job.most_keys, sizeof(float));
    cpu_run(queue, (int64_t)count * shape->kv_heads, grad_task, &job);
}
