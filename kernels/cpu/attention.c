/* attention.c: causal softmax attention.
 *
 * Many rows: queries go in tiles of TILE positions, keys and values in blocks of as many, both counted
 * from position 0, so that a query's sums do not depend on which other queries are in the call. The
 * tiles of up to STACK_MOST heads that share a key head stand one below the other. Per such stack: scores
 * of every block that the tile sees (oneDNN), softmax per row, and the product with the values,
 * SUM_BLOCKS blocks at a time (oneDNN).
 * Few rows (decoding): each query alone, in one loop over its keys.
 *
 * A call is cut into runs of neighbouring spans: runs of few rows, and runs of many whose spans have as many
 * queries and keys. A run's tasks go to the threads together.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/stage.h"

enum {
    SUM_BLOCKS = 8, /* blocks of keys whose weighted values one product sums */
    FEW_SPANS = 32 /* in a run of few rows */
};

struct attention_job {
    struct queue *queue;
    const struct cpu_loops *loops;
    struct attention shape;
    const struct attention_span *spans; /* of the run */
    int count;
    struct matrix q, out; /* the run's rows */
    /* many rows */
    bool bf16;
    int64_t queries, keys; /* per span */
    int64_t blocks; /* of keys, per span */
    int64_t first_tile, tiles; /* of queries */
    int64_t stack, rows; /* heads in a stack; rows: stack * TILE */
    int64_t own, own_width; /* own keys of a query; rounded up to whole vectors */
    char *staged_keys; /* [span, kv head, block] of [head_size, TILE] */
    char *staged_values; /* [span, kv head, block] of [TILE, head_size] */
    const struct product *score; /* [rows, head_size] [head_size, TILE] */
    const struct product *weigh[SUM_BLOCKS][2]; /* [rows, (1 + i) TILE] [.., head_size]; [1]: added */
    float *workers; /* each `space` floats */
    int64_t space;
    /* few rows */
    int64_t first[FEW_SPANS + 1]; /* row of each span, and behind the last */
    int64_t most_keys;
    float *scores; /* per worker [most_keys] */
};

/* ---- few rows ---- */

void list_keys(const struct attention *shape, const struct attention_span *span, int64_t query, int64_t head,
               struct attend_keys keys[ATTEND_KEYS])
{
    int64_t size = shape->head_size, kv_width = shape->kv_heads * size;
    int64_t position = span->k.rows - span->queries + query, first = first_key(shape, position);
    keys[0] = (struct attend_keys){.keys = head_row(span->k, first, head, size),
                                   .values = head_row(span->v, first, head, size),
                                   .key_stride = span->k.stride,
                                   .value_stride = span->v.stride,
                                   .count = position - first + 1};
    keys[1] =
        (struct attend_keys){.key_stride = kv_width, .value_stride = kv_width, .count = own_keys(shape, span)};
    if (keys[1].count > 0) {
        keys[1].keys = head_row(span->own_k, query, head, size);
        keys[1].values = head_row(span->own_v, query, head, size);
    }
}

static void query_task(void *context, int task, int worker)
{
    const struct attention_job *job = context;
    const struct attention *shape = &job->shape;
    int64_t size = shape->head_size, head = task % shape->heads, row = task / shape->heads;
    struct attend_keys keys[ATTEND_KEYS];
    int s = 0;
    while (row >= job->first[s + 1])
        s++;
    list_keys(shape, &job->spans[s], row - job->first[s], head / (shape->heads / shape->kv_heads), keys);
    job->loops->attend(head_row(job->q, row, head, size), keys, size, shape->scale,
                       job->scores + worker * job->most_keys,
                       matrix_floats(job->out) + row * job->out.stride + head * size);
}

static void attend_queries(struct attention_job *job)
{
    int64_t threads = pool_threads(queue_cpu(job->queue)->pool);
    for (int s = 0; s < job->count; s++) {
        job->first[s + 1] = job->first[s] + job->spans[s].queries;
        job->most_keys =
            max_int64(job->most_keys, job->spans[s].k.rows + own_keys(&job->shape, &job->spans[s]));
    }
    job->scores = scratch_get(job->queue, SCRATCH_SCORES, threads * job->most_keys, sizeof(float));
    cpu_run(job->queue, job->q.rows * job->shape.heads, query_task, job);
}

/* ---- many rows ---- */

