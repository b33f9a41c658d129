#include "generate/session.h"

#include "common/base/memory.h"
#include "common/base/piece.h"

/* The most rows per call: a longer prompt goes through each half-layer in pieces. */
enum { ROWS_AT_ONCE = 512 };

struct session {
    const struct model_config *config;
    struct queue *queue;
    struct ends *ends;
    struct layer **layer; /* [n] */
    struct kv *kv; /* [n] */
    struct layer_scratch *scratch;
    struct buffer *ids; /* [capacity, 1] i32 */
    struct buffer *states; /* [capacity, H], each row where it stopped */
    int capacity, rows;
    int depth; /* of the last row */
    int *together; /* [capacity] of a row that came with more than MATMUL_FEW_ROWS: where they end; else 0 */
    int *taken; /* [2 n + 1] by step: the first `taken` rows have taken it */
    int64_t *work; /* [2 n + 1] rows put through it */
};

int tap_step(struct tap tap)
{
    return 2 * tap.layer - tap.mid;
}

/* Of a matrix that is multiplied with few rows and with many. */
static uint64_t weight_size(const struct model *model, int layer, enum tensor_role role, enum math math)
{
    const struct tensor *tensor = model_tensor(model, layer, role);
    const uint64_t value = math == MATH_BF16 ? 2 : 4;
    if (!tensor || tensor->dims < 2)
        return 0;
    return (uint64_t)tensor->shape[0] * (uint64_t)tensor->shape[1] * value + tensor->bytes;
}

struct session_bytes session_bytes(const struct model *model, enum math math, int positions)
{
    const struct model_config *config = model_config(model);
    const uint64_t row = sizeof(float) * (uint64_t)(role_rows(config, ROLE_K) + role_rows(config, ROLE_V));
    struct session_bytes bytes = {.keys = row * (uint64_t)config->layers * (uint64_t)positions};
    for (int layer = 0; layer < config->layers; layer++)
        for (int role = ROLE_ATTENTION_NORM; role < ROLE_COUNT; role++)
            bytes.weights += weight_size(model, layer, (enum tensor_role)role, math);
    bytes.weights += weight_size(model, 0, ROLE_OUTPUT, math);
    if (!config->tied) /* else it is the output weight */
        bytes.weights += model_tensor(model, 0, ROLE_EMBEDDING)->bytes;
    return bytes;
}

static int load_layers(struct session *session, const struct model *model, struct backend *backend,
                       struct error *error)
{
    const int layers = session->config->layers;
    if (array_alloc(&session->layer, layers, error) < 0 || array_alloc(&session->kv, layers, error) < 0)
        return -1;
    for (int l = 0; l < layers; l++) {
        if (layer_load(model, l, backend, WEIGHT_FORWARD | WEIGHT_ROWS, &session->layer[l], error) < 0 ||
            kv_create(session->config, backend, session->capacity, &session->kv[l], error) < 0)
            return -1;
    }
    return ends_load(model, backend, true, WEIGHT_FORWARD | WEIGHT_ROWS, &session->ends, error);
}

static int create_buffers(struct session *session, struct backend *backend, struct error *error)
{
    const int rows = session->capacity < ROWS_AT_ONCE ? session->capacity : ROWS_AT_ONCE;
    size_t bytes;
    if (!size_multiply((size_t)session->capacity, (size_t)session->config->hidden * sizeof(float), &bytes))
        return error_set(error, "the states of %d positions do not fit in memory", session->capacity);
    if (buffer_create(backend, (size_t)session->capacity * sizeof(int32_t), &session->ids, error) < 0 ||
        buffer_create(backend, bytes, &session->states, error) < 0 ||
        array_alloc(&session->together, session->capacity, error) < 0 ||
        array_alloc(&session->taken, session_steps(session) + 1, error) < 0 ||
        array_alloc(&session->work, session_steps(session) + 1, error) < 0)
        return -1;
    return scratch_create(session->config, backend, rows, 1, session->capacity, &session->scratch, error);
}

