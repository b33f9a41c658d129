#include "common/model/layer.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/model/upload.h"

struct layer {
    const struct model_config *config; /* the model's */
    int window;
    struct weight *qkv; /* [(heads + 2 kv_heads) D, H] */
    struct weight *o; /* [H, heads D] */
    struct weight *gate_up; /* [2 I, H] */
    struct weight *down; /* [H, I] */
    struct buffer *attention_norm, *mlp_norm; /* [H] */
    struct buffer *q_norm, *k_norm; /* [D], or NULL */
};

struct layer_scratch {
    int rows, spans, positions;
    struct buffer *normed; /* [rows, H] */
    struct buffer *wide; /* [rows, qkv or gate and up] */
    struct buffer *narrow; /* [rows, attention's output or activations] */
    struct buffer *table; /* [positions, D], for op_rope */
    struct buffer *position; /* [rows] i32 */
    int32_t *host_position; /* [rows] what `position` holds, as far as it has been written */
    int64_t written; /* rows */
    struct attention_span *attention; /* [spans] */
};

static int64_t query_cols(const struct model_config *config)
{
    return (int64_t)config->attention_heads * config->head_size;
}

static int64_t key_cols(const struct model_config *config)
{
    return (int64_t)config->kv_heads * config->head_size;
}

static int64_t qkv_cols(const struct model_config *config)
{
    return query_cols(config) + 2 * key_cols(config);
}

/* ---- one layer ---- */

static int load_weights(const struct model *model, int index, struct backend *backend, unsigned uses,
                        struct layer *layer, struct error *error)
{
    static const enum tensor_role qkv[] = {ROLE_Q, ROLE_K, ROLE_V}, gate_up[] = {ROLE_MLP_GATE, ROLE_MLP_UP};
    static const enum tensor_role qkv_bias[] = {ROLE_Q_BIAS, ROLE_K_BIAS, ROLE_V_BIAS};
    static const enum tensor_role gate_up_bias[] = {ROLE_GATE_BIAS, ROLE_UP_BIAS};
    static const enum tensor_role o[] = {ROLE_O}, o_bias[] = {ROLE_O_BIAS};
    static const enum tensor_role down[] = {ROLE_MLP_DOWN}, down_bias[] = {ROLE_DOWN_BIAS};
    if (roles_prepare(model, index, qkv, qkv_bias, 3, backend, uses, &layer->qkv, error) < 0 ||
        roles_prepare(model, index, o, o_bias, 1, backend, uses, &layer->o, error) < 0 ||
        roles_prepare(model, index, gate_up, gate_up_bias, 2, backend, uses, &layer->gate_up, error) < 0 ||
        roles_prepare(model, index, down, down_bias, 1, backend, uses, &layer->down, error) < 0 ||
        vector_upload(model, index, ROLE_ATTENTION_NORM, backend, &layer->attention_norm, error) < 0 ||
        vector_upload(model, index, ROLE_MLP_NORM, backend, &layer->mlp_norm, error) < 0 ||
        vector_upload(model, index, ROLE_Q_NORM, backend, &layer->q_norm, error) < 0 ||
        vector_upload(model, index, ROLE_K_NORM, backend, &layer->k_norm, error) < 0)
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
    layer->window = index >= config->window_layer ? config->window : 0;
    if (load_weights(model, index, backend, uses, layer, error) < 0) {
        layer_destroy(layer);
        return error_prefix(error, "layer %d", index + 1);
    }
    *result = layer;
    return 0;
}

void layer_destroy(struct layer *layer)
{
    if (!layer)
        return;
    weight_destroy(layer->qkv);
    weight_destroy(layer->o);
    weight_destroy(layer->gate_up);
    weight_destroy(layer->down);
    buffer_destroy(layer->attention_norm);
    buffer_destroy(layer->mlp_norm);
    buffer_destroy(layer->q_norm);
    buffer_destroy(layer->k_norm);
    free(layer);
}