/* One block of one key head: keys transposed, values as they are, zeros past the last key. */
static void stage_block(void *context, int task, int worker)
{
    const struct attention_job *job = context;
    int64_t size = job->shape.head_size, values = size * TILE;
    int64_t block = task % job->blocks, head = task / job->blocks % job->shape.kv_heads;
    const struct attention_span *span = &job->spans[task / job->blocks / job->shape.kv_heads];
    int64_t row = block * TILE, count = min_int64(TILE, job->keys - row);
    char *keys = job->staged_keys + (size_t)(task * values) * operand_size(job->bf16);
    char *staged_values = job->staged_values + (size_t)(task * values) * operand_size(job->bf16);
    float *transposed = job->bf16 ? job->workers + worker * job->space : (float *)keys;
    struct matrix value_rows = matrix_cols(span->v, head * size, size);
    if (count < TILE)
        memset(transposed, 0, (size_t)values * sizeof *transposed);
    job->loops->transpose(head_row(span->k, row, head, size), span->k.stride, count, size, transposed, TILE);
    if (job->bf16)
        job->loops->round_bf16(transposed, values, (uint16_t *)keys);
    const void *staged = stage_left(job->loops, job->bf16, value_rows, row, count, TILE, staged_values);
    if (staged != staged_values)
        memcpy(staged_values, staged, (size_t)values * sizeof(float));
}

/* Where a stack's work lies in a worker's space. Row i is query i % TILE of the tile, of head i / TILE. */
struct stack {
    int64_t span, head; /* the first one */
    int64_t tile, first_block, blocks; /* of keys it sees */
    float *query; /* [rows, head_size], times scale; bf16 behind it when the job's are */
    float *scores; /* [blocks, rows, TILE] */
    void *weights; /* per sum [rows, its keys], in the compute type */
    float *own; /* [rows, own_width] scores, then weights, of own keys; -infinity behind them */
    float *result; /* [rows, head_size] */
};

/* The query of a stack's row, counted in its span; -1 for a position that is not in the call. */
static int64_t stack_query(const struct attention_job *job, const struct stack *stack, int64_t i)
{
    int64_t query = stack->tile * TILE + i % TILE - (job->keys - job->queries);
    return query >= 0 && query < job->queries ? query : -1;
}

/* Scaled queries; rows that are not in the call are zeros. Returns the left side. */
static const void *stage_queries(const struct attention_job *job, const struct stack *stack)
{
    int64_t size = job->shape.head_size;
    uint16_t *halves = (uint16_t *)(stack->query + job->rows * size);
    for (int64_t i = 0; i < job->rows; i++) {
        int64_t query = stack_query(job, stack, i);
        float *row = stack->query + i * size;
        if (query < 0)
            memset(row, 0, (size_t)size * sizeof *row);
        else
            job->loops->scale(
                job->shape.scale,
                head_row(job->q, stack->span * job->queries + query, stack->head + i / TILE, size), size, row);
    }
    if (!job->bf16)
        return stack->query;
    job->loops->round_bf16(stack->query, job->rows * size, halves);
    return halves;
}

void mask_scores(const struct attention *shape, int64_t position, int64_t first_block, int64_t blocks,
                 float *row, int64_t stride)
{
    int64_t seen = first_key(shape, position);
    for (int64_t b = 0; b < blocks; b++, row += stride) {
        int64_t key = (first_block + b) * TILE;
        for (int64_t c = 0; c < min_int64(seen - key, TILE); c++)
            row[c] = -INFINITY;
        for (int64_t c = max_int64(position + 1 - key, 0); c < TILE; c++)
            row[c] = -INFINITY;
    }
}

/* Scores of the own keys of row i. */
static void score_own(const struct attention_job *job, const struct stack *stack, int64_t i)
{
    const struct attention *shape = &job->shape;
    int64_t size = shape->head_size, query = stack_query(job, stack, i);
    int64_t head = (stack->head + i / TILE) / (shape->heads / shape->kv_heads);
    float *scores = stack->own + i * job->own_width;
    for (int64_t e = 0; e < job->own_width; e++)
        scores[e] = query < 0 || e >= job->own ? -INFINITY
                                               : job->loops->dot(stack->query + i * size,
                                                                 head_row(job->spans[stack->span].own_k, query,
                                                                          e * shape->kv_heads + head, size),
                                                                 size);
}

