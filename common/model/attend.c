#include "common/model/attend.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/memory.h"
#include "common/model/upload.h"

struct attend {
    struct model_config config;
    int64_t rows, spans, positions;
    struct buffer *table; /* [positions, D], for op_rope */
    struct buffer *position; /* [rows] i32 */
    int32_t *host_position; /* [rows] what `position` holds, as far as it has been written */
    int64_t written; /* rows */
    struct attention_span *span, *gradient; /* [spans] */
};

static int create_table(const struct model_config *config, struct backend *backend, int64_t positions,
                        struct buffer **buffer, struct error *error)
{
    float *table;
    size_t count;
    if (!size_multiply((size_t)positions, (size_t)config->head_size, &count))
        return error_set(error, "a rope table of %lld positions cannot be addressed", (long long)positions);
    if (array_alloc(&table, count, error) < 0)
        return -1;
    config_rope_table(config, (int)positions, table);
    int result = floats_upload(backend, table, positions, config->head_size, buffer, error);
    free(table);
    return result;
}

int attend_create(const struct model_config *config, struct backend *backend, int64_t rows, int64_t spans,
                  int64_t positions, struct attend **result, struct error *error)
{
    struct attend *attend;
    *result = NULL;
    if (array_alloc(&attend, 1, error) < 0)
        return -1;
    *attend = (struct attend){.config = *config, .rows = rows, .spans = spans, .positions = positions};
    if (create_table(config, backend, positions, &attend->table, error) < 0 ||
        buffer_create(backend, (size_t)rows * sizeof(int32_t), &attend->position, error) < 0 ||
        array_alloc(&attend->host_position, rows, error) < 0 || array_alloc(&attend->span, spans, error) < 0 ||
        array_alloc(&attend->gradient, spans, error) < 0) {
        attend_destroy(attend);
        return -1;
    }
    *result = attend;
    return 0;
}

void attend_destroy(struct attend *attend)
{
    if (!attend)
        return;
    buffer_destroy(attend->table);
    buffer_destroy(attend->position);
    free(attend->host_position);
    free(attend->span);
    free(attend->gradient);
    free(attend);
}

/* ---- positions ---- */

/* Those of `rows` rows on the device, written only when they are not there already. */
static struct matrix span_positions(struct attend *attend, struct queue *queue, const struct span *spans,
                                    int count, int64_t rows)
{
    const struct matrix position = matrix_i32(attend->position, rows, 1);
    bool changed = rows > attend->written;
    int64_t row = 0;
    for (int s = 0; s < count; s++) {
        for (int i = 0; i < spans[s].rows && row < rows && row < attend->rows; i++, row++) {
            const int32_t at = spans[s].first + i;
            changed = changed || attend->host_position[row] != at;
            attend->host_position[row] = at;
        }
    }
    if (changed) {
        op_write(queue, position, attend->host_position);
        attend->written = rows;
    }
    return position;
}

/* Only as much of the table as is needed: a longer sequence than it was made for fails by its size. */
static struct matrix table_of(const struct attend *attend, const struct span *spans, int count)
{
    int64_t positions = 1;
    for (int s = 0; s < count; s++) {
        const int64_t end = (int64_t)spans[s].first + spans[s].rows;
        positions = end > positions ? end : positions;
    }
    return matrix_f32(attend->table, positions, attend->config.head_size);
}

void attend_rotate(struct attend *attend, struct queue *queue, const struct span *spans, int count,
                   struct matrix x)
{
    op_rope(queue, x, span_positions(attend, queue, spans, count, x.rows), table_of(attend, spans, count),
            attend->config.rope_pairs);
}

/* ---- attention ---- */

static struct attention attention_of(const struct attend *attend, int index)
{
    const struct model_config *config = &attend->config;
    return (struct attention){.heads = config->attention_heads,
                              .kv_heads = config->kv_heads,
                              .head_size = config->head_size,
                              .window = config_window(config, index),
                              .scale = (float)(1 / sqrt((double)config->head_size))};
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
    return (struct attention_span){.queries = span->rows, .k = k, .v = v};
}

void attend_forward(struct attend *attend, struct queue *queue, int index, const struct span *spans, int count,
                    struct matrix q, struct matrix k, struct matrix v, struct matrix out)
{
    const struct attention attention = attention_of(attend, index);
    int64_t row = 0;
    count = count < attend->spans ? count : (int)attend->spans; /* more: op_attention misses rows, and fails */
    for (int s = 0; s < count; row += spans[s++].rows)
        attend->span[s] =
            span_keys(queue, &spans[s], matrix_rows(k, row, spans[s].rows), matrix_rows(v, row, spans[s].rows));
    op_attention(queue, &attention, q, attend->span, count, out);
}

/* ---- gradients ---- */

void attend_rotate_back(struct attend *attend, struct queue *queue, const struct span *spans, int count,
                        struct matrix dx)
{
    op_rope_grad(queue, dx, span_positions(attend, queue, spans, count, dx.rows),
                 table_of(attend, spans, count), attend->config.rope_pairs);
}

void attend_backward(struct attend *attend, struct queue *queue, int index, const struct span *spans, int count,
                     struct matrix q, struct matrix k, struct matrix v, struct matrix out, struct matrix dout,
                     struct matrix dq, struct matrix dk, struct matrix dv)
{
    const struct attention attention = attention_of(attend, index);
    int64_t row = 0;
    count = count < attend->spans ? count : (int)attend->spans;
    for (int s = 0; s < count; row += spans[s++].rows) {
        const int64_t rows = spans[s].rows;
        attend->span[s] = (struct attention_span){
            .queries = rows, .k = matrix_rows(k, row, rows), .v = matrix_rows(v, row, rows)};
        attend->gradient[s] = (struct attention_span){
            .queries = rows, .k = matrix_rows(dk, row, rows), .v = matrix_rows(dv, row, rows)};
    }
    op_attention_grad(queue, &attention, q, attend->span, count, out, dout, dq, attend->gradient);
}
