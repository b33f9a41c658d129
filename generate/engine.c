#include "generate/engine.h"

#include <stdlib.h>

#include "common/base/memory.h"
#include "common/base/piece.h"

enum {
    SPANS = ENGINE_ROWS / (MATMUL_FEW_ROWS + 1)
}; /* in a call, at most: each of a prompt's rows, or few rows */

/* Rows that wait at one half, and go through it next. */
struct call {
    bool many; /* rows of prompts, for the kernels of many rows */
    int rows, count;
    struct span spans[SPANS]; /* [count] */
    struct engine_sequence *sequence[SPANS]; /* by span */
};

struct engine {
    const struct model_config *config;
    struct queue *queue;
    struct ends *ends;
    struct layer **layer; /* [n] */
    struct layer_scratch *scratch;
    struct attached *attached; /* or NULL */
    struct buffer *gathered; /* [ENGINE_ROWS, H] states of a call of several spans */
    struct buffer *result; /* [ENGINE_ROWS, H] */
    int positions;
    struct call call; /* that is being collected */
    struct call held; /* whose states are in `gathered`, and there alone; count 0: none; never 1 */
};

/* Of a matrix that is multiplied with few rows and with many. */
static uint64_t weight_size(const struct model *model, int layer, enum tensor_role role, enum math math)
{
    const struct tensor *tensor = model_tensor(model, layer, role);
    const uint64_t value = math == MATH_BF16 ? 2 : 4;
    if (!tensor || tensor->dims < 2)
        return 0;
    return (uint64_t)tensor->shape[0] * (uint64_t)tensor->shape[1] * value + tensor->bytes;
}

uint64_t engine_bytes(const struct model *model, enum math math)
{
    const struct model_config *config = model_config(model);
    uint64_t bytes = weight_size(model, 0, ROLE_OUTPUT, math);
    for (int layer = 0; layer < config->layers; layer++)
        for (int role = ROLE_ATTENTION_NORM; role < ROLE_COUNT; role++)
            bytes += weight_size(model, layer, (enum tensor_role)role, math);
    if (!config->tied) /* else it is the output weight */
        bytes += model_tensor(model, 0, ROLE_EMBEDDING)->bytes;
    return bytes;
}

static int load(struct engine *engine, const struct model *model, struct backend *backend, struct error *error)
{
    const unsigned uses = WEIGHT_FORWARD | WEIGHT_ROWS;
    const size_t states = ENGINE_ROWS * (size_t)engine->config->hidden * sizeof(float);
    if (array_alloc(&engine->layer, engine->config->layers, error) < 0 ||
        queue_create(backend, &engine->queue, error) < 0)
        return -1;
    for (int l = 0; l < engine->config->layers; l++) {
        if (layer_load(model, l, backend, uses, &engine->layer[l], error) < 0)
            return -1;
    }
    if (ends_load(model, backend, true, uses, &engine->ends, error) < 0 ||
        buffer_create(backend, states, &engine->gathered, error) < 0 ||
        buffer_create(backend, states, &engine->result, error) < 0)
        return -1;
    return scratch_create(engine->config, backend, ENGINE_ROWS, SPANS, engine->positions, &engine->scratch,
                          error);
}

int engine_open(const struct model *model, struct backend *backend, int positions, struct engine **result,
                struct error *error)
{
    const struct model_config *config = model_config(model);
    struct engine *engine;
    *result = NULL;
    if (positions < 1 || positions > config->context)
        return error_set(error, "%d positions (prompt and new tokens) are not in 1 .. %d, the model's context",
                         positions, config->context);
    if (array_alloc(&engine, 1, error) < 0)
        return -1;
    engine->config = config;
    engine->positions = positions;
    if (load(engine, model, backend, error) < 0) {
        engine_close(engine);
        return -1;
    }
    *result = engine;
    return 0;
}