/* Adds the own values of row i to its result. */
static void weigh_own(const struct attention_job *job, const struct stack *stack, int64_t i)
{
    const struct attention *shape = &job->shape;
    int64_t size = shape->head_size, query = stack_query(job, stack, i);
    int64_t head = (stack->head + i / TILE) / (shape->heads / shape->kv_heads);
    for (int64_t e = 0; e < job->own; e++)
        job->loops->axpy(stack->own[i * job->own_width + e],
                         head_row(job->spans[stack->span].own_v, query, e * shape->kv_heads + head, size), size,
                         stack->result + i * size);
}

/* Softmax of row i of the scores into the weights, not yet divided by the sum, which is returned. */
static float weigh_row(const struct attention_job *job, const struct stack *stack, int64_t i)
{
    float *row = stack->scores + i * TILE;
    float *own = stack->own + i * job->own_width;
    int64_t stride = job->rows * TILE; /* from block to block */
    mask_scores(&job->shape, stack->tile * TILE + i % TILE, stack->first_block, stack->blocks, row, stride);
    float largest = job->loops->blocks_largest(row, stride, stack->blocks, TILE), sum = 0;
    if (job->own > 0) {
        score_own(job, stack, i);
        largest = fmaxf(largest, job->loops->blocks_largest(own, 0, 1, job->own_width));
        sum = job->loops->blocks_exp(own, 0, 1, job->own_width, largest, own, NULL);
    }
    for (int64_t b = 0; b < stack->blocks; b += SUM_BLOCKS) {
        int64_t blocks = min_int64(SUM_BLOCKS, stack->blocks - b);
        int64_t at = b * stride + i * blocks * TILE;
        sum += job->loops->blocks_exp(row + b * stride, stride, blocks, TILE, largest,
                                      job->bf16 ? NULL : (float *)stack->weights + at,
                                      job->bf16 ? (uint16_t *)stack->weights + at : NULL);
    }
    return sum;
}

static void stack_open(const struct attention_job *job, int task, int worker, struct stack *stack)
{
    const struct attention *shape = &job->shape;
    int64_t stacks = shape->heads / job->stack, all = stacks * job->count, size = shape->head_size;
    stack->tile = job->first_tile + job->tiles - 1 - task / all; /* the longest first */
    stack->span = task % all / stacks;
    stack->head = task % stacks * job->stack;
    stack->first_block = first_key(shape, stack->tile * TILE) / TILE;
    stack->blocks = stack->tile + 1 - stack->first_block;
    stack->query = job->workers + worker * job->space;
    stack->result = stack->query + 2 * job->rows * size;
    stack->own = stack->result + job->rows * size;
    stack->scores = stack->own + job->rows * job->own_width;
    stack->weights = stack->scores + stack->blocks * job->rows * TILE;
}

static void stack_task(void *context, int task, int worker)
{
    const struct attention_job *job = context;
    const struct attention *shape = &job->shape;
    int64_t size = shape->head_size, stride = job->rows * TILE;
    struct stack stack;
    stack_open(job, task, worker, &stack);
    int64_t kv_head = stack.span * shape->kv_heads + stack.head / (shape->heads / shape->kv_heads);
    size_t operand = operand_size(job->bf16), block = (size_t)(size * TILE) * operand;
    size_t base = (size_t)(kv_head * job->blocks + stack.first_block) * block;
    const void *queries = stage_queries(job, &stack);
    for (int64_t b = 0; b < stack.blocks; b++) {
        struct product_right keys = {.plain = job->staged_keys + base + (size_t)b * block};
        cpu_product(job->queue, job->score, worker, queries, &keys, stack.scores + b * stride);
    }
    float sums[STACK_MOST * TILE];
    for (int64_t i = 0; i < job->rows; i++)
        sums[i] = weigh_row(job, &stack, i);
    for (int64_t b = 0; b < stack.blocks; b += SUM_BLOCKS) {
        struct product_right values = {.plain = job->staged_values + base + (size_t)b * block};
        int64_t blocks = min_int64(SUM_BLOCKS, stack.blocks - b);
        cpu_product(job->queue, job->weigh[blocks - 1][b > 0], worker,
                    (char *)stack.weights + (size_t)(b * stride) * operand, &values, stack.result);
    }
    for (int64_t i = 0; i < job->rows; i++) {
        int64_t query = stack_query(job, &stack, i), head = stack.head + i / TILE;
        if (query < 0)
            continue;
        weigh_own(job, &stack, i);
        job->loops->scale(1.0f / sums[i], stack.result + i * size, size,
                          matrix_floats(job->out) + (stack.span * job->queries + query) * job->out.stride +
                              head * size);
    }
}

