#include "train/sweep.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/hash_index.h"
#include "common/base/memory.h"
#include "common/head/draft.h"
#include "train/sweep_trials.h"
#include "train/sweep_yaml.h"

/* ---- settings ---- */

static int set_setting(struct sweep *sweep, enum setting_key key, const char *text, struct error *error)
{
    int64_t value = -1; /* of an empty text: it is not given */
    if (key == KEY_GATES)
        return gate_wish_parse(text, &sweep->gates, error);
    if (*text && sweep_key_whole(&setting_keys[key], text, &value, error) < 0)
        return -1;
    switch (key) {
    case KEY_SEED: sweep->seed = (uint64_t)value; break;
    case KEY_PASSES: sweep->passes = (int)value; break;
    case KEY_STEPS: sweep->steps = value; break;
    case KEY_SEQUENCES: sweep->sequences = (int)value; break;
    case KEY_EVALUATE: sweep->evaluate = value; break;
    case KEY_SAMPLE: sweep->sample = value; break;
    case KEY_CHECKPOINT: sweep->checkpoint = value; break;
    case KEY_HALVING:
        sweep->halving = (int)value;
        return value == 1 ? error_set(error, "1 would stop no trial; give at least 2, or 0 for that") : 0;
    case KEY_PATIENCE: sweep->patience = (int)value; break;
    case KEY_GATES: break;
    }
    return 0;
}

/* Puts file, line and key before what is wrong with a setting. */
static int blame_setting(const struct sweep *sweep, enum setting_key key, struct error *error)
{
    const char *name = setting_keys[key].name;
    return sweep->name ? error_prefix(error, "%s: line %d: %s", sweep->name, sweep->line[key], name)
                       : error_prefix(error, "--%s", name);
}

static int read_settings(struct sweep *sweep, const struct sweep_document *document, struct error *error)
{
    for (int k = 0; k < SETTING_KEYS; k++) {
        const struct sweep_scalar *written = &document->setting[k];
        const bool given = written->text && *written->text;
        sweep->line[k] = given ? written->line : 0;
        if (set_setting(sweep, (enum setting_key)k, given ? written->text : setting_keys[k].standard, error) <
            0)
            return blame_setting(sweep, (enum setting_key)k, error);
    }
    if (sweep->line[KEY_PASSES] && sweep->line[KEY_STEPS])
        return error_set(error, "passes and steps both say how long to train; give one"),
               blame_setting(sweep, KEY_STEPS, error);
    return 0;
}

/* ---- the document ---- */

int sweep_parse(const char *name, const char *text, size_t size, struct sweep *sweep, struct error *error)
{
    struct sweep_document *document = NULL;
    *sweep = (struct sweep){.name = name, .size = size};
    if (!(sweep->text = memory_alloc(size + 1, 1, error)))
        return -1;
    memcpy(sweep->text, text, size);
    int result = sweep_document_load(name ? name : "the flags", sweep->text, size, &document, error);
    if (result == 0)
        result = read_settings(sweep, document, error);
    if (result == 0)
        result = sweep_trials_read(document, name, sweep->seed, &sweep->trial, &sweep->trials, error);
    sweep_document_free(document);
    if (result < 0)
        sweep_free(sweep);
    return result;
}

int sweep_read(const char *path, struct sweep *sweep, struct error *error)
{
    char *text;
    size_t size;
    *sweep = (struct sweep){0};
    if (file_read(path, &text, &size, error) < 0)
        return -1;
    int result = sweep_parse(path, text, size, sweep, error);
    free(text);
    return result;
}

void sweep_free(struct sweep *sweep)
{
    free(sweep->text);
    free(sweep->trial);
    *sweep = (struct sweep){0};
}

/* ---- trials of a model ---- */

