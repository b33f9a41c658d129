/* attention.c: causal softmax attention.
 *
 * Many rows: queries go in tiles of TILE positions, keys and values in blocks of as many, both counted
 * from position 0, so that a query's sums do not depend on which other queries are in the call. Per
 * tile and head: scores of every block that the tile sees (oneDNN), softmax per row, and the product
 * with the values, SPAN keys at a time (oneDNN).
 * Few rows (decoding): each query alone, in one loop over its keys.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/stage.h"

enum {
    TILE = TILE_ROWS,
    SPAN_BLOCKS = 8,
    SPAN = SPAN_BLOCKS * TILE /* keys whose weighted values one product sums */
};

struct attention_job {
    struct queue *queue;
    const struct cpu_loops *loops;
    struct attention shape;
    struct matrix q, k, v, out;
    int64_t queries, keys; /* per sequence */
    /* many rows */
    bool bf16;
    int64_t blocks; /* of keys, per sequence */
    int64_t first_tile, tiles; /* of queries */
    char *staged_keys; /* [sequence, kv head, block] of [head_size, TILE] */
    char *staged_values; /* [sequence, kv head, block] of [TILE, head_size] */
    const struct product *score; /* [TILE, head_size] [head_size, TILE] */
    const struct product *weigh[SPAN_BLOCKS][2]; /* [TILE, (1 + i) TILE] [.., head_size]; [1]: added */
    float *workers; /* each tile_space floats */
    int64_t tile_space;
    /* few rows */
    float *scores; /* per worker [keys] */
};

/* The keys that the query at `position` sees: [first, position]. */
static int64_t first_key(const struct attention *shape, int64_t position)
{
    return shape->window > 0 ? max_int64(0, position - shape->window + 1) : 0;
}

static const float *head_row(struct matrix m, int64_t row, int64_t head, int64_t head_size)
{
    return matrix_floats(m) + row * m.stride + head * head_size;
}

/* ---- few rows ---- */

static void query_piece(void *context, int piece, int worker)
{
    const struct attention_job *job = context;
    const struct attention *shape = &job->shape;
    int64_t size = shape->head_size, head = piece % shape->heads, row = piece / shape->heads;
    int64_t sequence = row / job->queries, position = job->keys - job->queries + row % job->queries;
    int64_t first = first_key(shape, position), kv_head = head / (shape->heads / shape->kv_heads);
    int64_t key_row = sequence * job->keys + first;
    job->loops->attend(head_row(job->q, row, head, size), head_row(job->k, key_row, kv_head, size),
                       job->k.stride, head_row(job->v, key_row, kv_head, size), job->v.stride,
                       position - first + 1, size, shape->scale, job->scores + worker * job->keys,
                       matrix_floats(job->out) + row * job->out.stride + head * size);
}

static void attend_queries(struct attention_job *job)
{
    int64_t threads = pool_threads(queue_cpu(job->queue)->pool);
    job->scores = scratch_get(job->queue, SCRATCH_SCORES, threads * job->keys, sizeof(float));
    cpu_run(job->queue, job->q.rows * job->shape.heads, query_piece, job);
}

/* ---- many rows ---- */

/* One block of one key head: keys transposed, values as they are, zeros past the last key. */
static void stage_block(void *context, int piece, int worker)
{
    const struct attention_job *job = context;
    int64_t size = job->shape.head_size, values = size * TILE;
    int64_t block = piece % job->blocks, head = piece / job->blocks % job->shape.kv_heads;
    int64_t sequence = piece / job->blocks / job->shape.kv_heads;
    int64_t count = min_int64(TILE, job->keys - block * TILE), row = sequence * job->keys + block * TILE;
    char *keys = job->staged_keys + (size_t)(piece * values) * operand_size(job->bf16);
    char *staged_values = job->staged_values + (size_t)(piece * values) * operand_size(job->bf16);
    float *transposed = job->bf16 ? job->workers + worker * job->tile_space : (float *)keys;
    struct matrix value_rows = matrix_cols(job->v, head * size, size);
    if (count < TILE)
        memset(transposed, 0, (size_t)values * sizeof *transposed);
    job->loops->transpose(head_row(job->k, row, head, size), job->k.stride, count, size, transposed, TILE);
    if (job->bf16)
        job->loops->round_bf16(transposed, values, (uint16_t *)keys);
    const void *staged = stage_left(job->loops, job->bf16, value_rows, row, count, TILE, staged_values);
    if (staged != staged_values)
        memcpy(staged_values, staged, (size_t)values * sizeof(float));
}

