/* head_run.c: heads at work: their working memory, and the way through their stages and back. */
#include "common/base/memory.h"
#include "common/head/kind.h"

/* ---- working memory ---- */

struct head_scratch {
    int count;
    struct scratch_matrix {
        struct buffer *buffer; /* NULL: for heads_backward, which was not asked for */
        int64_t cols;
    } * matrix;
};

static int create_matrix(const struct head *head, const struct scratch_rule *rule, int64_t rows, bool backward,
                         struct scratch_matrix *matrix, struct error *error)
{
    size_t bytes;
    matrix->cols = rule->cols;
    if (rule->backward && !backward)
        return 0;
    if (!size_multiply((size_t)rows, (size_t)rule->cols * sizeof(float), &bytes))
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
    (void)positions;
    if (array_alloc(&scratch, 1, error) < 0)
        return -1;
    if (array_alloc(&scratch->matrix, plan->scratches, error) < 0)
        goto failed;
    scratch->count = plan->scratches;
    for (int i = 0; i < plan->scratches; i++) {
        if (create_matrix(head, &plan->scratch[i], rows, backward, &scratch->matrix[i], error) < 0)
            goto failed;
    }
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
    return i < 0 ? matrix_none() : run->run->gradients[i];
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
        at[r].dx = scratch_of(&runs[r], plan->gradient);
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
    for (int s = plan->stages - 1; s >= 0; s--) {
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
