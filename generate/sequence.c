#include "generate/sequence.h"

#include <stdlib.h>

#include "common/base/memory.h"
#include "common/model/role.h"

struct engine_sequence {
    const struct model_config *config;
    struct queue *queue;
    const struct ends *ends;
    const struct attached *attached; /* or NULL */
    struct attached_kept *kept; /* or NULL */
    struct kv *kv; /* [n] */
    struct buffer *ids; /* [capacity, 1] i32 */
    struct buffer *states; /* [capacity, H], each row where it stopped */
    int capacity, rows;
    int *depth; /* [capacity] by row; never more than the row before has */
    int *prompt_end; /* [capacity] by row */
    int64_t *work; /* [2 n + 1] by half */
};

int tap_half(struct tap tap)
{
    return 2 * tap.layer - tap.mid;
}

uint64_t sequence_bytes(const struct model_config *config, int positions)
{
    const uint64_t row = (uint64_t)(role_rows(config, ROLE_K) + role_rows(config, ROLE_V)) * sizeof(float);
    return row * (uint64_t)config->layers * (uint64_t)positions;
}

static int create_buffers(struct engine_sequence *sequence, struct error *error)
{
    struct backend *backend = queue_backend(sequence->queue);
    const int capacity = sequence->capacity, layers = sequence->config->layers;
    size_t bytes;
    if (!size_multiply((size_t)capacity, (size_t)sequence->config->hidden * sizeof(float), &bytes))
        return error_set_kind(error, ERROR_NO_MEMORY, "the states of %d positions do not fit in memory",
                              capacity);
    if (buffer_create(backend, (size_t)capacity * sizeof(int32_t), &sequence->ids, error) < 0 ||
        buffer_create(backend, bytes, &sequence->states, error) < 0 ||
        array_alloc(&sequence->depth, capacity, error) < 0 ||
        array_alloc(&sequence->prompt_end, capacity, error) < 0 ||
        array_alloc(&sequence->work, sequence_halves(sequence) + 1, error) < 0 ||
        array_alloc(&sequence->kv, layers, error) < 0)
        return -1;
    for (int l = 0; l < layers; l++) {
        if (kv_create(sequence->config, backend, capacity, &sequence->kv[l], error) < 0)
            return -1;
    }
    return sequence->attached ? attached_kept_create(sequence->attached, capacity, &sequence->kept, error) : 0;
}

int sequence_create(const struct model_config *config, struct queue *queue, const struct ends *ends,
                    const struct attached *attached, int positions, struct engine_sequence **result,
                    struct error *error)
{
    struct engine_sequence *sequence;
    *result = NULL;
    if (array_alloc(&sequence, 1, error) < 0)
        return -1;
    sequence->config = config;
    sequence->queue = queue;
    sequence->ends = ends;
    sequence->attached = attached;
    sequence->capacity = positions;
    if (create_buffers(sequence, error) < 0) {
        sequence_destroy(sequence);
        return -1;
    }
    *result = sequence;
    return 0;
}

void sequence_destroy(struct engine_sequence *sequence)
{
    if (!sequence)
        return;
    for (int l = 0; sequence->kv && l < sequence->config->layers; l++)
        kv_destroy(&sequence->kv[l]);
    attached_kept_destroy(sequence->kept);
    buffer_destroy(sequence->ids);
    buffer_destroy(sequence->states);
    free(sequence->kv);
    free(sequence->depth);
    free(sequence->prompt_end);
    free(sequence->work);
    free(sequence);
}

int sequence_append(struct engine_sequence *sequence, const int32_t *ids, int count, struct error *error)
{
    const int first = sequence->rows;
    if (count < 1 || count > sequence->capacity - first)
        return error_set(error, "%d tokens do not fit behind %d of %d positions", count, first,
                         sequence->capacity);
    for (int i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= sequence->config->vocab)
            return error_set(error, "token %d is not in the model's vocabulary of %d", ids[i],
                             sequence->config->vocab);
    }
    struct matrix tokens = matrix_rows(matrix_i32(sequence->ids, sequence->capacity, 1), first, count);
    op_write(sequence->queue, tokens, ids);
    ends_embed(sequence->ends, sequence->queue, tokens, sequence_states(sequence, first, count));
    for (int i = first; i < first + count; i++) {
        sequence->depth[i] = sequence->attached ? -1 : 0; /* half 0 may have heads */
        sequence->prompt_end[i] = count > MATMUL_FEW_ROWS ? first + count : 0;
    }
    sequence->rows += count;
    sequence->work[0] += sequence->attached ? 0 : count;
    return 0;
}

