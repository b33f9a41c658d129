#include "common/model/layer.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/model/upload.h"

/* A half of a layer with its weights; NULL what the model does not have. */
struct half {
    const struct block_half *block;
    struct buffer *norm; /* [H] */
    struct weight *in; /* [projected, H] the products of block->in, stacked */
    struct buffer *in_norm[BLOCK_STACKED];
    struct weight *out; /* [H, mixed] */
};

struct layer {
    const struct model_config *config; /* the model's */
    int window;
    struct half half[BLOCK_HALVES];
};

struct layer_scratch {
    int rows, spans, positions;
    struct buffer *normed; /* [rows, H] */
    struct buffer *projected; /* [rows, the most that a half projects] */
    struct buffer *mixed; /* [rows, the most that a half mixes] */
    struct buffer *table; /* [positions, D], for op_rope */
    struct buffer *position; /* [rows] i32 */
    int32_t *host_position; /* [rows] what `position` holds, as far as it has been written */
    int64_t written; /* rows */
    struct attention_span *attention; /* [spans] */
};

/* ---- one layer ---- */

static int load_half(const struct model *model, int index, struct backend *backend, unsigned uses,
                     struct half *half, struct error *error)
{
    const struct block_half *block = half->block;
    const int products = half_products(block);
    if (products_prepare(model, index, block->in, products, backend, uses, &half->in, error) < 0 ||
        products_prepare(model, index, &block->out, 1, backend, uses, &half->out, error) < 0 ||
        vector_upload(model, index, block->norm, backend, &half->norm, error) < 0)
        return -1;
    for (int i = 0; i < products; i++)
        if (vector_upload(model, index, block->in_norm[i], backend, &half->in_norm[i], error) < 0)
            return -1;
    return 0;
}

int layer_load(const struct model *model, int index, struct backend *backend, unsigned uses,
               struct layer **result, struct error *error)
{
    const struct model_config *config = model_config(model);
    struct layer *layer;
    *result = NULL;
    if (cli_interrupted())
        return error_set_kind(error, ERROR_INTERRUPTED, "interrupted while the weights were loaded");
    if (array_alloc(&layer, 1, error) < 0)
        return -1;
    layer->config = config;
    layer->window = config_window(config, index);
    for (int i = 0; i < BLOCK_HALVES; i++) {
        layer->half[i].block = &block_of(config)->half[i];
        if (load_half(model, index, backend, uses, &layer->half[i], error) < 0) {
            layer_destroy(layer);
            return error_prefix(error, "layer %d", index + 1);
        }
    }
    *result = layer;
    return 0;
}

void layer_destroy(struct layer *layer)
{
    if (!layer)
        return;
    for (int i = 0; i < BLOCK_HALVES; i++) {
        struct half *half = &layer->half[i];
        weight_destroy(half->in);
        weight_destroy(half->out);
        buffer_destroy(half->norm);
        for (int p = 0; p < BLOCK_STACKED; p++)
            buffer_destroy(half->in_norm[p]);
    }
    free(layer);
}

size_t layer_bytes(const struct layer *layer)
{
    const struct model_config *config = layer->config;
    size_t bytes = 0;
    for (int i = 0; i < BLOCK_HALVES; i++) {
        const struct half *half = &layer->half[i];
        int64_t vectors = role_rows(config, half->block->norm);
        for (int p = 0; p < half_products(half->block); p++)
            vectors += role_rows(config, half->block->in_norm[p]);
        bytes += weight_bytes(half->in) + weight_bytes(half->out) + sizeof(float) * (size_t)vectors;
    }
    return bytes;
}

/* ---- working memory ---- */

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int create_table(const struct model_config *config, struct backend *backend, int positions,
                        struct buffer **buffer, struct error *error)
{
    float *table;
    size_t count;
    if (!size_multiply((size_t)positions, (size_t)config->head_size, &count))
        return error_set(error, "a rope table of %d positions cannot be addressed", positions);
    if (array_alloc(&table, count, error) < 0)
        return -1;
    config_rope_table(config, positions, table);
    int result = floats_upload(backend, table, positions, config->head_size, buffer, error);
    free(table);
    return result;
}

