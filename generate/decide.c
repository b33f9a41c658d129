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
    if (result == 0)
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
    for (int e = 0; e < exits->count; e++) {
        if (load_exit(policy, e, config, backend, &exits->exit[e], error) < 0) {
            exits_free(exits);
            return -1;
        }
        if (!isnan(threshold))
            exits->exit[e].rule.threshold = threshold;
    }
    return 0;
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

int exit_check(const struct exit_point *exit, const struct engine *engine, struct matrix state,
               struct predictor *predictor, struct prediction *prediction, bool *leaves, struct error *error)
{
    const struct vocab weight = head_vocab(exit->head, ends_output(engine_ends(engine)));
    head_forward(exit->head, engine_queue(engine), exit->scratch, state, predictor_input(predictor));
    if (predictor_run(predictor, &weight, prediction, error) < 0)
        return -1;
    const struct evidence evidence = {.confidence = prediction->probability};
    *leaves = rule_lets_leave(&exit->rule, exit->evidence, &evidence);
    return 0;
}