void engine_close(struct engine *engine)
{
    if (!engine)
        return;
    queue_destroy(engine->queue);
    for (int l = 0; engine->layer && l < engine->config->layers; l++)
        layer_destroy(engine->layer[l]);
    ends_destroy(engine->ends);
    scratch_destroy(engine->scratch);
    attached_destroy(engine->attached);
    buffer_destroy(engine->gathered);
    buffer_destroy(engine->result);
    free(engine->layer);
    free(engine);
}

int engine_attach(struct engine *engine, const struct attached_head *heads, int count, struct error *error)
{
    return attached_create(engine->config, queue_backend(engine->queue), heads, count, ENGINE_ROWS,
                           engine->positions, &engine->attached, error);
}

int engine_sequence_create(struct engine *engine, int positions, struct engine_sequence **sequence,
                           struct error *error)
{
    *sequence = NULL;
    if (positions < 1 || positions > engine->positions)
        return error_set(error, "%d positions are not in 1 .. %d, which the engine was opened for", positions,
                         engine->positions);
    return sequence_create(engine->config, engine->queue, engine->ends, engine->attached, positions, sequence,
                           error);
}

/* ---- one call ---- */

static bool same_rows(const struct call *a, const struct call *b)
{
    bool same = a->count == b->count;
    for (int s = 0; s < a->count && same; s++)
        same = a->sequence[s] == b->sequence[s] && a->spans[s].first == b->spans[s].first &&
               a->spans[s].rows == b->spans[s].rows;
    return same;
}

/* Copies the states of the rows that are held to where they lie side by side, or back. */
static void copy_states(struct engine *engine, bool back)
{
    const struct call *held = &engine->held;
    const struct matrix gathered = matrix_f32(engine->gathered, held->rows, engine->config->hidden);
    for (int s = 0, row = 0; s < held->count; row += held->spans[s++].rows) {
        const struct span *span = &held->spans[s];
        const struct matrix own = sequence_states(held->sequence[s], span->first, span->rows);
        const struct matrix here = matrix_rows(gathered, row, span->rows);
        op_copy(engine->queue, back ? here : own, back ? own : here);
    }
}

static void release_states(struct engine *engine)
{
    copy_states(engine, true);
    engine->held.count = 0;
}

/* The states of the call's rows side by side. Rows that go up together from half to half are copied once. */
static struct matrix hold_states(struct engine *engine)
{
    const struct call *call = &engine->call;
    if (!same_rows(call, &engine->held))
        release_states(engine);
    if (call->count == 1)
        return sequence_states(call->sequence[0], call->spans[0].first, call->rows);
    if (engine->held.count == 0) {
        engine->held = *call;
        copy_states(engine, false);
    }
    return matrix_f32(engine->gathered, call->rows, engine->config->hidden);
}

/* Puts the call's rows, whose states are x, through the heads that are attached behind the half. */
static void run_heads(struct engine *engine, int half, struct matrix x)
{
    struct attached_kept *keeps[SPANS];
    const struct call *call = &engine->call;
    for (int s = 0; s < call->count; s++)
        keeps[s] = sequence_kept(call->sequence[s]);
    attached_run(engine->attached, engine->queue, half, call->spans, keeps, call->count, x);
}

/* Runs the call that has been collected, if there is one. */
static void run_call(struct engine *engine, int half)
{
    struct call *call = &engine->call;
    const int layer = (half - 1) / 2;
    if (call->count == 0)
        return;
    const struct matrix x = hold_states(engine);
    for (int s = 0; s < call->count; s++)
        call->spans[s].kv = sequence_kv(call->sequence[s], layer);
    if (half % 2)
        layer_attention(engine->layer[layer], engine->queue, engine->scratch, call->spans, call->count, x);
    else if (half > 0) /* 0 is the embedding's output, which is there: for attached heads only */
        layer_mlp(engine->layer[layer], engine->queue, engine->scratch, x);
    if (engine->attached)
        run_heads(engine, half, x);
    call->rows = call->count = 0;
}