int scratch_create(const struct model_config *config, struct backend *backend, int rows, int spans,
                   int positions, struct layer_scratch **result, struct error *error)
{
    struct layer_scratch *scratch;
    *result = NULL;
    if (rows < 1 || spans < 1 || positions < 1)
        return error_set(error, "working memory for %d tokens of %d sequences of %d", rows, spans, positions);
    if (array_alloc(&scratch, 1, error) < 0)
        return -1;
    scratch->rows = rows;
    scratch->spans = spans;
    scratch->positions = positions;
    int64_t projected = 0, mixed = 0;
    for (int i = 0; i < BLOCK_HALVES; i++) {
        const struct block_half *half = &block_of(config)->half[i];
        projected = larger(projected, half_projected(config, half));
        mixed = larger(mixed, half_mixed(config, half));
    }
    if (floats_create(backend, rows, config->hidden, &scratch->normed, error) < 0 ||
        floats_create(backend, rows, projected, &scratch->projected, error) < 0 ||
        floats_create(backend, rows, mixed, &scratch->mixed, error) < 0 ||
        create_table(config, backend, positions, &scratch->table, error) < 0 ||
        buffer_create(backend, (size_t)rows * sizeof(int32_t), &scratch->position, error) < 0 ||
        array_alloc(&scratch->host_position, rows, error) < 0 ||
        array_alloc(&scratch->attention, spans, error) < 0) {
        scratch_destroy(scratch);
        return -1;
    }
    *result = scratch;
    return 0;
}

void scratch_destroy(struct layer_scratch *scratch)
{
    if (!scratch)
        return;
    buffer_destroy(scratch->normed);
    buffer_destroy(scratch->projected);
    buffer_destroy(scratch->mixed);
    buffer_destroy(scratch->table);
    buffer_destroy(scratch->position);
    free(scratch->host_position);
    free(scratch->attention);
    free(scratch);
}

int kv_create(const struct model_config *config, struct backend *backend, int capacity, struct kv *kv,
              struct error *error)
{
    *kv = (struct kv){.capacity = capacity};
    if (capacity < 1)
        return error_set(error, "keys and values of %d tokens", capacity);
    if (floats_create(backend, capacity, role_rows(config, ROLE_K), &kv->keys, error) < 0 ||
        floats_create(backend, capacity, role_rows(config, ROLE_V), &kv->values, error) < 0) {
        kv_destroy(kv);
        return -1;
    }
    return 0;
}

void kv_destroy(struct kv *kv)
{
    buffer_destroy(kv->keys);
    buffer_destroy(kv->values);
    *kv = (struct kv){0};
}

/* ---- running ---- */

/* Positions of `rows` rows on the device, written only when they are not there already. The caller has
 * made sure that rows fit. */
static struct matrix span_positions(struct queue *queue, struct layer_scratch *scratch,
                                    const struct span *spans, int count, int64_t rows)
{
    const struct matrix position = matrix_i32(scratch->position, rows, 1);
    bool changed = rows > scratch->written;
    int64_t row = 0;
    for (int s = 0; s < count; s++) {
        for (int i = 0; i < spans[s].rows && row < rows; i++, row++) {
            const int32_t at = spans[s].first + i;
            changed = changed || scratch->host_position[row] != at;
            scratch->host_position[row] = at;
        }
    }
    if (changed) {
        op_write(queue, position, scratch->host_position);
        scratch->written = rows;
    }
    return position;
}

/* Rope of the results that are rotated; they are neighbours. */
static void rotate(const struct layer *layer, struct queue *queue, struct layer_scratch *scratch,
                   const struct span *spans, int count, struct matrix x)
{
    const struct model_config *config = layer->config;
    int64_t positions = 1;
    /* Only as much of the table as is needed: a longer sequence than it was made for fails by its size. */
    for (int s = 0; s < count; s++)
        positions = larger(positions, (int64_t)spans[s].first + spans[s].rows);
    op_rope(queue, x, span_positions(queue, scratch, spans, count, x.rows),
            matrix_f32(scratch->table, positions, config->head_size), config->rope_pairs);
}

/* The keys and values that the rows of a span see; k and v [rows, kv_heads D] are those of the rows
 * themselves. */
