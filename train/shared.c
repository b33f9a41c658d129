#include "train/shared.h"

#include <stdlib.h>

#include "common/base/memory.h"

enum {
    BUFFER_FINAL_NORM,
    BUFFER_LABELS,
    BUFFER_TEACHER,
    BUFFER_U,
    BUFFER_LSE,
    BUFFER_LABEL,
    BUFFER_TOP,
    BUFFER_ENTROPY
};

/* ---- making ---- */

static int load_output(struct shared *shared, const struct stores *stores, struct error *error)
{
    struct weight_part part = {0};
    void *data = NULL;
    if (shards_get_source(stores->shards, "output", &part.type, &part.rows, &part.cols, &data, error) < 0)
        return -1;
    part.data = data;
    int result;
    if (part.rows != stores->config.vocab || part.cols != stores->config.hidden)
        result =
            error_set(error, "the store's output weight is [%lld, %lld], not [%d, %d] as its model",
                      (long long)part.rows, (long long)part.cols, stores->config.vocab, stores->config.hidden);
    else
        result = weight_prepare(shared->backend, &part, 1, NULL, WEIGHT_FORWARD | WEIGHT_BACKWARD,
                                &shared->output, error);
    free(data);
    return result;
}

static int load_norm(struct shared *shared, const struct stores *stores, struct error *error)
{
    const struct head_source source = stores_head_source(stores);
    float *values;
    int64_t rows, cols;
    if (source.get(source.context, "final_norm", &values, &rows, &cols, error) < 0)
        return -1;
    int result = 0;
    if (rows * cols != shared->hidden)
        result = error_set(error, "the store's final_norm is [%lld, %lld], not %lld values as its model",
                           (long long)rows, (long long)cols, (long long)shared->hidden);
    else
        op_write(shared->queue, shared->final_norm, values);
    free(values);
    return result < 0 ? -1 : queue_wait(shared->queue, error);
}

/* The taps in order along the model, each once, the final one at the end. */
static int collect_taps(struct shared *shared, const struct tap *taps, int count, int layers,
                        struct error *error)
{
    if (array_alloc(&shared->tap, count + 1, error) < 0)
        return -1;
    for (int i = 0; i <= count; i++) {
        const struct tap tap = i < count ? taps[i] : (struct tap){.layer = layers};
        int place = 0;
        while (place < shared->taps && tap_compare(shared->tap[place], tap) < 0)
            place++;
        if (place < shared->taps && tap_compare(shared->tap[place], tap) == 0)
            continue;
        for (int later = shared->taps++; later > place; later--)
            shared->tap[later] = shared->tap[later - 1];
        shared->tap[place] = tap;
    }
    return 0;
}

static int create_buffers(struct shared *shared, struct error *error)
{
    const size_t rows = (size_t)shared->capacity, hidden = (size_t)shared->hidden;
    const size_t sizes[] = {
        [BUFFER_FINAL_NORM] = hidden, [BUFFER_LABELS] = rows, [BUFFER_TEACHER] = rows * hidden,
        [BUFFER_U] = rows * hidden,   [BUFFER_LSE] = rows,    [BUFFER_LABEL] = rows,
        [BUFFER_TOP] = rows,          [BUFFER_ENTROPY] = rows};
    size_t bytes;
    if (!size_multiply(rows, hidden, &bytes) || !size_multiply(bytes, sizeof(float), &bytes))
        return error_set(error, "a batch of %zu rows is too large", rows);
    for (int i = 0; i <= BUFFER_ENTROPY; i++) {
        if (buffer_create(shared->backend, sizes[i] * sizeof(float), &shared->buffer[i], error) < 0)
            return -1;
    }
    if (array_alloc(&shared->states, shared->taps, error) < 0)
        return -1;
    for (int t = 0; t < shared->taps; t++) {
        if (buffer_create(shared->backend, bytes, &shared->states[t], error) < 0)
            return -1;
    }
    shared->final_norm = matrix_f32(shared->buffer[BUFFER_FINAL_NORM], 1, shared->hidden);
    return 0;
}

