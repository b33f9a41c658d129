/* draft.c: a draft's parameters and its working memory. */
#include "common/head/draft.h"

#include <stdlib.h>

#include "common/base/memory.h"
#include "common/head/draft_parts.h"

/* In the order of enum draft_parameter. */
static void stages(const struct head_spec *spec, const struct model_config *config, struct head_plan *plan)
{
    const int64_t hidden = config->hidden, inner = config->intermediate, choice = spec->draft_vocab;
    const int64_t queries = role_rows(config, ROLE_Q), keys = role_rows(config, ROLE_K);
    const bool own = spec->output == OUTPUT_UNTIED;
    const struct parameter_rule rules[] = {
        [DRAFT_FC] = {.name = "fc",
                      .rows = hidden,
                      .cols = (spec->befores + 1) * hidden,
                      .random = FILL_NORMAL},
        [DRAFT_INPUT_NORM] = {.name = "input_norm", .cols = hidden, .copy = FILL_ONES, .random = FILL_ONES},
        [DRAFT_HIDDEN_NORM] = {.name = "hidden_norm",
                               .cols = hidden,
                               .role = ROLE_ATTENTION_NORM,
                               .random = FILL_ONES},
        [DRAFT_MLP_NORM] = {.name = "mlp_norm", .cols = hidden, .role = ROLE_MLP_NORM, .random = FILL_ONES},
        [DRAFT_Q] = {.name = "q", .rows = queries, .cols = 2 * hidden, .role = ROLE_Q, .random = FILL_NORMAL},
        [DRAFT_K] = {.name = "k", .rows = keys, .cols = 2 * hidden, .role = ROLE_K, .random = FILL_NORMAL},
        [DRAFT_V] = {.name = "v", .rows = keys, .cols = 2 * hidden, .role = ROLE_V, .random = FILL_NORMAL},
        [DRAFT_O] = {.name = "o", .rows = hidden, .cols = queries, .role = ROLE_O},
        [DRAFT_GATE] =
            {.name = "gate", .rows = inner, .cols = hidden, .role = ROLE_MLP_GATE, .random = FILL_NORMAL},
        [DRAFT_UP] = {.name = "up", .rows = inner, .cols = hidden, .role = ROLE_MLP_UP, .random = FILL_NORMAL},
        [DRAFT_DOWN] = {.name = "down", .rows = hidden, .cols = inner, .role = ROLE_MLP_DOWN},
        [DRAFT_SCALE] = {.name = "scale", .cols = hidden, .role = ROLE_FINAL_NORM, .random = FILL_ONES},
        [DRAFT_TOKENS] = {.name = "tokens", .cols = choice},
        [DRAFT_OUTPUT] = {.name = "output", .rows = choice, .cols = hidden},
    };
    for (size_t r = 0; r < sizeof rules / sizeof rules[0]; r++) {
        struct parameter_rule rule = rules[r];
        rule.rows = rule.rows > 0 ? rule.rows : 1;
        rule.layer = config->layers;
        rule.stage = -1;
        rule.trained = r == DRAFT_OUTPUT ? own : r != DRAFT_TOKENS;
        if (rule.role != ROLE_NONE)
            rule.copy = FILL_MODEL;
        plan_add_rule(plan, rule);
    }
}

bool head_kind_is_draft(const struct head_kind *kind)
{
    return kind->draft;
}

struct matrix draft_scale(const struct head *head)
{
    return head->parameter[DRAFT_SCALE].value;
}

/* ---- working memory ---- */

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t columns_of(enum draft_matrix which, const struct model_config *config, int steps)
{
    const int64_t hidden = config->hidden, own = steps > 1 ? steps - 1 : 1;
    const int64_t queries = role_rows(config, ROLE_Q), keys = role_rows(config, ROLE_K);
    const int64_t projected = queries + 2 * keys;
    switch (which) {
    case PROJECTED:
    case D_PROJECTED:
    case EMBEDDED_PROJECTED:
    case D_EMBEDDED_PROJECTED: return projected;
    case OWN_KEYS:
    case OWN_VALUES:
    case D_OWN_KEYS:
    case D_OWN_VALUES: return own * keys;
    case D_KEYS:
    case D_VALUES: return keys;
    case ATTENDED:
    case D_ATTENDED: return queries;
    case GATE_UP:
    case D_GATE_UP: return 2 * (int64_t)config->intermediate;
    case GATED:
    case D_GATED: return config->intermediate;
    case ZEROS: return larger(larger(projected, hidden), own * keys);
    default: return hidden;
    }
}

/* How often a matrix is there. */
static int64_t times_of(enum draft_matrix which, int steps, bool backward)
{
    if (which >= D_OUTPUT && !backward)
        return 0;
    if (which == GIVEN)
        return steps + 1;
    return which >= GIVEN && which <= D_OUTPUT ? steps : 1;
}

int64_t draft_scratch_values(const struct model_config *config, int steps, bool backward)
{
    int64_t values = 0;
    for (enum draft_matrix which = 0; which < DRAFT_MATRICES; which++)
        values += columns_of(which, config, steps) * times_of(which, steps, backward);
    return values;
}

static int write_positions(const struct head *head, struct draft_scratch *scratch, struct error *error)
{
    const struct draft_size *size = &scratch->size;
    const int64_t last = size->length + size->steps;
    struct queue *queue = NULL;
    int32_t *positions = NULL;
    float *table = NULL;
    int result = -1;
    if (array_alloc(&positions, size->steps * size->rows, error) < 0 ||
        array_alloc(&table, last * head->config.head_size, error) < 0 ||
        queue_create(head->backend, &queue, error) < 0)
        goto done;
    for (int64_t i = 0; i < size->steps * size->rows; i++)
        positions[i] = (int32_t)(i / size->rows + i % size->rows % size->length + 1);
    config_rope_table(&head->config, (int)last, table);
    op_write(queue, matrix_i32(scratch->positions, size->steps * size->rows, 1), positions);
    op_write(queue, matrix_f32(scratch->table, last, head->config.head_size), table);
    result = queue_wait(queue, error);
done:
    queue_destroy(queue);
    free(positions);
    free(table);
    return result;
}

