/* draft_init.c: the first values of a draft.
 *
 * COPY takes the model's last layer: its norms, its products, its MLP. What they made of the residual stream they make
 * of n; the columns of e are zeros. fc passes the last tap on. The model's tensors may have their rows in the order of
 * adjacent pairs (GGUF); a draft's are in halves.
 *
 * RIDGE takes the norms and the MLP only; down is zeros. draft_use_regression fills the rest, so that the draft begins
 * as the regression itself.
 */
#include <stdlib.h>

#include "common/base/memory.h"
#include "common/head/draft_parts.h"
#include "common/head/source.h"

/* The model's tensor of a role in its last layer, or of the whole model, in the role's shape. */
static int take(const struct head *head, enum tensor_role role, const struct head_source *source,
                float **values, struct error *error)
{
    char name[SOURCE_NAME_SIZE];
    int64_t shape[2], rows, cols;
    if (role_shape(&head->config, role_holder(&head->config, role), shape) == 1)
        shape[1] = 1;
    source_name(role, head->config.layers, name);
    if (source->get(source->context, name, values, &rows, &cols, error) < 0)
        return error_prefix(error, "the first values of a draft");
    if (rows * cols == shape[0] * shape[1] && (rows == shape[0] || shape[1] == 1))
        return 0;
    free(*values);
    *values = NULL;
    return error_set(error, "the model's %s is [%lld, %lld], but a draft needs [%lld, %lld] values of it", name,
                     (long long)rows, (long long)cols, (long long)shape[0], (long long)shape[1]);
}

/* Row r in the order of halves, of a tensor of the model whose heads are rotated. */
static int64_t model_row(const struct model_config *config, int64_t r)
{
    const int64_t size = config->head_size, half = size / 2, in = r % size;
    if (config->rope_pairs == ROPE_HALVES)
        return r;
    return r - in + (in < half ? 2 * in : 2 * (in - half) + 1);
}

/* The model's rows behind as many columns of zeros. */
static void place_beside(const struct model_config *config, enum tensor_role role, int64_t rows,
                         const float *model, float *values)
{
    const int64_t hidden = config->hidden;
    const bool rotated = role == ROLE_Q || role == ROLE_K;
    for (int64_t r = 0; r < rows; r++) {
        const float *from = model + (rotated ? model_row(config, r) : r) * hidden;
        for (int64_t c = 0; c < hidden; c++)
            values[(2 * r + 1) * hidden + c] = from[c];
    }
}

static int copy_parameter(const struct head *head, int index, const struct head_source *source, float *values,
                          struct error *error)
{
    const struct parameter_rule *rule = &head->plan.rule[index];
    float *model;
    if (take(head, rule->role, source, &model, error) < 0)
        return -1;
    if (index >= DRAFT_Q && index <= DRAFT_V)
        place_beside(&head->config, rule->role, rule->rows, model, values);
    else
        for (int64_t i = 0; i < rule->rows * rule->cols; i++)
            values[i] = model[i];
    free(model);
    return 0;
}

/* Parameters that do not begin as the model's where a regression fills the draft. */
static bool is_regressed(int index)
{
    return index == DRAFT_HIDDEN_NORM || (index >= DRAFT_Q && index <= DRAFT_O) || index == DRAFT_DOWN;
}

int draft_initialise(struct head *head, enum head_init init, uint64_t seed, const struct head_source *source,
                     struct error *error)
{
    struct random random = {seed};
    struct queue *queue;
    int result = 0;
    if (queue_create(head->backend, &queue, error) < 0)
        return -1;
    for (int i = 0; i < head->parameters && result == 0; i++) {
        const struct parameter_rule *rule = &head->plan.rule[i];
        const struct matrix matrix = head->parameter[i].value;
        const enum fill how =
            init == INIT_RANDOM || (init == INIT_RIDGE && is_regressed(i)) ? rule->random : rule->copy;
        float *values;
        if ((result = array_alloc(&values, matrix.rows * matrix.cols, error)) < 0)
            break;
        head_fill(how, matrix.rows, matrix.cols, &random, values);
        if (how == FILL_MODEL)
            result = copy_parameter(head, i, source, values, error);
        if (i == DRAFT_FC && init == INIT_COPY) {
            for (int64_t r = 0; r < matrix.rows; r++)
                values[r * matrix.cols + matrix.cols - matrix.rows + r] = 1;
        }
        op_write(queue, matrix, values);
        free(values);
    }
    if (result == 0)
        result = queue_wait(queue, error);
    queue_destroy(queue);
    return result;
}

/* ---- tokens ---- */

static int check_tokens(const struct head *head, const int32_t *tokens, struct error *error)
{
    for (int i = 0; i < head->spec.draft_vocab; i++) {
        if (tokens[i] < 0 || tokens[i] >= head->config.vocab || (i > 0 && tokens[i] <= tokens[i - 1]))
            return error_set(error, "the tokens of a draft do not ascend within the vocabulary");
    }
    return 0;
}

int draft_set_tokens(struct head *head, const int32_t *tokens, const struct head_source *source,
                     struct error *error)
{
    const int64_t count = head->spec.draft_vocab, hidden = head->config.hidden;
    struct queue *queue = NULL;
    float *model = NULL, *numbers = NULL;
    int result = -1;
    if (check_tokens(head, tokens, error) < 0 || take(head, ROLE_OUTPUT, source, &model, error) < 0 ||
        array_alloc(&numbers, count, error) < 0 || queue_create(head->backend, &queue, error) < 0)
        goto done;
    const struct matrix output = head->parameter[DRAFT_OUTPUT].value;
    for (int64_t i = 0; i < count; i++) {
        numbers[i] = (float)tokens[i];
        op_write(queue, matrix_rows(output, i, 1), model + tokens[i] * hidden);
    }
    op_write(queue, head->parameter[DRAFT_TOKENS].value, numbers);
    result = queue_wait(queue, error);
done:
    queue_destroy(queue);
    free(numbers);
    free(model);
    return result;
}

int draft_get_tokens(const struct head *head, struct queue *queue, int32_t *tokens, struct error *error)
{
    const int64_t count = head->spec.draft_vocab;
    float *numbers;
    if (array_alloc(&numbers, count, error) < 0)
        return -1;
    op_read(queue, head->parameter[DRAFT_TOKENS].value, numbers);
    int result = queue_wait(queue, error);
    for (int64_t i = 0; i < count; i++) { /* ids are below 2^24, so a float holds them */
        const bool there = numbers[i] >= 0 && numbers[i] < (float)head->config.vocab;
        tokens[i] = there && numbers[i] == (float)(int32_t)numbers[i] ? (int32_t)numbers[i] : -1;
    }
    free(numbers);
    return result < 0 ? -1 : check_tokens(head, tokens, error);
}
