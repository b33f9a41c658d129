#include "common/head/head.h"

#include <string.h>

#include "common/base/memory.h"
#include "common/base/string.h"
#include "common/head/kind.h"

static const struct head_kind *const kinds[] = {&head_kind_norm, &head_kind_affine, &head_kind_mlp};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* The own output weight of an untied head, behind its kind's parameters. */
static const struct parameter_rule output_rule = {
    "output", FORM_ROLE, ROLE_OUTPUT, true, FILL_MODEL, FILL_NORMAL,
};

/* ---- kinds ---- */

const struct head_kind *head_kind_find(const char *name, struct error *error)
{
    struct string names = {0};
    for (int k = 0; k < KINDS; k++) {
        if (!strcmp(kinds[k]->name, name))
            return kinds[k];
    }
    for (int k = 0; k < KINDS; k++)
        string_print(&names, "%s%s", k ? ", " : "", kinds[k]->name);
    if (!string_failed(&names, error))
        error_set(error, "\"%s\" is not a kind of head (there are: %s)", name, names.data);
    string_free(&names);
    return NULL;
}

const char *head_kind_name(const struct head_kind *kind)
{
    return kind->name;
}

bool head_kind_is_by_row(const struct head_kind *kind)
{
    return kind->by_row;
}

static const char *const output_names[] = {[OUTPUT_TIED] = "tied", [OUTPUT_UNTIED] = "untied"};

const char *head_output_name(enum head_output output)
{
    return output_names[output];
}

int head_output_find(const char *name, enum head_output *output, struct error *error)
{
    for (int i = OUTPUT_TIED; i <= OUTPUT_UNTIED; i++) {
        if (!strcmp(output_names[i], name)) {
            *output = (enum head_output)i;
            return 0;
        }
    }
    return error_set(error, "\"%s\" is not an output of a head (tied or untied)", name);
}

static const char *const init_names[] = {
    [INIT_COPY] = "copy", [INIT_RANDOM] = "random", [INIT_RIDGE] = "ridge"};

const char *head_init_name(enum head_init init)
{
    return init_names[init];
}

int head_init_find(const char *name, enum head_init *init, struct error *error)
{
    for (int i = INIT_COPY; i <= INIT_RIDGE; i++) {
        if (!strcmp(init_names[i], name)) {
            *init = (enum head_init)i;
            return 0;
        }
    }
    return error_set(error, "\"%s\" is not a way to initialise a head (copy, random or ridge)", name);
}

int head_init_check(const struct head_kind *kind, enum head_init init, struct error *error)
{
    if (init == INIT_RIDGE && !kind->has_ridge)
        return error_set(error, "a head of kind %s has no ridge initialisation (use copy or random)",
                         kind->name);
    return 0;
}

bool rule_shape(const struct parameter_rule *rule, const struct model_config *config, int64_t *rows,
                int64_t *cols)
{
    int64_t shape[2] = {config->hidden, config->hidden};
    int dims = rule->form == FORM_VECTOR ? 1 : 2;
    if (rule->form == FORM_ROLE) /* a head's own output weight is shaped as the model's, tied or not */
        dims = role_shape(config, role_holder(config, rule->role), shape);
    *rows = dims == 1 ? 1 : shape[0];
    *cols = dims == 1 ? shape[0] : shape[1];
    return dims > 0;
}

const struct parameter_rule *head_rule(const struct head_spec *spec, const struct model_config *config,
                                       int index)
{
    const struct head_kind *kind = spec->kind;
    int64_t rows, cols;
    for (int r = 0; r < kind->rules; r++) {
        if (rule_shape(&kind->rule[r], config, &rows, &cols) && index-- == 0)
            return &kind->rule[r];
    }
    return spec->output == OUTPUT_UNTIED && index == 0 ? &output_rule : NULL;
}

int head_spec_check(const struct head_spec *spec, const struct model_config *config, struct error *error)
{
    char name[TAP_NAME_SIZE];
    const struct tap tap = spec->tap;
    if (tap.layer < (tap.mid ? 1 : 0) || tap.layer > config->layers)
        return error_set(error, "there is no tap %d%s in a model of %d layers", tap.layer,
                         tap.mid ? ".mid" : "", config->layers);
    tap_name(tap, config->layers, name);
    if (spec->kind->wants_mid && !tap.mid)
        return error_set(error, "a head of kind %s reads a tap L.mid, not %s", spec->kind->name, name);
    return 0;
}

/* ---- life ---- */

int64_t head_spec_values(const struct head_spec *spec, const struct model_config *config, bool trained)
{
    const struct parameter_rule *rule;
    int64_t values = 0, rows, cols;
    for (int i = 0; (rule = head_rule(spec, config, i)); i++) {
        if (rule_shape(rule, config, &rows, &cols) && (!trained || rule->trained))
            values += rows * cols;
    }
    return values;
}

static int64_t scratch_columns(const struct scratch_rule *rule, const struct model_config *config)
{
    const struct block_half *half = &block_of(config)->half[rule->half];
    switch (rule->columns) {
    case COLUMNS_HIDDEN: return config->hidden;
    case COLUMNS_PROJECTED: return half_projected(config, half);
    case COLUMNS_MIXED: return half_mixed(config, half);
    }
    return 0;
}