static int create_buffers(const struct head *head, struct draft_scratch *scratch, struct error *error)
{
    const struct draft_size *size = &scratch->size;
    const size_t rows = (size_t)size->rows;
    for (enum draft_matrix which = 0; which < DRAFT_MATRICES; which++) {
        const int64_t times = times_of(which, size->steps, size->backward);
        size_t bytes;
        scratch->columns[which] = columns_of(which, &head->config, size->steps);
        if (times == 0)
            continue;
        if (!size_multiply(rows, (size_t)(times * scratch->columns[which]) * sizeof(float), &bytes))
            return error_set(error, "the working memory of a draft for %zu rows does not fit", rows);
        if (buffer_create(head->backend, bytes, &scratch->buffer[which], error) < 0)
            return error_prefix(error, "the working memory of a draft for %zu rows", rows);
    }
    const size_t table = (size_t)(size->length + size->steps) * (size_t)head->config.head_size;
    if (buffer_create(head->backend, table * sizeof(float), &scratch->table, error) < 0 ||
        buffer_create(head->backend, (size_t)size->steps * rows * sizeof(int32_t), &scratch->positions, error) <
            0)
        return -1;
    return 0;
}

int draft_scratch_create(const struct head *head, const struct draft_size *size, struct draft_scratch **result,
                         struct error *error)
{
    struct draft_scratch *scratch;
    *result = NULL;
    if (size->steps < 1 || size->steps > DRAFT_STEPS_MOST || size->length < 1 || size->rows % size->length)
        return error_set_kind(error, ERROR_INTERNAL, "a draft of %d steps over %lld rows of sequences of %lld",
                              size->steps, (long long)size->rows, (long long)size->length);
    if (array_alloc(&scratch, 1, error) < 0)
        return -1;
    scratch->size = *size;
    if (array_alloc(&scratch->spans, size->rows / size->length, error) < 0 ||
        array_alloc(&scratch->dspans, size->rows / size->length, error) < 0 ||
        create_buffers(head, scratch, error) < 0 || write_positions(head, scratch, error) < 0) {
        draft_scratch_destroy(scratch);
        return -1;
    }
    *result = scratch;
    return 0;
}

void draft_scratch_destroy(struct draft_scratch *scratch)
{
    if (!scratch)
        return;
    for (int i = 0; i < DRAFT_MATRICES; i++)
        buffer_destroy(scratch->buffer[i]);
    buffer_destroy(scratch->table);
    buffer_destroy(scratch->positions);
    free(scratch->spans);
    free(scratch->dspans);
    free(scratch);
}

/* ---- views ---- */

static int64_t rows_of(const struct draft_run *run)
{
    return run->sequences * run->scratch->size.length;
}

struct matrix draft_matrix(const struct draft_run *run, enum draft_matrix which, int step)
{
    const int64_t rows = rows_of(run);
    return matrix_rows(matrix_f32(run->scratch->buffer[which], (step + 1) * rows, run->scratch->columns[which]),
                       step * rows, rows);
}

struct matrix draft_positions(const struct draft_run *run, int step)
{
    const struct draft_size *size = &run->scratch->size;
    return matrix_rows(matrix_i32(run->scratch->positions, size->steps * size->rows, 1), step * size->rows,
                       rows_of(run));
}

struct matrix draft_table(const struct draft_run *run)
{
    const struct draft_size *size = &run->scratch->size;
    return matrix_f32(run->scratch->table, size->length + size->steps, run->head->config.head_size);
}

struct matrix draft_value(const struct draft_run *run, enum draft_parameter parameter)
{
    return run->head->parameter[parameter].value;
}

struct matrix draft_queries(const struct draft_run *run, struct matrix projected)
{
    return matrix_cols(projected, 0, draft_value(run, DRAFT_Q).rows);
}

struct matrix draft_keys(const struct draft_run *run, struct matrix projected)
{
    return matrix_cols(projected, draft_value(run, DRAFT_Q).rows, draft_value(run, DRAFT_K).rows);
}

struct matrix draft_values(const struct draft_run *run, struct matrix projected)
{
    return matrix_cols(projected, draft_value(run, DRAFT_Q).rows + draft_value(run, DRAFT_K).rows,
                       draft_value(run, DRAFT_V).rows);
}

struct matrix draft_half(const struct draft_run *run, struct matrix weight, bool normed)
{
    const int64_t hidden = run->head->config.hidden;
    return matrix_cols(weight, normed ? hidden : 0, hidden);
}

struct matrix draft_sequence(const struct draft_run *run, struct matrix matrix, int64_t s, int64_t first,
                             int64_t rows)
{
    return matrix_rows(matrix, s * run->scratch->size.length + first, rows);
}

int64_t draft_rows(const struct draft_run *run, int step)
{
    const int64_t rows = run->scratch->size.length - 1 - step;
    return rows > 0 ? rows : 0;
}

struct matrix draft_output(const struct draft_run *run, int step)
{
    return draft_matrix(run, OUTPUT, step);
}

struct matrix draft_output_gradient(const struct draft_run *run, int step)
{
    return draft_matrix(run, D_OUTPUT, step);
}

const struct head_kind head_kind_draft = {
    .name = "draft",
    .draft = true,
    .stages = stages,
    .initialise = draft_initialise,
};
