#include "common/head/head.h"

#include <string.h>

#include "common/base/memory.h"
#include "common/head/kind.h"
#include "common/head/source.h"

/* ---- words ---- */

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

/* ---- life ---- */

static int check_tap(struct tap tap, const struct model_config *config, struct error *error)
{
    if (tap.layer < (tap.mid ? 1 : 0) || tap.layer > config->layers)
        return error_set(error, "there is no tap %d%s in a model of %d layers", tap.layer,
                         tap.mid ? ".mid" : "", config->layers);
    return 0;
}

static int check_draft(const struct head_spec *spec, const struct model_config *config, struct error *error)
{
    if (!spec->kind->draft && (spec->befores > 0 || spec->draft_vocab > 0))
        return error_set(error, "a head of kind %s reads one tap; a draft may read several", spec->kind->name);
    if (spec->kind->draft && (spec->draft_vocab < 1 || spec->draft_vocab > config->vocab))
        return error_set(error, "a draft cannot choose from %d tokens of a vocabulary of %d", spec->draft_vocab,
                         config->vocab);
    return 0;
}

int head_spec_check_rank(const struct head_spec *spec, const struct model_config *config, struct error *error)
{
    if (spec->rank != 0 && !spec->kind->has_map)
        return error_set(error, "a head of kind %s has no affine map that could be of a rank",
                         spec->kind->name);
    if (spec->rank < 0 || spec->rank >= config->hidden)
        return error_set(error, "a map of %d values is of a rank below that (or 0, for full), not %d",
                         config->hidden, spec->rank);
    return 0;
}

int head_spec_check_layers(const struct head_spec *spec, const struct model_config *config, struct error *error)
{
    const int layers = config->layers, first = layers > SOURCE_LAYERS ? layers - SOURCE_LAYERS : 0;
    char name[TAP_NAME_SIZE];
    if (!spec->kind->has_layers)
        return spec->to == 0 && !spec->frozen
                   ? 0
                   : error_set(error, "a head of kind %s has none of the model's last layers (bridge has)",
                               spec->kind->name);
    tap_name(spec->tap, layers, name);
    if (spec->to < first || spec->to >= layers)
        return error_set(
            error,
            "a head of kind %s leads to a tap from %d to %d, not to %d: stores keep the last %d of the "
            "model's %d layers",
            spec->kind->name, first, layers - 1, spec->to, SOURCE_LAYERS, layers);
    if (tap_compare(spec->tap, (struct tap){.layer = spec->to}) > 0)
        return error_set(error, "a head of kind %s does not lead back from tap %s to %d", spec->kind->name,
                         name, spec->to);
    return 0;
}

int head_spec_check(const struct head_spec *spec, const struct model_config *config, struct error *error)
{
    char name[TAP_NAME_SIZE];
    struct tap taps[HEAD_TAPS];
    const int count = head_spec_taps(spec, taps);
    for (int i = 0; i < count; i++) {
        if (check_tap(taps[i], config, error) < 0)
            return -1;
        if (i > 0 && tap_compare(taps[i - 1], taps[i]) >= 0)
            return error_set(error, "the taps of a head do not ascend");
    }
    if (check_draft(spec, config, error) < 0 || head_spec_check_rank(spec, config, error) < 0 ||
        head_spec_check_layers(spec, config, error) < 0)
        return -1;
    tap_name(spec->tap, config->layers, name);
    if (spec->kind->wants_mid && !spec->tap.mid)
        return error_set(error, "a head of kind %s reads a tap L.mid, not %s", spec->kind->name, name);
    return 0;
}

static int create_parameter(const struct head *head, const struct parameter_rule *rule,
                            struct head_parameter *parameter, struct error *error)
{
    struct buffer *buffer;
    size_t bytes;
    if (!size_multiply((size_t)rule->rows * sizeof(float), (size_t)rule->cols, &bytes))
        return error_set(error, "the parameter %s of a head does not fit in memory", rule->name);
    if (buffer_create(head->backend, bytes, &buffer, error) < 0)
        return error_prefix(error, "the parameter %s of a head", rule->name);
    *parameter =
        (struct head_parameter){.value = matrix_f32(buffer, rule->rows, rule->cols), .trained = rule->trained};
    memcpy(parameter->name, rule->name, sizeof rule->name);
    return 0;
}

int head_create(const struct head_spec *spec, const struct model_config *config, struct backend *backend,
                struct head **result, struct error *error)
{
    struct head *head = NULL;
    *result = NULL;
    if (head_spec_check(spec, config, error) < 0 || array_alloc(&head, 1, error) < 0)
        return -1;
    head->spec = *spec;
    head->config = *config;
    head->backend = backend;
    head_plan_make(spec, config, &head->plan);
    if (array_alloc(&head->parameter, head->plan.rules, error) < 0)
        goto failed;
    for (int i = 0; i < head->plan.rules; i++) {
        if (create_parameter(head, &head->plan.rule[i], &head->parameter[i], error) < 0)
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

struct vocab head_vocab(const struct head *head, const struct weight *tied)
{
    if (head->spec.output == OUTPUT_TIED && !head->spec.kind->draft)
        return (struct vocab){.tied = tied, .own = matrix_none()};
    return (struct vocab){.own = head->parameter[head->parameters - 1].value};
}