static void add_rows(struct call *call, struct engine_sequence *sequence, int first, int rows)
{
    struct span *last = call->count > 0 ? &call->spans[call->count - 1] : NULL;
    if (last && call->sequence[call->count - 1] == sequence && last->first + last->rows == first) {
        last->rows += rows;
    } else {
        call->spans[call->count] = (struct span){.rows = rows, .first = first};
        call->sequence[call->count++] = sequence;
    }
    call->rows += rows;
}

/* ---- which rows ---- */

/* How many rows go through a half at once, from `first` on: a piece of a prompt, or of rows that came alone as
 * many as the call has room for. Kernels of few rows and of many round differently: a row of a prompt meets
 * those of many rows, and one that came alone those of few, whatever waits beside it. */
static int rows_at_once(const struct engine_sequence *sequence, int first, int end, int room)
{
    const int prompt_end = sequence_prompt_end(sequence, first);
    if (prompt_end > 0)
        return (int)cut_piece(prompt_end - first, ENGINE_ROWS, 0).rows;
    int rows = 1;
    while (rows < room && first + rows < end && sequence_prompt_end(sequence, first + rows) == 0)
        rows++;
    return rows;
}

/* Behind the last row that must go up for a wanted one: a prompt goes up as a whole. */
static int rows_end(const struct engine_row *row)
{
    const int prompt_end = sequence_prompt_end(row->sequence, row->position);
    return prompt_end > 0 ? prompt_end : row->position + 1;
}

/* Puts the rows that wait for a wanted one through a half. The last ones may stay collected. */
static void run_waiting(struct engine *engine, int half, const struct engine_row *row)
{
    struct call *call = &engine->call;
    const int end = rows_end(row);
    int first = end;
    while (first > 0 && sequence_depth(row->sequence, first - 1) < half)
        first--;
    while (first < end) {
        const bool many = sequence_prompt_end(row->sequence, first) > 0;
        const int most = many ? ENGINE_ROWS : MATMUL_FEW_ROWS;
        if (call->many != many || call->rows == most)
            run_call(engine, half);
        const int rows = rows_at_once(row->sequence, first, end, most - call->rows);
        if (call->rows + rows > most)
            run_call(engine, half);
        call->many = many;
        add_rows(call, row->sequence, first, rows);
        sequence_rise(row->sequence, half, first, rows);
        first += rows;
    }
}

/* States of the rows that want logits. */
static struct matrix gather_result(struct engine *engine, const struct engine_row *rows, int count)
{
    int wanted = 0;
    for (int i = 0; i < count; i++)
        wanted += rows[i].logits;
    if (wanted == 0)
        return matrix_none();
    const struct matrix result = matrix_f32(engine->result, wanted, engine->config->hidden);
    for (int i = 0, row = 0; i < count; i++) {
        if (rows[i].logits)
            op_copy(engine->queue, sequence_states(rows[i].sequence, rows[i].position, 1),
                    matrix_rows(result, row++, 1));
    }
    return result;
}

struct matrix engine_run(struct engine *engine, const struct engine_row *rows, int count)
{
    int lowest = 2 * engine->config->layers, highest = 0;
    for (int i = 0; i < count; i++) {
        const int depth = sequence_depth(rows[i].sequence, rows[i].position);
        lowest = depth < lowest ? depth : lowest;
        highest = rows[i].half > highest ? rows[i].half : highest;
    }
    for (int half = lowest + 1; half <= highest; half++) {
        for (int i = 0; i < count; i++) {
            if (rows[i].half >= half)
                run_waiting(engine, half, &rows[i]);
        }
        run_call(engine, half);
    }
    release_states(engine);
    return gather_result(engine, rows, count);
}

struct queue *engine_queue(const struct engine *engine)
{
    return engine->queue;
}

const struct ends *engine_ends(const struct engine *engine)
{
    return engine->ends;
}
