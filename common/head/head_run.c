/* head_run.c: heads at work: their working memory, and the way through their stages and back. */
#include "common/base/memory.h"
#include "common/head/kind.h"

/* ---- working memory ---- */

struct scratch_matrix {
    struct buffer *buffer; /* NULL: not needed, or for heads_backward, which was not asked for */
    int64_t cols;
};

struct head_scratch {
    int count;
    struct scratch_matrix *matrix; /* [count] */
    struct scratch_matrix temporary[TEMPORARIES];
    struct attend *attend; /* NULL: the heads are by row */
    struct span *spans; /* [rows] */
    int64_t rows;
};

static int create_matrix(const struct head *head, int64_t rows, int64_t cols, struct scratch_matrix *matrix,
                         struct error *error)
{
    size_t bytes;
    matrix->cols = cols;
    if (cols == 0)
        return 0;
    if (!size_multiply((size_t)rows, (size_t)cols * sizeof(float), &bytes))
        return error_set(error, "the working memory of a head for %lld rows does not fit", (long long)rows);
    if (buffer_create(head->backend, bytes, &matrix->buffer, error) < 0)
        return error_prefix(error, "the working memory of a head for %lld rows", (long long)rows);
    return 0;
}

int head_scratch_create(const struct head *head, int64_t rows, int64_t positions, bool backward,
                        struct head_scratch **result, struct error *error)
{
    const struct head_plan *plan = &head->plan;
    struct head_scratch *scratch = NULL;
    *result = NULL;
    if (array_alloc(&scratch, 1, error) < 0)
        return -1;
    scratch->rows = rows;
    if (array_alloc(&scratch->matrix, plan->scratches, error) < 0)
        goto failed;
    scratch->count = plan->scratches;
    for (int i = 0; i < plan->scratches; i++) {
        if (create_matrix(head, rows, plan->scratch[i], &scratch->matrix[i], error) < 0)
            goto failed;
    }
    for (int t = 0; backward && t < TEMPORARIES; t++) {
        if (create_matrix(head, rows, plan->temporary[t], &scratch->temporary[t], error) < 0)
            goto failed;
    }
    if (plan->attentions > 0 &&
        (array_alloc(&scratch->spans, rows, error) < 0 ||
         attend_create(&head->config, head->backend, rows, rows, positions, &scratch->attend, error) < 0))
        goto failed;
    *result = scratch;
    return 0;
failed:
    head_scratch_destroy(scratch);
    return -1;
}

void head_scratch_destroy(struct head_scratch *scratch)
{
    if (!scratch)
        return;
    for (int i = 0; i < scratch->count; i++)
        buffer_destroy(scratch->matrix[i].buffer);
    for (int t = 0; t < TEMPORARIES; t++)
        buffer_destroy(scratch->temporary[t].buffer);
    attend_destroy(scratch->attend);
    free(scratch->spans);
    free(scratch->matrix);
    free(scratch);
}

static struct matrix scratch_of(const struct head_run *run, int index)
{
    const struct scratch_matrix *matrix = &run->scratch->matrix[index];
    return matrix_f32(matrix->buffer, run->x.rows, matrix->cols);
}

struct matrix stage_scratch(const struct stage_run *run, int index)
{
    return scratch_of(run->run, run->stage->scratch + index);
}

struct matrix stage_temporary(const struct stage_run *run, enum temporary temporary, int64_t cols)
{
    return matrix_f32(run->run->scratch->temporary[temporary].buffer, run->run->x.rows, cols);
}

struct attend *stage_attend(const struct stage_run *run)
{
    return run->run->scratch->attend;
}

/* ---- keys and values of one sequence ---- */

struct head_cache {
    int attentions;
    struct kv kv[STAGES_MAX];
};

int head_cache_create(const struct head *head, int capacity, struct head_cache **result, struct error *error)
{
    struct head_cache *cache;
    *result = NULL;
    if (array_alloc(&cache, 1, error) < 0)
        return -1;
    for (; cache->attentions < head->plan.attentions; cache->attentions++) {
        if (kv_create(&head->config, head->backend, capacity, &cache->kv[cache->attentions], error) < 0) {
            head_cache_destroy(cache);
            return -1;
        }
    }
    *result = cache;
    return 0;
}

