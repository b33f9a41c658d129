#include "train/batch.h"

#include <stdlib.h>

#include "common/base/memory.h"

enum { BUFFER_FINAL_NORM, BUFFER_LABELS, BUFFER_TEACHER, BUFFER_U, BUFFER_ENTROPY, BUFFER_FOLLOWERS, BUFFERS };

/* ---- making ---- */

/* A weight [V, H] of the model, by its name in the stores. data: its rows will be gathered, and this holds them. */
static int load_weight(const struct batch *batch, const struct stores *stores, const char *name, unsigned uses,
                       struct weight **weight, void **data, struct error *error)
{
    struct source_shape shape;
    void *values = NULL;
    if (shards_get_source(stores->shards, name, &shape, &values, error) < 0)
        return -1;
    const struct weight_part part = {
        .type = shape.type, .rows = shape.rows, .cols = shape.cols, .data = values};
    int result;
    if (part.rows != stores->config.vocab || part.cols != stores->config.hidden)
        result =
            error_set(error, "the store's %s weight is [%lld, %lld], but its model's is [%d, %d]", name,
                      (long long)part.rows, (long long)part.cols, stores->config.vocab, stores->config.hidden);
    else
        result = weight_prepare(batch->backend, &part, 1, NULL, uses, weight, error);
    if (uses & WEIGHT_ROWS)
        *data = values;
    else
        free(values);
    return result;
}

static int load_weights(struct batch *batch, const struct stores *stores, unsigned teach, struct error *error)
{
    const unsigned rows = teach & (TEACH_SUBSET | TEACH_DRAFT) ? WEIGHT_ROWS : 0;
    if (load_weight(batch, stores, "output", WEIGHT_FORWARD | WEIGHT_BACKWARD | rows, &batch->output,
                    &batch->output_data, error) < 0)
        return -1;
    if (!(teach & TEACH_DRAFT))
        return 0;
    if (array_alloc(&batch->follower, batch->capacity, error) < 0)
        return -1;
    if (!stores->config.tied)
        return load_weight(batch, stores, "embedding", WEIGHT_ROWS, &batch->embedding, &batch->embedding_data,
                           error);
    batch->embedding = batch->output;
    return 0;
}

static int load_norm(struct batch *batch, const struct stores *stores, struct error *error)
{
    const struct head_source source = stores_head_source(stores);
    float *values;
    int64_t rows, cols;
    if (source.get(source.context, "final_norm", &values, &rows, &cols, error) < 0)
        return -1;
    int result = 0;
    if (rows * cols != batch->hidden)
        result = error_set(error, "the store's final_norm is [%lld, %lld], but its model's has %lld values",
                           (long long)rows, (long long)cols, (long long)batch->hidden);
    else
        op_write(batch->queue, batch->final_norm, values);
    free(values);
    return result < 0 ? -1 : queue_wait(batch->queue, error);
}

/* The taps in order along the model, each once, the final one among them where it is wanted. */
static int collect_taps(struct batch *batch, const struct tap *taps, int count, bool final, int layers,
                        struct error *error)
{
    const int all = count + final;
    if (array_alloc(&batch->tap, all, error) < 0)
        return -1;
    for (int i = 0; i < all; i++) {
        const struct tap tap = i < count ? taps[i] : (struct tap){.layer = layers};
        int index = 0;
        while (index < batch->taps && tap_compare(batch->tap[index], tap) < 0)
            index++;
        if (index < batch->taps && tap_compare(batch->tap[index], tap) == 0)
            continue;
        for (int later = batch->taps++; later > index; later--)
            batch->tap[later] = batch->tap[later - 1];
        batch->tap[index] = tap;
    }
    return 0;
}