size_t layer_bytes(const struct layer *layer)
{
    size_t vectors = 2 * (size_t)layer->config->hidden;
    if (layer->q_norm)
        vectors += 2 * (size_t)layer->config->head_size;
    return weight_bytes(layer->qkv) + weight_bytes(layer->o) + weight_bytes(layer->gate_up) +
           weight_bytes(layer->down) + vectors * sizeof(float);
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
    int64_t wide = larger(qkv_cols(config), 2 * (int64_t)config->intermediate);
    int64_t narrow = larger(query_cols(config), config->intermediate);
    if (floats_create(backend, rows, config->hidden, &scratch->normed, error) < 0 ||
        floats_create(backend, rows, wide, &scratch->wide, error) < 0 ||
        floats_create(backend, rows, narrow, &scratch->narrow, error) < 0 ||
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
    buffer_destroy(scratch->wide);
    buffer_destroy(scratch->narrow);
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
    if (floats_create(backend, capacity, key_cols(config), &kv->keys, error) < 0 ||
        floats_create(backend, capacity, key_cols(config), &kv->values, error) < 0) {
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

/* Norms per head where the family has them, then rope, of q and k within qkv. */
static void rotate(const struct layer *layer, struct queue *queue, struct layer_scratch *scratch,
                   const struct span *spans, int count, struct matrix qkv)
{
    const struct model_config *config = layer->config;
    struct matrix q = matrix_cols(qkv, 0, query_cols(config));
    struct matrix k = matrix_cols(qkv, query_cols(config), key_cols(config));
    struct matrix both = matrix_cols(qkv, 0, query_cols(config) + key_cols(config));
    int64_t positions = 1;
    if (layer->q_norm) {
        op_norm(queue, q, matrix_f32(layer->q_norm, 1, config->head_size), config->norm_epsilon, q);
        op_norm(queue, k, matrix_f32(layer->k_norm, 1, config->head_size), config->norm_epsilon, k);
    }
    /* Only as much of the table as is needed: a longer sequence than it was made for fails by its size. */
    for (int s = 0; s < count; s++)
        positions = larger(positions, (int64_t)spans[s].first + spans[s].rows);
    op_rope(queue, both, span_positions(queue, scratch, spans, count, qkv.rows),
            matrix_f32(scratch->table, positions, config->head_size), config->rope_pairs);
}

/* The keys and values that the rows of a span see; k and v [rows, kv_heads D] are those of the rows themselves. */
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

static void attend(const struct layer *layer, struct queue *queue, struct layer_scratch *scratch,
                   const struct span *spans, int count, struct matrix qkv, struct matrix out)
{
    const struct model_config *config = layer->config;
    const int64_t queries = query_cols(config), keys = key_cols(config);
    const struct attention attention = {.heads = config->attention_heads,
                                        .kv_heads = config->kv_heads,
                                        .head_size = config->head_size,
                                        .window = layer->window,
                                        .scale = (float)(1 / sqrt((double)config->head_size))};
    int64_t row = 0;
    count =
        count < scratch->spans ? count : scratch->spans; /* more of them: op_attention misses rows, and fails */
    for (int s = 0; s < count; row += spans[s++].rows)
        scratch->attention[s] =
            span_keys(queue, &spans[s], matrix_rows(matrix_cols(qkv, queries, keys), row, spans[s].rows),
                      matrix_rows(matrix_cols(qkv, queries + keys, keys), row, spans[s].rows));
    op_attention(queue, &attention, matrix_cols(qkv, 0, queries), scratch->attention, count, out);
}

void layer_attention(const struct layer *layer, struct queue *queue, struct layer_scratch *scratch,
                     const struct span *spans, int count, struct matrix x)
{
    const struct model_config *config = layer->config;
    struct matrix normed = matrix_f32(scratch->normed, x.rows, config->hidden);
    struct matrix qkv = matrix_f32(scratch->wide, x.rows, qkv_cols(config));
    struct matrix out = matrix_f32(scratch->narrow, x.rows, query_cols(config));

    op_norm(queue, x, matrix_f32(layer->attention_norm, 1, config->hidden), config->norm_epsilon, normed);
    if (x.rows > scratch->rows)
        return; /* the norm's output did not fit: the queue has failed */
    op_matmul(queue, normed, layer->qkv, qkv, OP_STORE);
    rotate(layer, queue, scratch, spans, count, qkv);
    attend(layer, queue, scratch, spans, count, qkv, out);
    op_matmul(queue, out, layer->o, x, OP_ADD);
}

void layer_mlp(const struct layer *layer, struct queue *queue, struct layer_scratch *scratch, struct matrix x)
{
    const struct model_config *config = layer->config;
    struct matrix normed = matrix_f32(scratch->normed, x.rows, config->hidden);
    struct matrix gate_up = matrix_f32(scratch->wide, x.rows, 2 * (int64_t)config->intermediate);
    struct matrix active = matrix_f32(scratch->narrow, x.rows, config->intermediate);
    op_norm(queue, x, matrix_f32(layer->mlp_norm, 1, config->hidden), config->norm_epsilon, normed);
    op_matmul(queue, normed, layer->gate_up, gate_up, OP_STORE);
    op_swiglu(queue, gate_up, active);
    op_matmul(queue, active, layer->down, x, OP_ADD);
}
