/* attention_grad.c: gradients of attention. A task has one key head of one span, and takes all its queries in order:
 * so the gradients of keys and values depend on their span alone.
 *
 * Many rows: tiles of queries, stacks of heads and blocks of keys as in attention.c. With S the scores of a stack and a
 * block, W their softmax, and a mean of every row, dout . out:
 *
 *     dW = dout V^T        dS = W (dW - mean)        dV += W^T dout        dK += dS^T q        dq += dS K
 *
 * are four products more than the one of S (oneDNN); q is scaled on its way in, dq on its way out.
 * Few rows: each query alone, in one loop over its keys. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/stage.h"

struct grad_job {
    struct queue *queue;
    const struct cpu_loops *loops;
    struct attention shape;
    const struct attention_span *spans, *dspans;
    struct matrix q, out, dout, dq;
    bool bf16;
    int64_t stack, rows; /* heads in a stack; rows: stack * TILE */
    const struct product *score; /* [rows, head_size] [head_size, TILE] */
    const struct product *spread; /* [TILE, rows] [rows, head_size], added */
    const struct product *mix; /* [rows, TILE] [TILE, head_size], added */
    char *workers; /* each `space` bytes */
    size_t space;
};

/* ---- few rows ---- */

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

/* row: of the span's first query */
static void few_queries(const struct grad_job *job, int64_t number, int64_t row, int64_t kv_head, float *scores)
{
    const struct attention *shape = &job->shape;
    const struct attention_span *span = &job->spans[number];
    int64_t size = shape->head_size, group = shape->heads / shape->kv_heads;
    for (int64_t query = 0; query < span->queries; query++, row++) {
        struct attend_keys keys[ATTEND_KEYS];
        struct attend_grads grads[ATTEND_KEYS];
        list_keys(shape, span, query, kv_head, keys);
        list_grads(shape, span, &job->dspans[number], query, kv_head, grads);
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
            float *dq = head_row(job->dq, row, head, size);
            memset(dq, 0, (size_t)size * sizeof *dq);
            job->loops->attend_grad(head_row(job->q, row, head, size), keys, size, shape->scale, scores,
                                    head_row(job->out, row, head, size), head_row(job->dout, row, head, size),
                                    dq, grads);
        }
    }
}

/* ---- many rows ---- */

/* A worker's memory for one key head of a span. Operands are in the compute type; the others are f32. Row i of a
 * stack is query i % TILE of the tile, of head i / TILE. */
struct part {
    const struct grad_job *job;
    const struct attention_span *span, *dspan;
    int worker;
    int64_t row, kv_head; /* row: of the span's first query */
    int64_t blocks; /* of keys */
    int64_t own, own_width;
    char *turned_keys, *turned_values; /* operands [blocks] of [head_size, TILE] */
    char *keys; /* operands [blocks TILE, head_size] */
    float *dkeys, *dvalues; /* [blocks TILE, head_size] */
    float *query, *dout, *dquery; /* [rows, head_size] */
    float *weights; /* [blocks] of [rows, TILE] */
    float *dweights; /* [rows, TILE]: of one block */
    float *turned; /* [TILE, rows] */
    float *own_weights; /* [rows, own_width], -infinity behind the scores */
    char *query_operand, *dout_operand, *operand; /* under bf16 what products read of those above */
    /* of the stack that is at work */
    int64_t tile, head; /* the first one */
    int64_t first_block, blocks_seen;
};

/* Memory that is given out piece by piece; start NULL: it is only counted. */
struct pieces {
    char *start;
    size_t used;
};

static void *take(struct pieces *pieces, int64_t count, size_t size)
{
    void *taken = pieces->start ? pieces->start + pieces->used : NULL;
    pieces->used += (size_t)round_up(count * (int64_t)size, 64);
    return taken;
}

/* Lays out the memory; returns its bytes. */
static size_t part_lay_out(struct part *part, const struct grad_job *job, char *memory)
{
    struct pieces pieces = {.start = memory};
    int64_t size = job->shape.head_size, keys = part->blocks * TILE * size, rows = job->rows * size;
    size_t operand = operand_size(job->bf16);
    part->turned_keys = take(&pieces, keys, operand);
    part->turned_values = take(&pieces, keys, operand);
    part->keys = take(&pieces, keys, operand);
    part->dkeys = take(&pieces, keys, sizeof(float));
    part->dvalues = take(&pieces, keys, sizeof(float));
    part->query = take(&pieces, rows, sizeof(float));
    part->dout = take(&pieces, rows, sizeof(float));
    part->dquery = take(&pieces, rows, sizeof(float));
    part->weights =
        take(&pieces, max_int64(part->blocks * job->rows * TILE, TILE * size), sizeof(float)); /* stage_keys */
    part->dweights = take(&pieces, job->rows * TILE, sizeof(float));
    part->turned = take(&pieces, job->rows * TILE, sizeof(float));
    part->own_weights = take(&pieces, job->rows * part->own_width, sizeof(float));
    part->query_operand = take(&pieces, rows, sizeof(uint16_t));
    part->dout_operand = take(&pieces, rows, sizeof(uint16_t));
    part->operand = take(&pieces, job->rows * TILE, sizeof(uint16_t));
    return pieces.used;
}