int session_create(const struct model *model, struct backend *backend, int positions, struct session **result,
                   struct error *error)
{
    struct session *session = NULL;
    *result = NULL;
    if (array_alloc(&session, 1, error) < 0)
        return -1;
    session->config = model_config(model);
    session->capacity = positions;
    if (positions < 1 || positions > session->config->context)
        error_set(error, "%d positions (prompt and new tokens) are not in 1 .. %d, the model's context",
                  positions, session->config->context);
    else if (queue_create(backend, &session->queue, error) == 0 &&
             load_layers(session, model, backend, error) == 0 && create_buffers(session, backend, error) == 0)
        *result = session;
    if (*result)
        return 0;
    session_destroy(session);
    return -1;
}

void session_destroy(struct session *session)
{
    if (!session)
        return;
    queue_destroy(session->queue);
    for (int l = 0; l < session->config->layers; l++) {
        if (session->layer)
            layer_destroy(session->layer[l]);
        if (session->kv)
            kv_destroy(&session->kv[l]);
    }
    ends_destroy(session->ends);
    scratch_destroy(session->scratch);
    buffer_destroy(session->ids);
    buffer_destroy(session->states);
    free(session->layer);
    free(session->kv);
    free(session->together);
    free(session->taken);
    free(session->work);
    free(session);
}

static struct matrix state_rows(const struct session *session, int first, int rows)
{
    return matrix_rows(matrix_f32(session->states, session->capacity, session->config->hidden), first, rows);
}

int session_append(struct session *session, const int32_t *ids, int count, struct error *error)
{
    if (count < 1 || count > session->capacity - session->rows)
        return error_set(error, "%d tokens do not fit behind %d of %d positions", count, session->rows,
                         session->capacity);
    for (int i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= session->config->vocab)
            return error_set(error, "token %d is not in the model's vocabulary of %d", ids[i],
                             session->config->vocab);
    }
    struct matrix place = matrix_rows(matrix_i32(session->ids, session->capacity, 1), session->rows, count);
    op_write(session->queue, place, ids);
    ends_embed(session->ends, session->queue, place, state_rows(session, session->rows, count));
    for (int i = 0; i < count; i++)
        session->together[session->rows + i] = count > MATMUL_FEW_ROWS ? session->rows + count : 0;
    session->rows += count;
    session->taken[0] = session->rows;
    session->work[0] += count;
    session->depth = 0;
    return 0;
}

/* Puts rows [first, first + rows) through a step. */
static void run_rows(struct session *session, int step, int first, int rows)
{
    const int l = (step - 1) / 2;
    const struct span span = {.rows = rows, .kv = &session->kv[l], .first = first};
    if (step % 2)
        layer_attention(session->layer[l], session->queue, session->scratch, &span, 1,
                        state_rows(session, first, rows));
    else
        layer_mlp(session->layer[l], session->queue, session->scratch, state_rows(session, first, rows));
    session->work[step] += rows;
}

/* How many rows go through a step at once, from `first` on. Kernels of few rows and of many round
 * differently: a row that came among many goes with those, and one that came alone, however many wait with
 * it, as if it had not waited. */
static int rows_at_once(const struct session *session, int first)
{
    const int end = session->together[first];
    if (end > 0)
        return (int)cut_piece(end - first, ROWS_AT_ONCE, 0).rows;
    int rows = 1;
    while (rows < MATMUL_FEW_ROWS && first + rows < session->rows && session->together[first + rows] == 0)
        rows++;
    return rows;
}

void session_run(struct session *session, int step)
{
    for (int s = session->depth + 1; s <= step; s++) {
        while (session->taken[s] < session->rows) {
            const int first = session->taken[s], rows = rows_at_once(session, first);
            run_rows(session, s, first, rows);
            session->taken[s] = first + rows;
        }
        session->depth = s;
    }
}

struct matrix session_state(const struct session *session)
{
    return state_rows(session, session->rows - 1, 1);
}

int session_depth(const struct session *session)
{
    return session->depth;
}

int session_steps(const struct session *session)
{
    return 2 * session->config->layers;
}

int session_rows(const struct session *session)
{
    return session->rows;
}

int64_t session_work(const struct session *session, int step)
{
    return session->work[step];
}

struct queue *session_queue(const struct session *session)
{
    return session->queue;
}

const struct ends *session_ends(const struct session *session)
{
    return session->ends;
}