/* Over what a trial's softmax is; *without: a subset would be, but for the store. */
static int choose_vocabulary(struct trial_config *config, bool best, bool *without, struct error *error)
{
    const bool tied = config->spec.output == OUTPUT_TIED;
    if (head_kind_is_draft(config->spec.kind)) {
        if (config->vocabulary == VOCABULARY_SUBSET)
            return error_set(error, "a draft takes its softmax over its own `draft_vocab` tokens; leave "
                                    "`vocabulary` out");
        config->vocabulary = VOCABULARY_ALL;
        config->vocabulary_named = false;
        return 0;
    }
    const bool good_start = config->init == INIT_RIDGE; /* subset.h: what poor starts lack */
    const enum trial_vocabulary chosen = tied && best && good_start ? VOCABULARY_SUBSET : VOCABULARY_ALL;
    if (config->vocabulary == VOCABULARY_SUBSET && !(tied && best))
        return error_set(
            error, "%s",
            tied ? "a subset needs the teacher's best tokens, which the store does not have; extract it "
                   "anew, or leave `vocabulary` out"
                 : "an untied head trains all rows of its own output weight, so it takes the whole "
                   "vocabulary; leave `vocabulary` out");
    *without = *without || (tied && !best && good_start && config->vocabulary == VOCABULARY_AUTO);
    config->vocabulary_named = config->vocabulary != VOCABULARY_AUTO && config->vocabulary != chosen;
    config->vocabulary_auto = config->vocabulary == VOCABULARY_AUTO;
    if (config->vocabulary_auto)
        config->vocabulary = chosen;
    return 0;
}

int sweep_choose_vocabulary(struct sweep *sweep, bool best, struct error *error)
{
    bool without = false;
    for (int i = 0; i < sweep->trials; i++) {
        if (choose_vocabulary(&sweep->trial[i], best, &without, error) < 0)
            return trial_config_blame(&sweep->trial[i], sweep->name, KEY_VOCABULARY, error);
    }
    if (without)
        cli_say(
            "the store does not have the teacher's best tokens, so steps take the whole vocabulary, which is "
            "several times slower; extract the store anew to have them");
    return 0;
}

/* What only drafts have: their tokens. They learn by distillation alone. */
static int resolve_draft(const struct sweep *sweep, struct trial_config *config,
                         const struct model_config *model, struct error *error)
{
    if (!head_kind_is_draft(config->spec.kind))
        return 0;
    if (config->loss != LOSS_DISTILLATION) {
        error_set(error, "a draft learns what the full model says, by distillation");
        return trial_config_blame(config, sweep->name, KEY_LOSS, error);
    }
    if (config->draft_vocab > model->vocab && !config->line.key[KEY_DRAFT_VOCAB])
        config->draft_vocab = model->vocab; /* a default that is too many */
    if (config->draft_vocab > model->vocab) {
        error_set(error, "a draft cannot choose from %d tokens of a vocabulary of %d", config->draft_vocab,
                  model->vocab);
        return trial_config_blame(config, sweep->name, KEY_DRAFT_VOCAB, error);
    }
    config->spec.draft_vocab = config->draft_vocab;
    return 0;
}

static int resolve_trial(const struct sweep *sweep, struct trial_config *config,
                         const struct model_config *model, struct error *error)
{
    char written[TAPS_NAME_SIZE];
    strcpy(written, config->tap);
    if (resolve_draft(sweep, config, model, error) < 0)
        return -1;
    const int to = head_spec_standard_to(config->spec.kind, model);
    config->to_named = config->spec.to >= 0 && config->spec.to != to;
    config->spec.to = config->spec.to < 0 ? to : config->spec.to;
    if (head_spec_check_rank(&config->spec, model, error) < 0)
        return trial_config_blame(config, sweep->name, KEY_RANK, error);
    if (head_spec_parse_taps(written, model->layers, &config->spec, error) < 0)
        return trial_config_blame(config, sweep->name, KEY_TAP, error);
    if (head_spec_check_layers(&config->spec, model, error) < 0)
        return trial_config_blame(
            config, sweep->name,
            config->line.key[KEY_LAYERS] && !config->line.key[KEY_TO] ? KEY_LAYERS : KEY_TO, error);
    if (head_spec_check(&config->spec, model, error) < 0)
        return trial_config_blame(config, sweep->name, KEY_TAP, error);
    head_spec_name_taps(&config->spec, model->layers, config->tap);
    return trial_config_name(config, error);
}

