#include "common/head/kind.h"

#include <string.h>

#include "common/base/string.h"
#include "common/head/source.h"
#include "common/model/block.h"

/* ---- the kinds ---- */

static void embedding_stages(const struct head_spec *spec, const struct model_config *config,
                             struct head_plan *plan)
{
    (void)spec, (void)config, (void)plan;
}

static void norm_stages(const struct head_spec *spec, const struct model_config *config, struct head_plan *plan)
{
    (void)spec, (void)config;
    plan_add_stage(plan, (struct stage){.kind = &stage_norm});
}

static void affine_stages(const struct head_spec *spec, const struct model_config *config,
                          struct head_plan *plan)
{
    plan_add_stage(plan, (struct stage){.kind = &stage_affine, .rank = spec->rank});
    norm_stages(spec, config, plan);
}

/* The map leads to where the model's last layer leaves off, so its MLP is the one that reads such states: the last
 * layer's. Its `down` starts at zero: at first the head is the affine one, whose start is known to be good. */
static void affine_mlp_stages(const struct head_spec *spec, const struct model_config *config,
                              struct head_plan *plan)
{
    plan_add_stage(plan, (struct stage){.kind = &stage_affine, .rank = spec->rank});
    plan_add_stage(
        plan, (struct stage){.kind = &stage_half, .layer = config->layers, .half = HALF_MLP, .idle = true});
    norm_stages(spec, config, plan);
}

/* A whole layer. */
static void add_layer(struct head_plan *plan, struct stage half)
{
    half.kind = &stage_half;
    for (half.half = 0; half.half < BLOCK_HALVES; half.half++)
        plan_add_stage(plan, half);
}

static void block_stages(const struct head_spec *spec, const struct model_config *config,
                         struct head_plan *plan)
{
    add_layer(plan, (struct stage){.layer = config->layers});
    norm_stages(spec, config, plan);
}

static void bridge_stages(const struct head_spec *spec, const struct model_config *config,
                          struct head_plan *plan)
{
    plan_add_stage(plan, (struct stage){.kind = &stage_affine, .rank = spec->rank});
    for (int layer = spec->to + 1; layer <= config->layers; layer++)
        add_layer(plan, (struct stage){.layer = layer, .names = NAMES_LAYER, .frozen = spec->frozen});
    norm_stages(spec, config, plan);
}

/* At tap L.mid (EE-LLM's "MLP" exit): the MLP half of the tap's layer, then the final norm. Copied from the model it
 * computes what `norm` computes at tap L. */
static void mlp_stages(const struct head_spec *spec, const struct model_config *config, struct head_plan *plan)
{
    plan_add_stage(plan, (struct stage){.kind = &stage_half,
                                        .layer = spec->tap.layer,
                                        .half = HALF_MLP,
                                        .names = NAMES_SHORT,
                                        .norm_frozen = true});
    norm_stages(spec, config, plan);
}

static const struct head_kind embedding = {.name = "embedding", .by_row = true, .stages = embedding_stages};
static const struct head_kind norm = {.name = "norm", .by_row = true, .stages = norm_stages};
static const struct head_kind affine = {
    .name = "affine", .by_row = true, .has_map = true, .stages = affine_stages};
static const struct head_kind affine_mlp = {
    .name = "affine+mlp", .by_row = true, .has_map = true, .stages = affine_mlp_stages};
static const struct head_kind mlp = {.name = "mlp", .by_row = true, .wants_mid = true, .stages = mlp_stages};
static const struct head_kind block = {.name = "block", .stages = block_stages};
static const struct head_kind bridge = {
    .name = "bridge", .has_map = true, .has_layers = true, .stages = bridge_stages};

const struct head_kind *const head_kinds[] = {&embedding, &norm,   &affine,          &affine_mlp, &mlp,
                                              &block,     &bridge, &head_kind_draft, NULL};

const struct head_kind *head_kind_find(const char *name, struct error *error)
{
    struct string names = {0};
    int k = 0;
    while (head_kinds[k] && strcmp(head_kinds[k]->name, name) != 0)
        k++;
    if (head_kinds[k])
        return head_kinds[k];
    for (k = 0; head_kinds[k]; k++)
        string_print(&names, "%s%s", k ? ", " : "", head_kinds[k]->name);
    if (!string_failed(&names, error))
        error_set(error, "\"%s\" is not a kind of head (there are: %s)", name, names.data);
    string_free(&names);
    return NULL;
}

