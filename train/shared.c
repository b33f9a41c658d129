#include "train/shared.h"

#include <stdlib.h>

#include "common/base/memory.h"

enum { BUFFER_FINAL_NORM, BUFFER_LABELS, BUFFER_TEACHER, BUFFER_U, BUFFER_ENTROPY, BUFFERS };

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

/* The taps in order along the model, each once, the final one among them where it is wanted. */
static int collect_taps(struct shared *shared, const struct tap *taps, int count, bool final, int layers,
                        struct error *error)
{
    const int all = count + final;
    if (array_alloc(&shared->tap, all, error) < 0)
        return -1;
    for (int i = 0; i < all; i++) {
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
    const size_t sizes[BUFFERS] = {
        [BUFFER_FINAL_NORM] = hidden,
        [BUFFER_LABELS] = rows,
        [BUFFER_TEACHER] = shared->reads_final ? rows * hidden : 1,
        [BUFFER_U] = rows * hidden,
        [BUFFER_ENTROPY] = rows,
    };
    size_t bytes;
    if (!size_multiply(rows, hidden, &bytes) || !size_multiply(bytes, sizeof(float), &bytes))
        return error_set(error, "a batch of %zu rows is too large", rows);
    for (int i = 0; i < BUFFERS; i++) {
        if (buffer_create(shared->backend, sizes[i] * sizeof(float), &shared->buffer[i], error) < 0)
            return -1;
    }
    if (answer_create(shared->backend, shared->capacity, &shared->answer, error) < 0 ||
        array_alloc(&shared->computed, rows, error) < 0 || array_alloc(&shared->entropy, rows, error) < 0)
        return -1;
    if (array_alloc(&shared->states, shared->taps, error) < 0)
        return -1;
    for (int t = 0; t < shared->taps; t++) {
        if (buffer_create(shared->backend, bytes, &shared->states[t], error) < 0)
            return -1;
    }
    shared->final_norm = matrix_f32(shared->buffer[BUFFER_FINAL_NORM], 1, shared->hidden);
    return 0;
}

/* Whether this takes the final states. */
static bool needs_final(unsigned teach, bool target)
{
    return teach & (TEACH_STATES | TEACH_STATES_ENTROPY) || (!target && teach & (TEACH_U | TEACH_OUTCOME));
}

int shared_create(const struct stores *stores, struct backend *backend, const struct tap *taps, int count,
                  unsigned teach, int64_t rows, struct shared **shared, struct error *error)
{
    struct shared *made;
    *shared = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    made->backend = backend;
    made->norm_epsilon = stores->config.norm_epsilon;
    made->hidden = stores->config.hidden;
    made->capacity = rows;
    made->target = store_find_target(shards_info(stores->shards)) >= 0;
    made->reads_final = needs_final(teach, made->target);
    if (queue_create(backend, &made->queue, error) < 0 ||
        collect_taps(made, taps, count, made->reads_final, stores->config.layers, error) < 0)
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
    for (int i = 0; i < BUFFERS; i++)
        buffer_destroy(shared->buffer[i]);
    answer_destroy(shared->answer);
    free(shared->computed);
    free(shared->entropy);
    weight_destroy(shared->output);
    queue_destroy(shared->queue);
    free(shared->states);
    free(shared->tap);
    free(shared);
}

/* ---- a batch ---- */

void shared_plan(const struct shared *shared, unsigned teach, struct feed_plan *plan)
{
    plan->tap = shared->tap;
    plan->taps = shared->taps;
    plan->values = shared->target && teach & TEACH_OUTCOME;
    plan->u = shared->target && teach & TEACH_U;
}

static void set_rows(struct shared *shared, int64_t rows)
{
    struct buffer *const *buffer = shared->buffer;
    shared->rows = rows;
    shared->labels = matrix_i32(buffer[BUFFER_LABELS], rows, 1);
    shared->u = matrix_f32(buffer[BUFFER_U], rows, shared->hidden);
    if (shared->reads_final)
        shared->teacher = matrix_f32(buffer[BUFFER_TEACHER], rows, shared->hidden);
}

static struct matrix states_rows(const struct shared *shared, int tap)
{
    return matrix_f32(shared->states[tap], shared->rows, shared->hidden);
}

/* The outcome, u or both, from the final states. */
static int compute(struct shared *shared, unsigned teach, struct error *error)
{
    const struct vocab vocab = {.tied = shared->output, .own = matrix_none()};
    const bool outcome = teach & (TEACH_OUTCOME | TEACH_STATES_ENTROPY);
    struct vocab_stats stats = outcome ? answer_stats(shared->answer, shared->rows)
                                       : (struct vocab_stats){matrix_none(), matrix_none(), matrix_none(),
                                                              matrix_none(), matrix_none(), matrix_none()};
    if (teach & TEACH_U)
        stats.u = shared->u;
    op_vocab_stats(shared->queue, shared->teacher, &vocab, outcome ? shared->labels : matrix_none(), &stats);
    if (!outcome)
        return 0;
    if (answer_read(shared->answer, shared->queue, shared->rows, shared->computed, error) < 0)
        return -1;
    shared->values = shared->computed;
    for (int64_t r = 0; r < shared->rows; r++)
        shared->entropy[r] = shared->computed[r].entropy;
    return 0;
}

/* The outcome and u as the stores keep them; the entropy of the final states' own softmax. */
static void take(struct shared *shared, const struct feed_batch *batch, unsigned teach)
{
    const struct vocab vocab = {.tied = shared->output, .own = matrix_none()};
    struct matrix entropy = matrix_f32(shared->buffer[BUFFER_ENTROPY], shared->rows, 1);
    const struct vocab_stats stats = {matrix_none(), matrix_none(), matrix_none(),
                                      matrix_none(), entropy,       matrix_none()};
    shared->values = batch->values;
    if (teach & TEACH_U)
        feed_write(shared->queue, batch->u, batch->sequences, shared->u);
    if (teach & TEACH_STATES_ENTROPY) {
        op_vocab_stats(shared->queue, shared->teacher, &vocab, matrix_none(), &stats);
        op_read(shared->queue, entropy, shared->entropy);
    }
}

int shared_load(struct shared *shared, const struct feed_batch *batch, unsigned teach, struct error *error)
{
    set_rows(shared, batch->rows);
    op_write(shared->queue, shared->labels, batch->labels);
    for (int t = 0; t < shared->taps; t++)
        feed_write(shared->queue, batch->states[t], batch->sequences, states_rows(shared, t));
    if (needs_final(teach, shared->target))
        op_norm(shared->queue, states_rows(shared, shared->taps - 1), shared->final_norm, shared->norm_epsilon,
                shared->teacher);
    if (shared->target)
        take(shared, batch, teach);
    else if (teach & ~(unsigned)TEACH_STATES && compute(shared, teach, error) < 0)
        return -1;
    shared->states_entropy = shared->entropy;
    return queue_wait(shared->queue, error);
}

struct matrix shared_states(const struct shared *shared, struct tap tap)
{
    int place = 0;
    while (place < shared->taps - 1 && tap_compare(shared->tap[place], tap) != 0)
        place++;
    return states_rows(shared, place);
}
