#include "common/model/layer.h"

#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/model/attend.h"
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
    int index;
    struct half half[BLOCK_HALVES];
};

struct layer_scratch {
    int rows;
    struct buffer *normed; /* [rows, H] */
    struct buffer *projected; /* [rows, the most that a half projects] */
    struct buffer *mixed; /* [rows, the most that a half mixes] */
    struct attend *attend;
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
    layer->index = index;
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
    int64_t projected = 0, mixed = 0;
    for (int i = 0; i < BLOCK_HALVES; i++) {
        const struct block_half *half = &block_of(config)->half[i];
        projected = larger(projected, half_projected(config, half));
        mixed = larger(mixed, half_mixed(config, half));
    }
    if (floats_create(backend, rows, config->hidden, &scratch->normed, error) < 0 ||
        floats_create(backend, rows, projected, &scratch->projected, error) < 0 ||
        floats_create(backend, rows, mixed, &scratch->mixed, error) < 0 ||
        attend_create(config, backend, rows, spans, positions, &scratch->attend, error) < 0) {
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
    attend_destroy(scratch->attend);
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

/* The result of a half's product among those of all. */
static struct matrix result_of(const struct layer *layer, const struct half *half, struct matrix projected,
                               int product)
{
    const int64_t column = half_column(layer->config, half->block, product);
    return matrix_cols(projected, column, half_column(layer->config, half->block, product + 1) - column);
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
        attend_rotate(scratch->attend, queue, spans, count,
                      matrix_cols(projected, 0, half_column(config, block, block->rotated)));
    switch (block->mix) {
    case MIX_ATTENTION:
        attend_forward(scratch->attend, queue, layer->index, spans, count, result_of(layer, half, projected, 0),
                       result_of(layer, half, projected, 1), result_of(layer, half, projected, 2), mixed);
        break;
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