const char *head_kind_name(const struct head_kind *kind)
{
    return kind->name;
}

int head_init_check(const struct head_kind *kind, enum head_init init, struct error *error)
{
    if (init == INIT_RIDGE && !kind->has_map && !kind->draft)
        return error_set(error, "a head of kind %s has no ridge initialisation (use copy or random)",
                         kind->name);
    return 0;
}

int head_spec_standard_to(const struct head_kind *kind, const struct model_config *config)
{
    const int first = config->layers - SOURCE_LAYERS;
    return kind->has_layers && first > 0 ? first : 0;
}

struct tap head_spec_goal(const struct head_spec *spec, const struct model_config *config)
{
    return (struct tap){.layer = spec->kind->has_layers ? spec->to : config->layers};
}

/* ---- plans ---- */

void plan_add_stage(struct head_plan *plan, struct stage stage)
{
    stage.first = plan->stages == 0;
    stage.attention = plan->attentions;
    plan->attentions += stage.kind == &stage_half && stage.half == HALF_ATTENTION;
    plan->stage[plan->stages++] = stage;
}

void plan_add_rule(struct head_plan *plan, struct parameter_rule rule)
{
    plan->rule[plan->rules++] = rule;
}

void plan_add_scratch(struct head_plan *plan, int64_t cols)
{
    plan->scratch[plan->scratches++] = cols;
}

void plan_need_temporary(struct head_plan *plan, enum temporary temporary, int64_t cols)
{
    plan->temporary[temporary] = cols > plan->temporary[temporary] ? cols : plan->temporary[temporary];
}

/* Those that are last behind the others; else as they were added. */
static void order_rules(struct head_plan *plan)
{
    struct parameter_rule rule[RULES_MAX];
    int count = 0;
    for (int last = 0; last < 2; last++) {
        for (int r = 0; r < plan->rules; r++) {
            if (plan->rule[r].last == (last == 1))
                rule[count++] = plan->rule[r];
        }
    }
    memcpy(plan->rule, rule, (size_t)count * sizeof *rule);
}

void head_plan_make(const struct head_spec *spec, const struct model_config *config, struct head_plan *plan)
{
    *plan = (struct head_plan){0};
    spec->kind->stages(spec, config, plan);
    if (plan->stages > 0)
        plan_need_temporary(plan, TEMPORARY_GRADIENT, config->hidden);
    for (int s = 0; s < plan->stages; s++) {
        struct stage *stage = &plan->stage[s];
        stage->scratch = plan->scratches;
        stage->kind->rules(stage, s, config, plan);
        stage->result = s + 1 < plan->stages ? plan->scratches : -1;
        if (stage->result >= 0)
            plan_add_scratch(plan, config->hidden);
    }
    order_rules(plan);
    if (spec->output == OUTPUT_UNTIED && !spec->kind->draft) /* its own output weight, behind all else */
        plan_add_rule(plan, (struct parameter_rule){.name = "output",
                                                    .rows = config->vocab,
                                                    .cols = config->hidden,
                                                    .role = ROLE_OUTPUT,
                                                    .trained = true,
                                                    .copy = FILL_MODEL,
                                                    .random = FILL_NORMAL,
                                                    .stage = -1});
}

bool head_spec_is_by_row(const struct head_spec *spec)
{
    return spec->kind->by_row;
}

bool head_specs_join(const struct head_spec *spec, const struct head_spec *other)
{
    return spec->kind == other->kind && spec->rank == other->rank && spec->to == other->to &&
           spec->frozen == other->frozen;
}

int64_t head_spec_values(const struct head_spec *spec, const struct model_config *config, bool trained)
{
    struct head_plan plan;
    int64_t values = 0;
    head_plan_make(spec, config, &plan);
    for (int r = 0; r < plan.rules; r++) {
        if (!trained || plan.rule[r].trained)
            values += plan.rule[r].rows * plan.rule[r].cols;
    }
    return values;
}

int64_t head_spec_scratch(const struct head_spec *spec, const struct model_config *config)
{
    struct head_plan plan;
    int64_t values = 0;
    head_plan_make(spec, config, &plan);
    for (int s = 0; s < plan.scratches; s++)
        values += plan.scratch[s];
    for (int t = 0; t < TEMPORARIES; t++)
        values += plan.temporary[t];
    return values;
}