int shared_create(const struct stores *stores, struct backend *backend, const struct tap *taps, int count,
                  int64_t rows, struct shared **shared, struct error *error)
{
    struct shared *made;
    *shared = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    made->backend = backend;
    made->norm_epsilon = stores->config.norm_epsilon;
    made->hidden = stores->config.hidden;
    made->capacity = rows;
    if (queue_create(backend, &made->queue, error) < 0 ||
        collect_taps(made, taps, count, stores->config.layers, error) < 0)
        goto fail;
    for (int t = 0; t < made->taps; t++) {
        if (shards_find_tap(stores->shards, made->tap[t], error) < 0)
            goto fail;
    }
    if (create_buffers(made, error) < 0 || load_norm(made, stores, error) < 0 ||
        load_output(made, stores, error) < 0)
        goto fail;
    *shared = made;
    return 0;
fail:
    shared_destroy(made);
    return -1;
}

void shared_destroy(struct shared *shared)
{
    if (!shared)
        return;
    for (int t = 0; shared->states && t < shared->taps; t++)
        buffer_destroy(shared->states[t]);
    for (int i = 0; i <= BUFFER_ENTROPY; i++)
        buffer_destroy(shared->buffer[i]);
    weight_destroy(shared->output);
    queue_destroy(shared->queue);
    free(shared->states);
    free(shared->tap);
    free(shared);
}

/* ---- a batch ---- */

static void set_rows(struct shared *shared, int64_t rows)
{
    struct buffer *const *buffer = shared->buffer;
    shared->rows = rows;
    shared->labels = matrix_i32(buffer[BUFFER_LABELS], rows, 1);
    shared->teacher = matrix_f32(buffer[BUFFER_TEACHER], rows, shared->hidden);
    shared->u = matrix_f32(buffer[BUFFER_U], rows, shared->hidden);
    shared->lse = matrix_f32(buffer[BUFFER_LSE], rows, 1);
    shared->label = matrix_f32(buffer[BUFFER_LABEL], rows, 1);
    shared->top = matrix_i32(buffer[BUFFER_TOP], rows, 1);
    shared->entropy = matrix_f32(buffer[BUFFER_ENTROPY], rows, 1);
}

static struct matrix states_rows(const struct shared *shared, int tap)
{
    return matrix_f32(shared->states[tap], shared->rows, shared->hidden);
}

int shared_load(struct shared *shared, const struct feed_batch *batch, unsigned teach, struct error *error)
{
    set_rows(shared, batch->rows);
    op_write(shared->queue, shared->labels, batch->labels);
    for (int t = 0; t < shared->taps; t++)
        op_write(shared->queue, states_rows(shared, t), batch->states[t]);
    op_norm(shared->queue, states_rows(shared, shared->taps - 1), shared->final_norm, shared->norm_epsilon,
            shared->teacher);
    if (teach) {
        const struct vocab vocab = {.tied = shared->output, .own = matrix_none()};
        const bool outcome = teach & TEACH_OUTCOME;
        const struct vocab_stats stats = {
            .lse = outcome ? shared->lse : matrix_none(),
            .label = outcome ? shared->label : matrix_none(),
            .top = outcome ? shared->top : matrix_none(),
            .top_logit = matrix_none(),
            .entropy = outcome ? shared->entropy : matrix_none(),
            .u = teach & TEACH_U ? shared->u : matrix_none(),
        };
        op_vocab_stats(shared->queue, shared->teacher, &vocab, outcome ? shared->labels : matrix_none(),
                       &stats);
    }
    return queue_wait(shared->queue, error);
}

struct matrix shared_states(const struct shared *shared, struct tap tap)
{
    int place = 0;
    while (place < shared->taps - 1 && tap_compare(shared->tap[place], tap) != 0)
        place++;
    return states_rows(shared, place);
}