/* Values as products read them: in `to` when they are rounded. */
static const void *operand_of(const struct grad_job *job, const float *values, int64_t count, char *to)
{
    if (!job->bf16)
        return values;
    job->loops->round_bf16(values, count, (uint16_t *)to);
    return to;
}

/* `count` values into operands at index `at`. */
static void put_operands(const struct grad_job *job, const float *values, int64_t count, char *to, int64_t at)
{
    if (job->bf16)
        job->loops->round_bf16(values, count, (uint16_t *)to + at);
    else
        memcpy((float *)to + at, values, (size_t)count * sizeof *values);
}

/* Keys and values of the key head; zeros past the last one. */
static void stage_keys(const struct part *part)
{
    const struct grad_job *job = part->job;
    int64_t size = job->shape.head_size, values = TILE * size;
    float *space = part->weights; /* not in use yet */
    for (int64_t b = 0; b < part->blocks; b++) {
        int64_t row = b * TILE, count = min_int64(TILE, part->span->k.rows - row);
        memset(space, 0, (size_t)values * sizeof *space);
        job->loops->transpose(head_row(part->span->k, row, part->kv_head, size), part->span->k.stride, count,
                              size, space, TILE);
        put_operands(job, space, values, part->turned_keys, b * values);
        memset(space, 0, (size_t)values * sizeof *space);
        job->loops->transpose(head_row(part->span->v, row, part->kv_head, size), part->span->v.stride, count,
                              size, space, TILE);
        put_operands(job, space, values, part->turned_values, b * values);
        memset(space, 0, (size_t)values * sizeof *space);
        for (int64_t i = 0; i < count; i++)
            memcpy(space + i * size, head_row(part->span->k, row + i, part->kv_head, size),
                   (size_t)size * sizeof *space);
        put_operands(job, space, values, part->keys, b * values);
    }
    memset(part->dkeys, 0, (size_t)(part->blocks * values) * sizeof(float));
    memset(part->dvalues, 0, (size_t)(part->blocks * values) * sizeof(float));
}

/* A stack's row: its query, counted in the span, and -1 where that is not in the call. */
static int64_t query_of(const struct part *part, int64_t i)
{
    int64_t query = part->tile * TILE + i % TILE - (part->span->k.rows - part->span->queries);
    return query >= 0 && query < part->span->queries ? query : -1;
}

/* The row of m that belongs to a stack's row. */
static float *stack_row(const struct part *part, struct matrix m, int64_t i)
{
    return head_row(m, part->row + query_of(part, i), part->head + i / TILE, part->job->shape.head_size);
}

/* Scaled queries and dout; rows that are not in the call are zeros. */
static void stage_rows(const struct part *part)
{
    const struct grad_job *job = part->job;
    int64_t size = job->shape.head_size;
    for (int64_t i = 0; i < job->rows; i++) {
        float *query = part->query + i * size, *dout = part->dout + i * size;
        bool there = query_of(part, i) >= 0;
        memset(query, 0, (size_t)size * sizeof *query);
        memset(dout, 0, (size_t)size * sizeof *dout);
        if (!there)
            continue;
        job->loops->scale(job->shape.scale, stack_row(part, job->q, i), size, query);
        memcpy(dout, stack_row(part, job->dout, i), (size_t)size * sizeof *dout);
    }
    memset(part->dquery, 0, (size_t)(job->rows * size) * sizeof(float));
}

static const float *own_row(const struct part *part, struct matrix m, int64_t query, int64_t key)
{
    return head_row(m, query, key * part->job->shape.kv_heads + part->kv_head, part->job->shape.head_size);
}