/* Where a tile's work lies in a worker's space. */
struct tile {
    int64_t number, first_block, blocks; /* of keys it sees */
    float *query; /* [TILE, head_size], times scale; bf16 behind it when the job's are */
    float *scores; /* [blocks, TILE, TILE] */
    void *weights; /* per span [TILE, its keys], in the compute type */
    float *result; /* [TILE, head_size] */
};

/* Scaled queries of the tile; rows that are not in the call are zeros. Returns the left side. */
static const void *stage_queries(const struct attention_job *job, const struct tile *tile, int64_t sequence,
                                 int64_t head)
{
    int64_t size = job->shape.head_size, first = job->keys - job->queries;
    uint16_t *halves = (uint16_t *)(tile->query + TILE * size);
    for (int64_t r = 0; r < TILE; r++) {
        int64_t query = tile->number * TILE + r - first;
        float *row = tile->query + r * size;
        if (query < 0 || query >= job->queries)
            memset(row, 0, (size_t)size * sizeof *row);
        else
            job->loops->scale(job->shape.scale, head_row(job->q, sequence * job->queries + query, head, size),
                              size, row);
    }
    if (!job->bf16)
        return tile->query;
    job->loops->round_bf16(tile->query, TILE * size, halves);
    return halves;
}

static void mask_row(const struct attention_job *job, const struct tile *tile, int64_t r)
{
    int64_t position = tile->number * TILE + r, seen = first_key(&job->shape, position);
    for (int64_t b = 0; b < tile->blocks; b++) {
        float *row = tile->scores + (b * TILE + r) * TILE;
        int64_t key = (tile->first_block + b) * TILE;
        if (key >= seen && key + TILE - 1 <= position)
            continue;
        for (int64_t c = 0; c < TILE; c++)
            if (key + c > position || key + c < seen)
                row[c] = -INFINITY;
    }
}

/* Softmax of row r of the scores into the weights, not yet divided by the sum, which is returned. */
static float weigh_row(const struct attention_job *job, const struct tile *tile, int64_t r)
{
    const float *row = tile->scores + r * TILE;
    mask_row(job, tile, r);
    float largest = job->loops->blocks_largest(row, TILE * TILE, tile->blocks, TILE), sum = 0;
    for (int64_t b = 0; b < tile->blocks; b += SPAN_BLOCKS) {
        int64_t blocks = min_int64(SPAN_BLOCKS, tile->blocks - b);
        int64_t at = b * TILE * TILE + r * blocks * TILE;
        sum += job->loops->blocks_exp(row + b * TILE * TILE, TILE * TILE, blocks, TILE, largest,
                                      job->bf16 ? NULL : (float *)tile->weights + at,
                                      job->bf16 ? (uint16_t *)tile->weights + at : NULL);
    }
    return sum;
}