void head_cache_destroy(struct head_cache *cache)
{
    for (int i = 0; cache && i < cache->attentions; i++)
        kv_destroy(&cache->kv[i]);
    free(cache);
}

void head_cache_copy(const struct head *head, struct queue *queue, const struct head_cache *from,
                     struct head_cache *to, int64_t rows)
{
    const int64_t k_cols = role_rows(&head->config, ROLE_K), v_cols = role_rows(&head->config, ROLE_V);
    for (int i = 0; i < from->attentions; i++) {
        const struct kv *kv = &from->kv[i], *copy = &to->kv[i];
        op_copy(queue, matrix_f32(kv->keys, rows, k_cols), matrix_f32(copy->keys, rows, k_cols));
        op_copy(queue, matrix_f32(kv->values, rows, v_cols), matrix_f32(copy->values, rows, v_cols));
    }
}

const struct span *stage_spans(const struct stage_run *run)
{
    const struct head_run *at = run->run;
    struct span *spans = at->scratch->spans;
    if (!at->caches)
        return at->spans;
    for (int s = 0; s < at->span_count && s < at->scratch->rows; s++) {
        spans[s] = at->spans[s];
        spans[s].kv = &at->caches[s]->kv[run->stage->attention];
    }
    return spans;
}

/* ---- parameters ---- */

/* The index of a stage's parameter; -1: there is none. */
static int find_parameter(const struct stage_run *run, int slot)
{
    const struct head_plan *plan = &run->run->head->plan;
    const int stage = (int)(run->stage - plan->stage);
    for (int i = 0; i < plan->rules; i++) {
        if (plan->rule[i].stage == stage && plan->rule[i].slot == slot)
            return i;
    }
    return -1;
}

struct matrix stage_value(const struct stage_run *run, int slot)
{
    const int i = find_parameter(run, slot);
    return i < 0 ? matrix_none() : run->run->head->parameter[i].value;
}

struct matrix stage_gradient(const struct stage_run *run, int slot)
{
    const int i = find_parameter(run, slot);
    return i < 0 || !run->run->head->plan.rule[i].trained ? matrix_none() : run->run->gradients[i];
}

/* ---- through the stages ---- */

/* Stage `index` of each run. */
static void stage_runs(const struct head_run *runs, int count, int index, struct stage_run *at)
{
    for (int r = 0; r < count; r++) {
        const struct head_plan *plan = &runs[r].head->plan;
        const struct stage *stage = &plan->stage[index];
        at[r] = (struct stage_run){.run = &runs[r], .stage = stage, .x = runs[r].x, .y = runs[r].h};
        if (index > 0)
            at[r].x = scratch_of(&runs[r], plan->stage[index - 1].result);
        if (stage->result >= 0)
            at[r].y = scratch_of(&runs[r], stage->result);
        at[r].dx = stage_temporary(&at[r], TEMPORARY_GRADIENT, runs[r].x.cols);
        at[r].dy = stage->result >= 0 ? at[r].dx : runs[r].dh;
    }
}

void heads_forward(struct queue *queue, const struct head_run *runs, int count)
{
    const struct head_plan *plan = &runs[0].head->plan;
    struct stage_run at[HEADS_TOGETHER];
    for (int s = 0; s < plan->stages; s++) {
        stage_runs(runs, count, s, at);
        plan->stage[s].kind->forward(queue, at, count);
    }
    for (int r = 0; r < count && plan->stages == 0; r++)
        op_copy(queue, runs[r].x, runs[r].h);
}

/* As far down as there is something to train. */
void heads_backward(struct queue *queue, const struct head_run *runs, int count)
{
    const struct head_plan *plan = &runs[0].head->plan;
    struct stage_run at[HEADS_TOGETHER];
    int lowest = 0;
    while (lowest < plan->stages && plan->stage[lowest].frozen)
        lowest++;
    for (int s = plan->stages - 1; s >= lowest; s--) {
        stage_runs(runs, count, s, at);
        plan->stage[s].kind->backward(queue, at, count);
    }
}

void head_forward(const struct head *head, struct queue *queue, struct head_scratch *scratch, struct matrix x,
                  struct matrix h)
{
    const struct head_run run = {.head = head, .scratch = scratch, .x = x, .h = h};
    heads_forward(queue, &run, 1);
}