/* Softmax of row i in place, not yet divided by the sum, whose inverse is returned. */
static float weigh_row(const struct part *part, int64_t i)
{
    const struct grad_job *job = part->job;
    int64_t stride = job->rows * TILE, size = job->shape.head_size, query = query_of(part, i);
    float *row = part->weights + i * TILE, *own = part->own_weights + i * part->own_width, sum = 0;
    mask_scores(&job->shape, part->tile * TILE + i % TILE, part->first_block, part->blocks_seen, row, stride);
    float largest = job->loops->blocks_largest(row, stride, part->blocks_seen, TILE);
    if (part->own > 0) {
        for (int64_t e = 0; e < part->own_width; e++)
            own[e] =
                query < 0 || e >= part->own
                    ? -INFINITY
                    : job->loops->dot(part->query + i * size, own_row(part, part->span->own_k, query, e), size);
        largest = fmaxf(largest, job->loops->blocks_largest(own, 0, 1, part->own_width));
        sum = job->loops->blocks_exp(own, 0, 1, part->own_width, largest, own, NULL);
    }
    for (int64_t b = 0; b < part->blocks_seen; b++, row += stride)
        sum += job->loops->blocks_exp(row, 0, 1, TILE, largest, row, NULL);
    return 1.0f / sum;
}

/* Own keys of row i: their gradients, and their part of dq. */
static void own_grads(const struct part *part, int64_t i, float inverse, float mean)
{
    const struct grad_job *job = part->job;
    int64_t size = job->shape.head_size, query = query_of(part, i);
    for (int64_t e = 0; query >= 0 && e < part->own; e++) {
        const float *value = own_row(part, part->span->own_v, query, e);
        float weight = part->own_weights[i * part->own_width + e] * inverse;
        float slope = weight * (job->loops->dot(part->dout + i * size, value, size) - mean);
        job->loops->axpy(slope, own_row(part, part->span->own_k, query, e), size, part->dquery + i * size);
        if (!matrix_is_none(part->dspan->own_k))
            job->loops->axpy(slope, part->query + i * size, size,
                             (float *)own_row(part, part->dspan->own_k, query, e));
        if (!matrix_is_none(part->dspan->own_v))
            job->loops->axpy(weight, part->dout + i * size, size,
                             (float *)own_row(part, part->dspan->own_v, query, e));
    }
}

/* sums [TILE, head_size] += the block's values [rows, TILE], transposed, times rows. */
static void spread_block(const struct part *part, const float *values, const void *rows, float *sums)
{
    const struct grad_job *job = part->job;
    const struct product_right right = {.plain = rows};
    job->loops->transpose(values, TILE, job->rows, TILE, part->turned, job->rows);
    cpu_product(job->queue, job->spread, part->worker,
                operand_of(job, part->turned, job->rows * TILE, part->operand), &right, sums);
}

static void stack_grads(const struct part *part)
{
    const struct grad_job *job = part->job;
    int64_t size = job->shape.head_size, stride = job->rows * TILE;
    size_t block = (size_t)(TILE * size) * operand_size(job->bf16);
    float inverse[STACK_MOST * TILE], mean[STACK_MOST * TILE];
    stage_rows(part);
    const void *queries = operand_of(job, part->query, job->rows * size, part->query_operand);
    const void *dout = operand_of(job, part->dout, job->rows * size, part->dout_operand);
    for (int64_t b = 0; b < part->blocks_seen; b++) {
        const struct product_right keys = {.plain =
                                               part->turned_keys + (size_t)(part->first_block + b) * block};
        cpu_product(job->queue, job->score, part->worker, queries, &keys, part->weights + b * stride);
    }
    for (int64_t i = 0; i < job->rows; i++) {
        inverse[i] = weigh_row(part, i);
        mean[i] = query_of(part, i) < 0
                      ? 0
                      : job->loops->dot(part->dout + i * size, stack_row(part, job->out, i), size);
        own_grads(part, i, inverse[i], mean[i]);
    }
    for (int64_t b = 0; b < part->blocks_seen; b++) {
        int64_t at = part->first_block + b;
        const struct product_right values = {.plain = part->turned_values + (size_t)at * block};
        const struct product_right keys = {.plain = part->keys + (size_t)at * block};
        float *weights = part->weights + b * stride;
        cpu_product(job->queue, job->score, part->worker, dout, &values, part->dweights);
        for (int64_t i = 0; i < job->rows; i++)
            job->loops->slopes(inverse[i], mean[i], TILE, weights + i * TILE, part->dweights + i * TILE);
        spread_block(part, weights, dout, part->dvalues + at * TILE * size);
        spread_block(part, part->dweights, queries, part->dkeys + at * TILE * size);
        cpu_product(job->queue, job->mix, part->worker, operand_of(job, part->dweights, stride, part->operand),
                    &keys, part->dquery);
    }
    for (int64_t i = 0; i < job->rows; i++)
        if (query_of(part, i) >= 0)
            job->loops->scale(job->shape.scale, part->dquery + i * size, size, stack_row(part, job->dq, i));
}