static void tile_piece(void *context, int piece, int worker)
{
    const struct attention_job *job = context;
    const struct attention *shape = &job->shape;
    int64_t size = shape->head_size, pairs = (int64_t)shape->sequences * shape->heads;
    int64_t sequence = piece % pairs / shape->heads, head = piece % shape->heads;
    struct tile tile = {.number = job->first_tile + job->tiles - 1 - piece / pairs}; /* the longest first */
    tile.first_block = first_key(shape, tile.number * TILE) / TILE;
    tile.blocks = min_int64(tile.number + 1, job->blocks) - tile.first_block;
    tile.query = job->workers + worker * job->tile_space;
    tile.result = tile.query + 2 * TILE * size;
    tile.scores = tile.result + TILE * size;
    tile.weights = tile.scores + tile.blocks * TILE * TILE;

    int64_t kv_head = sequence * shape->kv_heads + head / (shape->heads / shape->kv_heads);
    size_t step = (size_t)(size * TILE) * operand_size(job->bf16);
    size_t base = (size_t)(kv_head * job->blocks + tile.first_block) * step;
    const void *queries = stage_queries(job, &tile, sequence, head);
    for (int64_t b = 0; b < tile.blocks; b++) {
        struct product_right keys = {.plain = job->staged_keys + base + (size_t)b * step};
        cpu_product(job->queue, job->score, worker, queries, &keys, tile.scores + b * TILE * TILE);
    }
    float sums[TILE];
    for (int64_t r = 0; r < TILE; r++)
        sums[r] = weigh_row(job, &tile, r);
    for (int64_t b = 0; b < tile.blocks; b += SPAN_BLOCKS) {
        struct product_right values = {.plain = job->staged_values + base + (size_t)b * step};
        int64_t blocks = min_int64(SPAN_BLOCKS, tile.blocks - b);
        cpu_product(job->queue, job->weigh[blocks - 1][b > 0], worker,
                    (char *)tile.weights + (size_t)(b * TILE * TILE) * operand_size(job->bf16), &values,
                    tile.result);
    }
    for (int64_t r = 0; r < TILE; r++) {
        int64_t query = tile.number * TILE + r - (job->keys - job->queries);
        if (query >= 0 && query < job->queries)
            job->loops->scale(1.0f / sums[r], tile.result + r * size, size,
                              matrix_floats(job->out) + (sequence * job->queries + query) * job->out.stride +
                                  head * size);
    }
}

static bool find_attention_products(struct attention_job *job, int64_t most_blocks)
{
    struct product_shape shape = {.rows = TILE, .inner = job->shape.head_size, .cols = TILE, .bf16 = job->bf16};
    if (!(job->score = cpu_product_find(job->queue, shape)))
        return false;
    shape.cols = job->shape.head_size;
    for (int64_t blocks = 1; blocks <= min_int64(SPAN_BLOCKS, most_blocks); blocks++)
        for (int add = 0; add < (most_blocks > SPAN_BLOCKS ? 2 : 1); add++) {
            shape.inner = blocks * TILE;
            shape.add = add > 0;
            if (!(job->weigh[blocks - 1][add] = cpu_product_find(job->queue, shape)))
                return false;
        }
    return true;
}

static void attend_tiles(struct attention_job *job)
{
    const struct attention *shape = &job->shape;
    int64_t threads = pool_threads(queue_cpu(job->queue)->pool), size = shape->head_size;
    int64_t pairs = (int64_t)shape->sequences * shape->kv_heads;
    int64_t first = job->keys - job->queries;
    job->blocks = piece_count(job->keys, TILE);
    job->first_tile = first / TILE;
    job->tiles = job->blocks - job->first_tile;
    int64_t most_blocks =
        shape->window > 0 ? min_int64(job->blocks, piece_count(shape->window, TILE) + 1) : job->blocks;
    job->tile_space = 3 * TILE * size + 2 * most_blocks * TILE * TILE;
    job->workers = scratch_get(job->queue, SCRATCH_SCORES, threads * job->tile_space, sizeof(float));
    job->staged_keys =
        scratch_get(job->queue, SCRATCH_KEYS, pairs * job->blocks * size * TILE, operand_size(job->bf16));
    job->staged_values =
        scratch_get(job->queue, SCRATCH_VALUES, pairs * job->blocks * size * TILE, operand_size(job->bf16));
    if (!find_attention_products(job, most_blocks))
        return;
    cpu_run(job->queue, pairs * job->blocks, stage_block, job);
    cpu_run(job->queue, job->tiles * shape->sequences * shape->heads, tile_piece, job);
}

void cpu_attention(struct queue *queue, const struct attention *shape, struct matrix q, struct matrix k,
                   struct matrix v, struct matrix out)
{
    struct cpu_backend *backend = queue_cpu(queue);
    struct attention_job job = {.queue = queue,
                                .loops = backend->loops,
                                .shape = *shape,
                                .q = q,
                                .k = k,
                                .v = v,
                                .out = out,
                                .queries = q.rows / shape->sequences,
                                .keys = k.rows / shape->sequences,
                                .bf16 = backend->bf16};
    if (job.queries <= MATMUL_FEW_ROWS)
        attend_queries(&job);
    else
        attend_tiles(&job);
}