static bool find_attention_products(struct attention_job *job, int64_t most_blocks)
{
    struct product_shape shape = {
        .rows = job->rows, .inner = job->shape.head_size, .cols = TILE, .bf16 = job->bf16};
    if (!(job->score = cpu_product_find(job->queue, shape)))
        return false;
    shape.cols = job->shape.head_size;
    for (int64_t blocks = 1; blocks <= min_int64(SUM_BLOCKS, most_blocks); blocks++)
        for (int add = 0; add < (most_blocks > SUM_BLOCKS ? 2 : 1); add++) {
            shape.inner = blocks * TILE;
            shape.add = add > 0;
            if (!(job->weigh[blocks - 1][add] = cpu_product_find(job->queue, shape)))
                return false;
        }
    return true;
}

static void attend_stacks(struct attention_job *job)
{
    const struct attention *shape = &job->shape;
    int64_t threads = pool_threads(queue_cpu(job->queue)->pool), size = shape->head_size;
    int64_t pairs = (int64_t)job->count * shape->kv_heads;
    job->queries = job->spans[0].queries;
    job->keys = job->spans[0].k.rows;
    job->stack = heads_in_stack(shape);
    job->rows = job->stack * TILE;
    job->own = own_keys(shape, &job->spans[0]);
    job->own_width = round_up(job->own, ROW_MULTIPLE); /* whole vectors of every instruction set */
    job->blocks = divide_up(job->keys, TILE);
    job->first_tile = (job->keys - job->queries) / TILE;
    job->tiles = job->blocks - job->first_tile;
    int64_t most_blocks =
        shape->window > 0 ? min_int64(job->blocks, divide_up(shape->window, TILE) + 1) : job->blocks;
    job->space = 3 * job->rows * size + job->rows * job->own_width + 2 * most_blocks * job->rows * TILE;
    job->workers = scratch_get(job->queue, SCRATCH_SCORES, threads * job->space, sizeof(float));
    job->staged_keys =
        scratch_get(job->queue, SCRATCH_KEYS, pairs * job->blocks * size * TILE, operand_size(job->bf16));
    job->staged_values =
        scratch_get(job->queue, SCRATCH_VALUES, pairs * job->blocks * size * TILE, operand_size(job->bf16));
    if (!find_attention_products(job, most_blocks))
        return;
    cpu_run(job->queue, pairs * job->blocks, stage_block, job);
    cpu_run(job->queue, job->tiles * job->count * (shape->heads / job->stack), stack_task, job);
}

/* How many of the spans, from the first on, go together. */
static int run_length(const struct attention_span *spans, int count)
{
    int length = 1;
    if (has_few_queries(&spans[0]))
        while (length < count && length < FEW_SPANS && has_few_queries(&spans[length]))
            length++;
    else
        while (length < count && spans[length].queries == spans[0].queries &&
               spans[length].k.rows == spans[0].k.rows && spans[length].own_k.cols == spans[0].own_k.cols)
            length++;
    return length;
}

void cpu_attention(struct queue *queue, const struct attention *shape, struct matrix q,
                   const struct attention_span *spans, int count, struct matrix out)
{
    struct cpu_backend *backend = queue_cpu(queue);
    int64_t row = 0;
    for (int s = 0, length; s < count && !queue->failed; s += length) {
        int64_t rows = 0;
        length = run_length(spans + s, count - s);
        for (int i = s; i < s + length; i++)
            rows += spans[i].queries;
        struct attention_job job = {.queue = queue,
                                    .loops = backend->loops,
                                    .shape = *shape,
                                    .spans = spans + s,
                                    .count = length,
                                    .q = matrix_rows(q, row, rows),
                                    .out = matrix_rows(out, row, rows),
                                    .bf16 = backend->bf16};
        if (has_few_queries(&spans[s]))
            attend_queries(&job);
        else
            attend_stacks(&job);
        row += rows;
    }
}