static void add_keys(const struct part *part, const float *sums, struct matrix to)
{
    int64_t size = part->job->shape.head_size;
    for (int64_t i = 0; i < to.rows && !matrix_is_none(to); i++)
        part->job->loops->axpy(1, sums + i * size, size, head_row(to, i, part->kv_head, size));
}

static void part_open(const struct grad_job *job, int64_t number, struct part *part)
{
    *part = (struct part){.job = job, .span = &job->spans[number], .dspan = &job->dspans[number]};
    part->blocks = divide_up(part->span->k.rows, TILE);
    part->own = own_keys(&job->shape, part->span);
    part->own_width = round_up(part->own, ROW_MULTIPLE);
}

static void many_queries(const struct grad_job *job, int64_t number, int64_t row, int64_t kv_head, int worker,
                         char *memory)
{
    int64_t group = job->shape.heads / job->shape.kv_heads;
    struct part part;
    part_open(job, number, &part);
    part_lay_out(&part, job, memory);
    part.worker = worker;
    part.row = row;
    part.kv_head = kv_head;
    stage_keys(&part);
    for (part.tile = (part.span->k.rows - part.span->queries) / TILE; part.tile < part.blocks; part.tile++) {
        part.first_block = first_key(&job->shape, part.tile * TILE) / TILE;
        part.blocks_seen = part.tile + 1 - part.first_block;
        for (part.head = kv_head * group; part.head < (kv_head + 1) * group; part.head += job->stack)
            stack_grads(&part);
    }
    add_keys(&part, part.dkeys, part.dspan->k);
    add_keys(&part, part.dvalues, part.dspan->v);
}

/* ---- tasks ---- */

static void grad_task(void *context, int task, int worker)
{
    const struct grad_job *job = context;
    int64_t number = task / job->shape.kv_heads, kv_head = task % job->shape.kv_heads, row = 0;
    char *memory = job->workers + (size_t)worker * job->space;
    for (int64_t s = 0; s < number; s++)
        row += job->spans[s].queries;
    if (has_few_queries(&job->spans[number]))
        few_queries(job, number, row, kv_head, (float *)memory);
    else
        many_queries(job, number, row, kv_head, worker, memory);
}

static bool find_grad_products(struct grad_job *job)
{
    struct product_shape shape = {
        .rows = job->rows, .inner = job->shape.head_size, .cols = TILE, .bf16 = job->bf16};
    job->score = cpu_product_find(job->queue, shape);
    shape = (struct product_shape){
        .rows = TILE, .inner = job->rows, .cols = job->shape.head_size, .bf16 = job->bf16, .add = true};
    job->spread = cpu_product_find(job->queue, shape);
    shape.rows = job->rows;
    shape.inner = TILE;
    job->mix = cpu_product_find(job->queue, shape);
    return job->score && job->spread && job->mix;
}

void cpu_attention_grad(struct queue *queue, const struct attention *shape, struct matrix q,
                        const struct attention_span *spans, int count, struct matrix out, struct matrix dout,
                        struct matrix dq, const struct attention_span *dspans)
{
    struct cpu_backend *backend = queue_cpu(queue);
    struct grad_job job = {.queue = queue,
                           .loops = backend->loops,
                           .shape = *shape,
                           .spans = spans,
                           .dspans = dspans,
                           .q = q,
                           .out = out,
                           .dout = dout,
                           .dq = dq,
                           .bf16 = backend->bf16,
                           .stack = heads_in_stack(shape)};
    bool any_many = false;
    job.rows = job.stack * TILE;
    for (int s = 0; s < count; s++) {
        struct part part;
        bool few = has_few_queries(&spans[s]);
        part_open(&job, s, &part);
        size_t bytes = few ? (size_t)round_up(spans[s].k.rows + part.own, ROW_MULTIPLE) * sizeof(float)
                           : part_lay_out(&part, &job, NULL);
        job.space = bytes > job.space ? bytes : job.space;
        any_many = any_many || !few;
    }
    job.workers = scratch_get(queue, SCRATCH_SCORES, pool_threads(backend->pool), job.space);
    if (!any_many || find_grad_products(&job))
        cpu_run(queue, (int64_t)count * shape->kv_heads, grad_task, &job);
}