static int create_buffers(struct batch *batch, struct error *error)
{
    const size_t rows = (size_t)batch->capacity, hidden = (size_t)batch->hidden;
    const size_t sizes[BUFFERS] = {
        [BUFFER_FINAL_NORM] = hidden,
        [BUFFER_LABELS] = rows,
        [BUFFER_TEACHER] = batch->reads_final ? rows * hidden : 1,
        [BUFFER_U] = rows * hidden,
        [BUFFER_ENTROPY] = rows,
        [BUFFER_FOLLOWERS] = rows,
    };
    size_t bytes;
    if (!size_multiply(rows, hidden, &bytes) || !size_multiply(bytes, sizeof(float), &bytes))
        return error_set(error, "a batch of %zu rows is too large", rows);
    for (int i = 0; i < BUFFERS; i++) {
        if (buffer_create(batch->backend, sizes[i] * sizeof(float), &batch->buffer[i], error) < 0)
            return -1;
    }
    if (answer_create(batch->backend, batch->capacity, false, &batch->answer, error) < 0 ||
        array_alloc(&batch->computed, rows, error) < 0 || array_alloc(&batch->entropy, rows, error) < 0)
        return -1;
    if (array_alloc(&batch->states, batch->taps, error) < 0 ||
        array_alloc(&batch->read, batch->taps, error) < 0 || array_alloc(&batch->place, batch->taps, error) < 0)
        return -1;
    for (int t = 0; t < batch->taps; t++) {
        if (buffer_create(batch->backend, bytes, &batch->states[t], error) < 0)
            return -1;
    }
    batch->final_norm = matrix_f32(batch->buffer[BUFFER_FINAL_NORM], 1, batch->hidden);
    return 0;
}

/* Whether this takes the final states. */
static bool needs_final(unsigned teach, bool target)
{
    return teach & (TEACH_STATES | TEACH_STATES_ENTROPY) || (!target && teach & (TEACH_U | TEACH_OUTCOME));
}

int batch_create(const struct stores *stores, struct backend *backend, const struct tap *taps, int count,
                 unsigned teach, int64_t rows, struct batch **batch, struct error *error)
{
    const bool subset = teach & TEACH_SUBSET;
    struct batch *made;
    *batch = NULL;
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
        load_weights(made, stores, teach, error) < 0)
        goto fail;
    if (subset && subsets_create(backend, made->output, stores->config.vocab, rows, stores->rows, &made->drawn,
                                 error) < 0)
        goto fail;
    batch_use(made, made->tap, made->taps);
    *batch = made;
    return 0;
fail:
    batch_destroy(made);
    return -1;
}

void batch_destroy(struct batch *batch)
{
    if (!batch)
        return;
    for (int t = 0; batch->states && t < batch->taps; t++)
        buffer_destroy(batch->states[t]);
    for (int i = 0; i < BUFFERS; i++)
        buffer_destroy(batch->buffer[i]);
    answer_destroy(batch->answer);
    free(batch->computed);
    free(batch->entropy);
    subsets_destroy(batch->drawn);
    if (batch->embedding != batch->output)
        weight_destroy(batch->embedding);
    weight_destroy(batch->output);
    free(batch->output_data);
    free(batch->embedding_data);
    free(batch->follower);
    queue_destroy(batch->queue);
    free(batch->states);
    free(batch->read);
    free(batch->place);
    free(batch->tap);
    free(batch);
}

/* ---- a batch ---- */

void batch_use(struct batch *batch, const struct tap *taps, int count)
{
    batch->reads = 0;
    for (int t = 0; t < batch->taps; t++) {
        bool used = batch->reads_final && t == batch->taps - 1;
        for (int i = 0; i < count && !used; i++)
            used = tap_compare(taps[i], batch->tap[t]) == 0;
        if (used) {
            batch->place[batch->reads] = t;
            batch->read[batch->reads++] = batch->tap[t];
        }
    }
}

void batch_plan(const struct batch *batch, unsigned teach, struct feed_plan *plan)
{
    plan->tap = batch->read;
    plan->taps = batch->reads;
    plan->values = batch->target && teach & TEACH_OUTCOME;
    plan->u = batch->target && teach & TEACH_U;
    plan->best = batch->target && teach & TEACH_SUBSET;
}