int64_t head_spec_scratch(const struct head_spec *spec, const struct model_config *config)
{
    int64_t values = 0;
    for (int i = 0; i < spec->kind->scratches; i++)
        values += scratch_columns(&spec->kind->scratch[i], config);
    return values;
}

static int create_parameter(const struct parameter_rule *rule, const struct head *head,
                            struct head_parameter *parameter, struct error *error)
{
    int64_t rows, cols;
    struct buffer *buffer;
    size_t bytes;
    rule_shape(rule, &head->config, &rows, &cols);
    if (!size_multiply((size_t)rows * sizeof(float), (size_t)cols, &bytes))
        return error_set(error, "the parameter %s of a head does not fit in memory", rule->name);
    if (buffer_create(head->backend, bytes, &buffer, error) < 0)
        return error_prefix(error, "the parameter %s of a head", rule->name);
    *parameter = (struct head_parameter){rule->name, rule->role, matrix_f32(buffer, rows, cols), rule->trained};
    return 0;
}

int head_create(const struct head_spec *spec, const struct model_config *config, struct backend *backend,
                struct head **result, struct error *error)
{
    const struct parameter_rule *rule;
    struct head *head = NULL;
    *result = NULL;
    if (head_spec_check(spec, config, error) < 0 || array_alloc(&head, 1, error) < 0)
        return -1;
    head->spec = *spec;
    head->config = *config;
    head->backend = backend;
    if (array_alloc(&head->parameter, spec->kind->rules + 1, error) < 0)
        goto failed;
    for (int i = 0; (rule = head_rule(spec, config, i)); i++) {
        if (create_parameter(rule, head, &head->parameter[i], error) < 0)
            goto failed;
        head->parameters = i + 1;
    }
    *result = head;
    return 0;
failed:
    head_destroy(head);
    return -1;
}

void head_destroy(struct head *head)
{
    if (!head)
        return;
    for (int i = 0; i < head->parameters; i++)
        buffer_destroy(head->parameter[i].value.buffer);
    free(head->parameter);
    free(head);
}

const struct head_spec *head_get_spec(const struct head *head)
{
    return &head->spec;
}

const struct model_config *head_get_config(const struct head *head)
{
    return &head->config;
}

int head_parameter_count(const struct head *head)
{
    return head->parameters;
}

const struct head_parameter *head_parameter(const struct head *head, int index)
{
    return &head->parameter[index];
}

/* ---- running ---- */

static int find_role(const struct head *head, enum tensor_role role)
{
    int i = 0;
    while (i < head->parameters && (role == ROLE_NONE || head->parameter[i].role != role))
        i++;
    return i;
}

struct matrix head_value(const struct head *head, enum tensor_role role)
{
    const int i = find_role(head, role);
    return i < head->parameters ? head->parameter[i].value : matrix_none();
}

struct matrix head_run_gradient(const struct head_run *run, enum tensor_role role)
{
    const int i = find_role(run->head, role);
    return i < run->head->parameters ? run->gradients[i] : matrix_none();
}

struct head_scratch {
    int count;
    struct scratch_matrix {
        struct buffer *buffer; /* NULL: for heads_backward, which was not asked for */
        int64_t cols;
    } * matrix;
};

int head_scratch_create(const struct head *head, int64_t rows, bool backward, struct head_scratch **result,
                        struct error *error)
{
    const struct head_kind *kind = head->spec.kind;
    struct head_scratch *scratch = NULL;
    *result = NULL;
    if (array_alloc(&scratch, 1, error) < 0)
        return -1;
    if (array_alloc(&scratch->matrix, kind->scratches, error) < 0)
        goto failed;
    scratch->count = kind->scratches;
    for (int i = 0; i < kind->scratches; i++) {
        struct scratch_matrix *matrix = &scratch->matrix[i];
        size_t bytes;
        matrix->cols = scratch_columns(&kind->scratch[i], &head->config);
        if (kind->scratch[i].backward && !backward)
            continue;
        if (!size_multiply((size_t)rows, (size_t)matrix->cols * sizeof(float), &bytes)) {
            error_set(error, "the working memory of a head for %lld rows does not fit", (long long)rows);
            goto failed;
        }
        if (buffer_create(head->backend, bytes, &matrix->buffer, error) < 0) {
            error_prefix(error, "the working memory of a head for %lld rows", (long long)rows);
            goto failed;
        }
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

struct matrix head_run_scratch(const struct head_run *run, int index)
{
    const struct scratch_matrix *matrix = &run->scratch->matrix[index];
    return matrix_f32(matrix->buffer, run->x.rows, matrix->cols);
}

void heads_forward(struct queue *queue, const struct head_run *runs, int count)
{
    runs[0].head->spec.kind->forward(queue, runs, count);
}

void heads_backward(struct queue *queue, const struct head_run *runs, int count)
{
    runs[0].head->spec.kind->backward(queue, runs, count);
}

void head_forward(const struct head *head, struct queue *queue, struct head_scratch *scratch, struct matrix x,
                  struct matrix h)
{
    const struct head_run run = {.head = head, .scratch = scratch, .x = x, .h = h};
    heads_forward(queue, &run, 1);
}

struct vocab head_vocab(const struct head *head, const struct weight *tied)
{
    if (head->spec.output == OUTPUT_TIED)
        return (struct vocab){.tied = tied, .own = matrix_none()};
    return (struct vocab){.own = head->parameter[head->parameters - 1].value};
}