static struct attention_span span_keys(struct queue *queue, const struct span *span, struct matrix k,
                                       struct matrix v)
{
    const struct kv *kv = span->kv;
    if (kv) {
        const int64_t rows = span->first + k.rows;
        op_copy(queue, k, matrix_rows(matrix_f32(kv->keys, kv->capacity, k.cols), span->first, k.rows));
        op_copy(queue, v, matrix_rows(matrix_f32(kv->values, kv->capacity, v.cols), span->first, v.rows));
        k = matrix_f32(kv->keys, rows, k.cols);
        v = matrix_f32(kv->values, rows, v.cols);
    }
    return (struct attention_span){span->rows, k, v};
}

/* The result of a half's product among those of all. */
static struct matrix result_of(const struct layer *layer, const struct half *half, struct matrix projected,
                               int product)
{
    const int64_t column = half_column(layer->config, half->block, product);
    return matrix_cols(projected, column, half_column(layer->config, half->block, product + 1) - column);
}

static void attend(const struct layer *layer, const struct half *half, struct queue *queue,
                   struct layer_scratch *scratch, const struct span *spans, int count, struct matrix projected,
                   struct matrix mixed)
{
    const struct model_config *config = layer->config;
    const struct attention attention = {.heads = config->attention_heads,
                                        .kv_heads = config->kv_heads,
                                        .head_size = config->head_size,
                                        .window = layer->window,
                                        .scale = (float)(1 / sqrt((double)config->head_size))};
    const struct matrix q = result_of(layer, half, projected, 0);
    const struct matrix k = result_of(layer, half, projected, 1), v = result_of(layer, half, projected, 2);
    int64_t row = 0;
    count =
        count < scratch->spans ? count : scratch->spans; /* more of them: op_attention misses rows, and fails */
    for (int s = 0; s < count; row += spans[s++].rows)
        scratch->attention[s] =
            span_keys(queue, &spans[s], matrix_rows(k, row, spans[s].rows), matrix_rows(v, row, spans[s].rows));
    op_attention(queue, &attention, q, scratch->attention, count, mixed);
}

/* x + out(mix(in(norm(x)))): block.h. */
static void run_half(const struct layer *layer, const struct half *half, struct queue *queue,
                     struct layer_scratch *scratch, const struct span *spans, int count, struct matrix x)
{
    const struct model_config *config = layer->config;
    const struct block_half *block = half->block;
    const struct matrix normed = matrix_f32(scratch->normed, x.rows, config->hidden);
    const struct matrix projected = matrix_f32(scratch->projected, x.rows, half_projected(config, block));
    const struct matrix mixed = matrix_f32(scratch->mixed, x.rows, half_mixed(config, block));

    op_norm(queue, x, matrix_f32(half->norm, 1, config->hidden), config->norm_epsilon, normed);
    if (x.rows > scratch->rows)
        return; /* the norm's output did not fit: the queue has failed */
    op_matmul(queue, normed, half->in, projected, OP_STORE);
    for (int i = 0; i < BLOCK_STACKED; i++) {
        if (!half->in_norm[i])
            continue;
        const struct matrix result = result_of(layer, half, projected, i);
        const struct matrix scale = matrix_f32(half->in_norm[i], 1, role_rows(config, block->in_norm[i]));
        op_norm(queue, result, scale, config->norm_epsilon, result);
    }
    if (block->rotated > 0)
        rotate(layer, queue, scratch, spans, count,
               matrix_cols(projected, 0, half_column(config, block, block->rotated)));
    switch (block->mix) {
    case MIX_ATTENTION: attend(layer, half, queue, scratch, spans, count, projected, mixed); break;
    case MIX_SWIGLU: op_swiglu(queue, projected, mixed); break;
    }
    op_matmul(queue, mixed, half->out, x, OP_ADD);
}

void layer_attention(const struct layer *layer, struct queue *queue, struct layer_scratch *scratch,
                     const struct span *spans, int count, struct matrix x)
{
    run_half(layer, &layer->half[HALF_ATTENTION], queue, scratch, spans, count, x);
}

void layer_mlp(const struct layer *layer, struct queue *queue, struct layer_scratch *scratch, struct matrix x)
{
    run_half(layer, &layer->half[HALF_MLP], queue, scratch, NULL, 0, x);
}