static int refuse_twice(const struct sweep *sweep, const struct trial_config *config,
                        const struct trial_config *before, struct error *error)
{
    if (config->line.trial == before->line.trial)
        error_set(error, "trial %s is made twice here; leave one out, or change a setting of it", config->id);
    else
        error_set(error,
                  "trial %s is given twice, here and in line %d; leave one out, or change a setting of it",
                  config->id, before->line.trial);
    return error_prefix(error, "%s: line %d", sweep->name, config->line.trial);
}

int sweep_resolve(struct sweep *sweep, const struct model_config *model, struct error *error)
{
    struct hash_index names = {0};
    int result = 0;
    for (int i = 0; i < sweep->trials && result == 0; i++) {
        struct trial_config *config = &sweep->trial[i];
        result = resolve_trial(sweep, config, model, error);
        const int before = result < 0 ? -1 : trial_configs_find(sweep->trial, &names, config->id);
        if (before >= 0)
            result = refuse_twice(sweep, config, &sweep->trial[before], error);
        else if (result == 0)
            result = trial_configs_add(sweep->trial, &names, i, error);
    }
    hash_index_free(&names);
    return result;
}

bool sweep_part_has(struct sweep_part part, int trial)
{
    return part.count <= 1 || trial % part.count == part.index;
}

void sweep_take_part(struct sweep *sweep, struct sweep_part part)
{
    int kept = 0;
    for (int i = 0; i < sweep->trials; i++) {
        if (sweep_part_has(part, i))
            sweep->trial[kept++] = sweep->trial[i];
    }
    sweep->trials = kept;
}

int sweep_fit(struct sweep *sweep, uint64_t sequences, struct error *error)
{
    if ((uint64_t)sweep->sequences <= sequences)
        return 0;
    if (!sweep->line[KEY_SEQUENCES]) { /* a default that is too many */
        sweep->sequences = sequences > 0 ? (int)sequences : 1;
        return 0;
    }
    return error_set(error, "%d per step are more than the %" PRIu64 " of the store's training split",
                     sweep->sequences, sequences),
           blame_setting(sweep, KEY_SEQUENCES, error);
}

/* The states of a tap, for a key's sake. */
static int check_tap(const struct sweep *sweep, const struct stores *stores, const struct trial_config *config,
                     struct tap tap, enum trial_key key, const char *why, struct error *error)
{
    if (shards_find_tap(stores->shards, tap, error) >= 0)
        return 0;
    if (*why)
        error_prefix(error, "%s", why);
    return trial_config_blame(config, sweep->name, key, error);
}

static int check_states(const struct sweep *sweep, const struct stores *stores,
                        const struct trial_config *config, struct error *error)
{
    const struct tap final = {.layer = stores->config.layers};
    const bool target = store_find_target(shards_info(stores->shards)) >= 0;
    const bool draft = head_kind_is_draft(config->spec.kind);
    struct tap taps[HEAD_TAPS];
    const int count = head_spec_taps(&config->spec, taps);
    for (int i = 0; i < count; i++) {
        if (check_tap(sweep, stores, config, taps[i], KEY_TAP, "", error) < 0)
            return -1;
    }
    if (draft && !target) {
        error_set(error,
                  "a draft needs what the full model says, which the store does not have; extract it anew");
        return trial_config_blame(config, sweep->name, KEY_HEAD, error);
    }
    if ((draft && check_tap(sweep, stores, config, final, KEY_HEAD, "a draft is taught by the final states",
                            error) < 0) ||
        (config->init == INIT_RIDGE &&
         check_tap(sweep, stores, config, head_spec_goal(&config->spec, &stores->config), KEY_INIT,
                   "ridge is fitted to the states that the head's map leads to", error) < 0) ||
        (config->spec.output == OUTPUT_UNTIED &&
         check_tap(sweep, stores, config, final, KEY_OUTPUT, "untied is taught by the final states", error) <
             0) ||
        (trial_config_takes_final(config) && config->spec.output == OUTPUT_TIED &&
         check_tap(sweep, stores, config, final, KEY_TEMPERATURE,
                   "other than 1 it takes the full model's probabilities from the final states", error) < 0) ||
        (!target && check_tap(sweep, stores, config, final, KEY_LOSS,
                              "without a target heads are taught by the final states", error) < 0))
        return -1;
    return 0;
}