int sequence_truncate(struct engine_sequence *sequence, int rows, struct error *error)
{
    if (rows < 0 || rows > sequence->rows)
        return error_set(error, "%d rows cannot be kept of %d", rows, sequence->rows);
    int first = rows; /* of the prompt that is cut, if one is */
    while (first > 0 && sequence->prompt_end[first - 1] > rows)
        first--;
    for (int i = first; i < rows; i++)
        sequence->prompt_end[i] = rows - first > MATMUL_FEW_ROWS ? rows : 0;
    sequence->rows = rows;
    return 0;
}

/* Rows that have taken a half: the first ones. */
static int rows_at(const void *context, int half)
{
    const struct engine_sequence *sequence = context;
    int rows = sequence->rows;
    while (rows > 0 && sequence->depth[rows - 1] < half)
        rows--;
    return rows;
}

/* Keys and values that there are, and states. */
static void copy_rows(const struct engine_sequence *from, struct engine_sequence *to)
{
    const int64_t k_cols = role_rows(from->config, ROLE_K), v_cols = role_rows(from->config, ROLE_V);
    op_copy(to->queue, sequence_states(from, 0, from->rows), sequence_states(to, 0, from->rows));
    for (int l = 0; l < from->config->layers; l++) {
        const int with_keys = rows_at(from, 2 * l + 1);
        if (with_keys == 0)
            break;
        op_copy(to->queue, matrix_f32(from->kv[l].keys, with_keys, k_cols),
                matrix_f32(to->kv[l].keys, with_keys, k_cols));
        op_copy(to->queue, matrix_f32(from->kv[l].values, with_keys, v_cols),
                matrix_f32(to->kv[l].values, with_keys, v_cols));
    }
    if (from->attached)
        attached_copy(from->attached, to->queue, from->kept, to->kept, rows_at, from);
}

int sequence_fork(const struct engine_sequence *from, int positions, struct engine_sequence **result,
                  struct error *error)
{
    *result = NULL;
    if (positions < from->rows || positions < 1)
        return error_set(error, "%d rows do not fit in %d positions", from->rows, positions);
    if (sequence_create(from->config, from->queue, from->ends, from->attached, positions, result, error) < 0)
        return -1;
    struct engine_sequence *to = *result;
    for (int i = 0; i < from->rows; i++) {
        to->depth[i] = from->depth[i];
        to->prompt_end[i] = from->prompt_end[i];
    }
    to->rows = from->rows;
    if (from->rows > 0)
        copy_rows(from, to);
    return 0;
}

struct matrix sequence_states(const struct engine_sequence *sequence, int first, int rows)
{
    return matrix_rows(matrix_f32(sequence->states, sequence->capacity, sequence->config->hidden), first, rows);
}

const struct kv *sequence_kv(const struct engine_sequence *sequence, int layer)
{
    return &sequence->kv[layer];
}

struct matrix sequence_head_row(const struct engine_sequence *sequence, int index, int position)
{
    return attached_row(sequence->kept, index, position);
}

struct attached_kept *sequence_kept(const struct engine_sequence *sequence)
{
    return sequence->kept;
}

int sequence_prompt_end(const struct engine_sequence *sequence, int position)
{
    return sequence->prompt_end[position];
}

void sequence_rise(struct engine_sequence *sequence, int half, int first, int rows)
{
    for (int i = first; i < first + rows; i++)
        sequence->depth[i] = half;
    sequence->work[half] += rows;
}

int sequence_rows(const struct engine_sequence *sequence)
{
    return sequence->rows;
}

int sequence_depth(const struct engine_sequence *sequence, int position)
{
    return sequence->depth[position];
}

int sequence_halves(const struct engine_sequence *sequence)
{
    return 2 * sequence->config->layers;
}

int64_t sequence_work(const struct engine_sequence *sequence, int half)
{
    return sequence->work[half];
}
