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
    int rows, positions;
    struct buffer *normed; /* [rows, H] */
    struct buffer *wide; /* [rows, qkv or gate and up] */
    struct buffer *narrow; /* [rows, attention's output or activations] */
    struct buffer *table; /* [positions, D], for op_rope */
    struct buffer *position; /* [rows] i32 */
    int32_t *host_position; /* [rows] */
    struct place placed; /* what `position` holds, and for how many rows; 0: nothing yet */
    int64_t placed_rows;
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

int scratch_create(const struct model_config *config, struct backend *backend, int rows, int positions,
                   struct layer_scratch **result, struct error *error)
{
    struct layer_scratch *scratch;
    *result = NULL;
    if (rows < 1 || positions < 1)
        return error_set(error, "working memory for %d tokens of sequences of %d", rows, positions);
    if (array_alloc(&scratch, 1, error) < 0)
        return -1;
    scratch->rows = rows;
    scratch->positions = positions;
    int64_t wide = larger(qkv_cols(config), 2 * (int64_t)config->intermediate);
    int64_t narrow = larger(query_cols(config), config->intermediate);
    if (floats_create(backend, rows, config->hidden, &scratch->normed, error) < 0 ||
        floats_create(backend, rows, wide, &scratch->wide, error) < 0 ||
        floats_create(backend, rows, narrow, &scratch->narrow, error) < 0 ||
        create_table(config, backend, positions, &scratch->table, error) < 0 ||
        buffer_create(backend, (size_t)rows * sizeof(int32_t), &scratch->position, error) < 0 ||
        array_alloc(&scratch->host_position, rows, error) < 0) {
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

static int sequence_count(const struct place *place)
{
    return place->kv ? 1 : place->sequences;
}

/* Positions of `rows` rows on the device, written only when they are not there already. The caller has
 * made sure that rows fit. */
static struct matrix place_positions(struct queue *queue, struct layer_scratch *scratch,
                                     const struct place *place, int64_t rows)
{
    struct matrix position = matrix_i32(scratch->position, rows, 1);
    int sequences = sequence_count(place);
    int64_t length = rows / sequences;
    if (scratch->placed_rows == rows && scratch->placed.sequences == sequences &&
        scratch->placed.first == place->first)
        return position;
    for (int64_t i = 0; i < rows; i++)
        scratch->host_position[i] = (int32_t)(place->first + i % length);
    op_write(queue, position, scratch->host_position);
    scratch->placed = (struct place){.sequences = sequences, .first = place->first};
    scratch->placed_rows = rows;
    return position;
}

/* Norms per head where the family has them, then rope, of q and k within qkv. */
static void rotate(const struct layer *layer, struct queue *queue, struct layer_scratch *scratch,
                   const struct place *place, struct matrix qkv)
{
    const struct model_config *config = layer->config;
    struct matrix q = matrix_cols(qkv, 0, query_cols(config));
    struct matrix k = matrix_cols(qkv, query_cols(config), key_cols(config));
    struct matrix both = matrix_cols(qkv, 0, query_cols(config) + key_cols(config));
    int64_t positions = place->first + qkv.rows / sequence_count(place);
    if (layer->q_norm) {
        op_norm(queue, q, matrix_f32(layer->q_norm, 1, config->head_size), config->norm_epsilon, q);
        op_norm(queue, k, matrix_f32(layer->k_norm, 1, config->head_size), config->norm_epsilon, k);
    }
    /* Only as much of the table as is needed: a longer sequence than it was made for fails by its size. */
    op_rope(queue, both, place_positions(queue, scratch, place, qkv.rows),
            matrix_f32(scratch->table, positions, config->head_size), config->rope_pairs);
}

void layer_attention(const struct layer *layer, struct queue *queue, struct layer_scratch *scratch,
                     const struct place *place, struct matrix x)
{
    const struct model_config *config = layer->config;
    int64_t queries = query_cols(config), keys = key_cols(config);
    struct attention attention = {.sequences = sequence_count(place),
                                  .heads = config->attention_heads,
                                  .kv_heads = config->kv_heads,
                                  .head_size = config->head_size,
                                  .window = layer->window,
                                  .scale = (float)(1 / sqrt((double)config->head_size))};
    struct matrix normed = matrix_f32(scratch->normed, x.rows, config->hidden);
    struct matrix qkv = matrix_f32(scratch->wide, x.rows, qkv_cols(config));
    struct matrix out = matrix_f32(scratch->narrow, x.rows, queries);
    struct matrix k = matrix_cols(qkv, queries, keys), v = matrix_cols(qkv, queries + keys, keys);

    op_norm(queue, x, matrix_f32(layer->attention_norm, 1, config->hidden), config->norm_epsilon, normed);
    if (x.rows > scratch->rows)
        return; /* the norm's output did not fit: the queue has failed */
    op_matmul(queue, normed, layer->qkv, qkv, OP_STORE);
    rotate(layer, queue, scratch, place, qkv);
    if (place->kv) {
        const struct kv *kv = place->kv;
        op_copy(queue, k, matrix_rows(matrix_f32(kv->keys, kv->capacity, keys), place->first, x.rows));
        op_copy(queue, v, matrix_rows(matrix_f32(kv->values, kv->capacity, keys), place->first, x.rows));
        k = matrix_f32(kv->keys, place->first + x.rows, keys);
        v = matrix_f32(kv->values, place->first + x.rows, keys);
    }
    op_attention(queue, &attention, matrix_cols(qkv, 0, queries), k, v, out);
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