/* The tensors of the model that a trial's head begins with. */
static int check_tensors(const struct sweep *sweep, const struct stores *stores,
                         const struct trial_config *config, struct error *error)
{
    char name[HEAD_TENSOR_NAME_SIZE];
    struct source_shape shape;
    for (int i = 0; head_spec_tensor(&config->spec, &stores->config, i, name); i++) {
        if (shards_find_source(stores->shards, name, &shape, error) == 0)
            continue;
        if (error->kind != ERROR_USAGE)
            return -1;
        error_set(
            error,
            "%s begins with the model's tensor %s, which the store lacks: an earlier version made it. The same "
            "extract command again adds it and computes nothing anew (cache info shows the command)",
            head_kind_name(config->spec.kind), name);
        return trial_config_blame(config, sweep->name, KEY_HEAD, error);
    }
    return 0;
}

/* A run that takes steps must have something to train. Trials without are evaluated beside others. */
static int check_trained(const struct sweep *sweep, const struct model_config *model, struct error *error)
{
    for (int i = 0; i < sweep->trials; i++) {
        if (sweep->steps == 0 || head_spec_values(&sweep->trial[i].spec, model, true) > 0)
            return 0;
    }
    error_set(error, "%s, %s, has nothing to train: give `steps: 0` to evaluate it alone, or `output: untied`",
              head_kind_name(sweep->trial->spec.kind), head_output_name(sweep->trial->spec.output));
    return trial_config_blame(sweep->trial, sweep->name, KEY_HEAD, error);
}

int sweep_take_stores(struct sweep *sweep, const struct stores *stores, struct error *error)
{
    const struct store_info *info = shards_info(stores->shards);
    const bool best = store_find_target(info) >= 0 && target_best(&info->columns) > 0;
    if (sweep_choose_vocabulary(sweep, best, error) < 0 || sweep_resolve(sweep, &stores->config, error) < 0 ||
        sweep_fit(sweep, stores->sequences[SPLIT_TRAIN], error) < 0 ||
        check_trained(sweep, &stores->config, error) < 0)
        return error_narrow(error, ERROR_USAGE);
    for (int i = 0; i < sweep->trials; i++) {
        if (check_states(sweep, stores, &sweep->trial[i], error) < 0 ||
            check_tensors(sweep, stores, &sweep->trial[i], error) < 0)
            return error_narrow(error, ERROR_USAGE);
    }
    return 0;
}

int64_t sweep_sample(const struct sweep *sweep, int64_t split, int64_t rows)
{
    const int64_t enough = (SWEEP_SAMPLE_TOKENS + rows - 1) / rows;
    const int64_t standard = enough > SWEEP_SAMPLE ? enough : SWEEP_SAMPLE;
    const int64_t wanted = sweep->sample < 0 ? standard : sweep->sample;
    return wanted == 0 || wanted > split ? split : wanted;
}

int64_t sweep_steps(const struct sweep *sweep, uint64_t sequences)
{
    if (sweep->steps >= 0)
        return sweep->steps;
    const int64_t steps = (int64_t)(sequences * (uint64_t)sweep->passes / (uint64_t)sweep->sequences);
    return steps > 0 ? steps : 1;
}
