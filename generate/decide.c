#include "generate/decide.h"

#include <math.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/memory.h"

/* A head file says what head it holds. The policy must say the same. */
static int check_head(const struct head *head, const struct policy_exit *expected, struct error *error)
{
    const struct head_spec *spec = head_get_spec(head);
    char tap[TAP_NAME_SIZE];
    if (strcmp(head_kind_name(spec->kind), expected->head.kind) != 0 ||
        strcmp(head_output_name(spec->output), expected->head.output) != 0 ||
        tap_compare(spec->tap, expected->tap) != 0) {
        tap_name(spec->tap, head_get_config(head)->layers, tap);
        return error_set(error, "holds a head %s, output %s, at tap %s, but the policy says otherwise",
                         head_kind_name(spec->kind), head_output_name(spec->output), tap);
    }
    return 0;
}

static int load_exit(const struct policy *policy, int index, const struct model_config *config,
                     struct backend *backend, struct exit_point *exit, struct error *error)
{
    const struct policy_exit *expected = &policy->exit[index];
    char *path = path_join(policy->folder, expected->head.file, error);
    if (!path)
        return -1;
    int result = head_load(path, config, policy->fingerprint, backend, &exit->head, error);
    if (result == 0 && check_head(exit->head, expected, error) < 0)
        result = error_prefix(error, "%s", path);
    if (result == 0 && head_spec_is_by_row(head_get_spec(exit->head)))
        result = head_scratch_create(exit->head, 1, 1, false, &exit->scratch, error);
    free(path);
    exit->tap = expected->tap;
    exit->evidence = expected->evidence.kind;
    exit->rule = expected->rule;
    return result;
}

int exits_load(const struct policy *policy, const char *fingerprint, const struct model_config *config,
               struct backend *backend, double threshold, struct exits *exits, struct error *error)
{
    *exits = (struct exits){0};
    if (strcmp(policy->fingerprint, fingerprint) != 0)
        return error_set_kind(
            error, ERROR_USAGE,
            "%s: the policy was made for the model %s, but this one is %s: use that model, or train "
            "exits for this one",
            policy->folder, policy->fingerprint, fingerprint);
    if (array_alloc(&exits->exit, policy->exits, error) < 0)
        return -1;
    exits->count = policy->exits;
    int attached = 0;
    for (int e = 0; e < exits->count; e++) {
        if (load_exit(policy, e, config, backend, &exits->exit[e], error) < 0) {
            exits_free(exits);
            return -1;
        }
        exits->exit[e].attached = exits->exit[e].scratch ? -1 : attached++;
        if (!isnan(threshold))
            exits->exit[e].rule.threshold = threshold;
    }
    return 0;
}

int exits_attach(const struct exits *exits, struct engine *engine, struct error *error)
{
    struct attached_head *heads;
    int count = 0;
    if (array_alloc(&heads, exits->count, error) < 0)
        return -1;
    for (int e = 0; e < exits->count; e++) {
        const struct exit_point *exit = &exits->exit[e];
        if (exit->attached >= 0)
            heads[count++] = (struct attached_head){.head = exit->head, .half = tap_half(exit->tap)};
    }
    const int result = count > 0 ? engine_attach(engine, heads, count, error) : 0;
    free(heads);
    return result;
}

void exits_free(struct exits *exits)
{
    for (int e = 0; e < exits->count; e++) {
        head_scratch_destroy(exits->exit[e].scratch);
        head_destroy(exits->exit[e].head);
    }
    free(exits->exit);
    *exits = (struct exits){0};
}

int exit_check(const struct exit_point *exit, const struct engine *engine,
               const struct engine_sequence *sequence, struct matrix state, struct predictor *predictor,
               struct prediction *prediction, bool *leaves, struct error *error)
{
    const struct vocab weight = head_vocab(exit->head, ends_output(engine_ends(engine)));
    struct queue *queue = engine_queue(engine);
    if (exit->attached < 0)
        head_forward(exit->head, queue, exit->scratch, state, predictor_input(predictor));
    else
        op_copy(queue, sequence_head_row(sequence, exit->attached, sequence_rows(sequence) - 1),
                predictor_input(predictor));
    if (predictor_run(predictor, &weight, prediction, error) < 0)
        return -1;
    const struct evidence evidence = {.confidence = prediction->probability};
    *leaves = rule_lets_leave(&exit->rule, exit->evidence, &evidence);
    return 0;
}