static void set_rows(struct batch *batch, int64_t rows)
{
    struct buffer *const *buffer = batch->buffer;
    batch->rows = rows;
    batch->labels = matrix_i32(buffer[BUFFER_LABELS], rows, 1);
    batch->followers = matrix_i32(buffer[BUFFER_FOLLOWERS], rows, 1);
    batch->u = matrix_f32(buffer[BUFFER_U], rows, batch->hidden);
    if (batch->reads_final)
        batch->teacher = matrix_f32(buffer[BUFFER_TEACHER], rows, batch->hidden);
    batch->subsets = NULL;
}

/* ---- loading ---- */

static struct matrix states_rows(const struct batch *batch, int tap)
{
    return matrix_f32(batch->states[tap], batch->rows, batch->hidden);
}

/* The outcome, u or both, from the final states. */
static int compute(struct batch *batch, unsigned teach, struct error *error)
{
    const struct vocab vocab = {.tied = batch->output, .own = matrix_none()};
    const bool outcome = teach & (TEACH_OUTCOME | TEACH_STATES_ENTROPY);
    struct vocab_stats stats = {.u = matrix_none()};
    if (outcome)
        stats = answer_stats(batch->answer, batch->rows);
    if (teach & TEACH_U)
        stats.u = batch->u;
    op_vocab_stats(batch->queue, batch->teacher, &vocab, outcome ? batch->labels : matrix_none(), &stats);
    if (!outcome)
        return 0;
    if (answer_read(batch->answer, batch->queue, batch->rows, batch->computed, error) < 0)
        return -1;
    batch->values = batch->computed;
    for (int64_t r = 0; r < batch->rows; r++)
        batch->entropy[r] = batch->computed[r].entropy;
    return 0;
}

/* The outcome and u as the stores keep them; the entropy of the final states' own softmax. */
static void take(struct batch *batch, const struct feed_batch *next, unsigned teach)
{
    const struct vocab vocab = {.tied = batch->output, .own = matrix_none()};
    struct matrix entropy = matrix_f32(batch->buffer[BUFFER_ENTROPY], batch->rows, 1);
    const struct vocab_stats stats = {.entropy = entropy};
    batch->values = next->values;
    if (teach & TEACH_U)
        feed_write(batch->queue, next->u, next->sequences, batch->u);
    if (teach & TEACH_STATES_ENTROPY) {
        op_vocab_stats(batch->queue, batch->teacher, &vocab, matrix_none(), &stats);
        op_read(batch->queue, entropy, batch->entropy);
    }
}

static void write_followers(const struct batch *batch, const struct feed_batch *next)
{
    for (int64_t r = 0; r < next->rows; r++)
        batch->follower[r] = next->labels[r] > 0 ? next->labels[r] : 0;
    op_write(batch->queue, batch->followers, batch->follower);
}

int batch_load(struct batch *batch, const struct feed_batch *next, unsigned teach, struct error *error)
{
    set_rows(batch, next->rows);
    op_write(batch->queue, batch->labels, next->labels);
    if (teach & TEACH_DRAFT)
        write_followers(batch, next);
    for (int t = 0; t < batch->reads; t++)
        feed_write(batch->queue, next->states[t], next->sequences, states_rows(batch, batch->place[t]));
    if (needs_final(teach, batch->target))
        op_norm(batch->queue, states_rows(batch, batch->taps - 1), batch->final_norm, batch->norm_epsilon,
                batch->teacher);
    if (batch->target)
        take(batch, next, teach);
    else if (teach & ~(unsigned)(TEACH_STATES | TEACH_SUBSET | TEACH_DRAFT) && compute(batch, teach, error) < 0)
        return -1;
    if (teach & TEACH_SUBSET) {
        if (subsets_load(batch->drawn, batch->queue, next, batch->seed, error) < 0)
            return -1;
        batch->subsets = batch->drawn->count > 0 ? batch->drawn : NULL;
    }
    batch->states_entropy = batch->entropy;
    return queue_wait(batch->queue, error);
}

struct matrix batch_states(const struct batch *batch, struct tap tap)
{
    int index = 0;
    while (index < batch->taps - 1 && tap_compare(batch->tap[index], tap) != 0)
        index++;
    return states_rows(batch, index);
}
