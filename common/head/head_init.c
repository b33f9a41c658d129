/* head_init.c: the first values of a head's parameters. */
#include "common/base/memory.h"
#include "common/head/kind.h"
#include "common/head/source.h"

_Static_assert(HEAD_TENSOR_NAME_SIZE == SOURCE_NAME_SIZE, "a head names tensors as sources do");

static const double normal_deviation = 0.02;

/* The model's tensor as *values, in the shape of the parameter. Stores may name the one row of a
 * norm [1, H] or [H, 1]: vectors are compared by their length. */
static int fill_from_model(const struct parameter_rule *rule, const struct head_source *source, float **values,
                           struct error *error)
{
    char name[SOURCE_NAME_SIZE];
    int64_t rows, cols;
    source_name(rule->role, rule->layer, name);
    if (source->get(source->context, name, values, &rows, &cols, error) < 0)
        return error_prefix(error, "the parameter %s of a head", rule->name);
    const bool fits = rule->rows == 1 ? rows * cols == rule->cols : rows == rule->rows && cols == rule->cols;
    if (fits)
        return 0;
    free(*values);
    *values = NULL;
    return error_set(error, "the parameter %s of a head is [%lld, %lld], but the model's %s is [%lld, %lld]",
                     rule->name, (long long)rule->rows, (long long)rule->cols, name, (long long)rows,
                     (long long)cols);
}

void head_fill(enum fill fill, int64_t rows, int64_t cols, struct random *random, float *values)
{
    const int64_t count = rows * cols;
    switch (fill) {
    case FILL_IDENTITY:
        for (int64_t r = 0; r < rows; r++)
            values[r * cols + r] = 1;
        break;
    case FILL_ONES:
        for (int64_t i = 0; i < count; i++)
            values[i] = 1;
        break;
    case FILL_NORMAL:
        for (int64_t i = 0; i < count; i++)
            values[i] = (float)(normal_deviation * random_normal(random));
        break;
    case FILL_ZEROS: /* as allocated */
    case FILL_MODEL: /* fill_from_model */ break;
    }
}

int head_initialise(struct head *head, enum head_init init, uint64_t seed, const struct head_source *source,
                    struct error *error)
{
    struct random random = {seed};
    struct queue *queue = NULL;
    float *values = NULL;
    int result = -1;
    if (head_init_check(head->spec.kind, init, error) < 0)
        return -1;
    if (head->spec.kind->initialise)
        return head->spec.kind->initialise(head, init, seed, source, error);
    if (queue_create(head->backend, &queue, error) < 0)
        return -1;
    for (int i = 0; i < head->parameters; i++) {
        const struct parameter_rule *rule = &head->plan.rule[i];
        const enum fill fill = init == INIT_RANDOM ? rule->random : rule->copy;
        if (fill == FILL_MODEL) {
            if (fill_from_model(rule, source, &values, error) < 0)
                goto done;
        } else {
            if (array_alloc(&values, rule->rows * rule->cols, error) < 0)
                goto done;
            head_fill(fill, rule->rows, rule->cols, &random, values);
        }
        op_write(queue, head->parameter[i].value, values);
        free(values);
        values = NULL;
    }
    result = queue_wait(queue, error);
done:
    free(values);
    queue_destroy(queue);
    return result;
}

bool head_spec_tensor(const struct head_spec *spec, const struct model_config *config, int index,
                      char name[HEAD_TENSOR_NAME_SIZE])
{
    struct head_plan plan;
    head_plan_make(spec, config, &plan);
    for (int r = 0; r < plan.rules; r++) {
        const struct parameter_rule *rule = &plan.rule[r];
        if ((rule->copy == FILL_MODEL || rule->random == FILL_MODEL) && index-- == 0) {
            source_name(rule->role, rule->layer, name);
            return true;
        }
    }
    return false;
}
