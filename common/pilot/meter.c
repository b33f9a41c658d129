#include "common/pilot/meter.h"

#include <stdlib.h>

#include "common/base/memory.h"
#include "common/model/config.h"

enum { BUFFER_SCALE, BUFFER_EXACT, BUFFER_CODED, BUFFER_NORMED, BUFFER_STATS, BUFFERS };

/* The weight is prepared for products of more rows than MATMUL_FEW_ROWS: fewer are asked together with some
 * that nobody looks at. */
#define LEAST_ROWS (MATMUL_FEW_ROWS + 1)

struct meter {
    struct backend *backend;
    struct queue *queue;
    struct weight *output; /* [V, H] */
    struct buffer *buffer[BUFFERS];
    struct matrix scale; /* [1, H] of the final norm */
    float epsilon;
    int64_t hidden, rows; /* rows: the most per call */
    float *values; /* [3, rows]: lse of coded, cross, entropy of exact */
    double sum;
    uint64_t count;
};

static int load_output(struct meter *meter, struct store *store, struct error *error)
{
    struct source_shape shape;
    void *data;
    if (store_get_source(store, "output", &shape, &data, error) < 0)
        return -1;
    const struct weight_part part = {.type = shape.type, .rows = shape.rows, .cols = shape.cols, .data = data};
    int result = part.cols == meter->hidden
                     ? weight_prepare(meter->backend, &part, 1, NULL, WEIGHT_FORWARD, &meter->output, error)
                     : error_set(error, "the store's output weight is for %lld values, its states have %lld",
                                 (long long)part.cols, (long long)meter->hidden);
    free(data);
    return result;
}

static int load_norm(struct meter *meter, struct store *store, struct error *error)
{
    struct source_shape shape;
    void *data;
    float *values = NULL;
    if (store_get_source(store, "final_norm", &shape, &data, error) < 0)
        return -1;
    int result = shape.rows * shape.cols == meter->hidden
                     ? array_alloc(&values, meter->hidden, error)
                     : error_set(error, "the store's final norm has %lld values, its states have %lld",
                                 (long long)(shape.rows * shape.cols), (long long)meter->hidden);
    if (result == 0) {
        dtype_to_f32(shape.type, data, meter->hidden, values);
        op_write(meter->queue, meter->scale, values);
    }
    free(values);
    free(data);
    return result < 0 ? -1 : queue_wait(meter->queue, error);
}

static int create_buffers(struct meter *meter, struct error *error)
{
    const size_t states = (size_t)(meter->rows * meter->hidden) * sizeof(float);
    const size_t sizes[BUFFERS] = {[BUFFER_SCALE] = (size_t)meter->hidden * sizeof(float),
                                   [BUFFER_EXACT] = states,
                                   [BUFFER_CODED] = states,
                                   [BUFFER_NORMED] = states,
                                   [BUFFER_STATS] = 3 * (size_t)meter->rows * sizeof(float)};
    for (int i = 0; i < BUFFERS; i++)
        if (buffer_create(meter->backend, sizes[i], &meter->buffer[i], error) < 0)
            return -1;
    meter->scale = matrix_f32(meter->buffer[BUFFER_SCALE], 1, meter->hidden);
    return array_alloc(&meter->values, 3 * meter->rows, error);
}

int meter_open(struct store *store, struct backend *backend, int64_t rows, struct meter **result,
               struct error *error)
{
    struct model_config config;
    struct meter *meter = memory_alloc(1, sizeof *meter, error);
    *result = NULL;
    if (!meter)
        return -1;
    meter->backend = backend;
    meter->rows = rows > LEAST_ROWS ? rows : LEAST_ROWS;
    meter->hidden = store_info(store)->hidden;
    if (config_from_json("manifest", json_object_get(store_manifest(store), "model"), &config, error) < 0 ||
        queue_create(backend, &meter->queue, error) < 0 || create_buffers(meter, error) < 0 ||
        load_norm(meter, store, error) < 0 || load_output(meter, store, error) < 0) {
        meter_close(meter);
        return -1;
    }
    meter->epsilon = config.norm_epsilon;
    *result = meter;
    return 0;
}

void meter_close(struct meter *meter)
{
    if (!meter)
        return;
    for (int i = 0; i < BUFFERS; i++)
        buffer_destroy(meter->buffer[i]);
    weight_destroy(meter->output);
    queue_destroy(meter->queue);
    free(meter->values);
    free(meter);
}

/* KL(q || p) = sum q log q - sum q log p = lse_p - sum_v q_v z_v - H(q), z the logits on coded states. */
int meter_add(struct meter *meter, const float *exact, const float *coded, int64_t rows, struct error *error)
{
    struct queue *queue = meter->queue;
    const int64_t asked = rows > LEAST_ROWS ? rows : LEAST_ROWS;
    const struct matrix left = matrix_f32(meter->buffer[BUFFER_EXACT], asked, meter->hidden);
    const struct matrix right = matrix_f32(meter->buffer[BUFFER_CODED], asked, meter->hidden);
    const struct matrix normed = matrix_f32(meter->buffer[BUFFER_NORMED], asked, meter->hidden);
    const struct matrix stats = matrix_f32(meter->buffer[BUFFER_STATS], 3 * asked, 1);
    const struct matrix lse = matrix_rows(stats, 0, asked), cross = matrix_rows(stats, asked, asked);
    const struct matrix entropy = matrix_rows(stats, 2 * asked, asked), none = matrix_none();
    const struct vocab vocab = {.tied = meter->output, .own = none};
    const struct vocab_stats of_coded = {.lse = lse};
    const struct vocab_stats of_exact = {.entropy = entropy};
    if (rows > meter->rows)
        return error_set(error, "%lld rows where %lld were said to be the most", (long long)rows,
                         (long long)meter->rows);
    op_write(queue, matrix_rows(left, 0, rows), exact);
    op_norm(queue, left, meter->scale, meter->epsilon, normed);
    op_write(queue, matrix_rows(left, 0, rows), coded);
    op_norm(queue, left, meter->scale, meter->epsilon, right);
    op_vocab_stats(queue, normed, &vocab, none, &of_exact);
    op_vocab_stats(queue, right, &vocab, none, &of_coded);
    op_vocab_cross(queue, right, &vocab, normed, &vocab, cross);
    op_read(queue, stats, meter->values);
    if (queue_wait(queue, error) < 0)
        return -1;
    for (int64_t r = 0; r < rows; r++)
        meter->sum +=
            (double)meter->values[r] - (double)meter->values[asked + r] - (double)meter->values[2 * asked + r];
    meter->count += (uint64_t)rows;
    return 0;
}

double meter_mean(const struct meter *meter)
{
    return meter->count > 0 ? meter->sum / (double)meter->count : 0;
}

void meter_reset(struct meter *meter)
{
    meter->sum = 0;
    meter->count = 0;
}
