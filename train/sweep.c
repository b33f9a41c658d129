#include "train/sweep.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "train/sweep_yaml.h"

#define TRIALS_MAX  10000
#define HALVING_MAX 1000

static const char *const loss_names[] = {
    [LOSS_CROSS_ENTROPY] = "cross-entropy", [LOSS_DISTILLATION] = "distillation"};

const char *trial_loss_name(enum trial_loss loss)
{
    return loss_names[loss];
}

static int set_loss(const char *text, enum trial_loss *loss, struct error *error)
{
    for (int i = LOSS_CROSS_ENTROPY; i <= LOSS_DISTILLATION; i++) {
        if (!strcmp(loss_names[i], text)) {
            *loss = (enum trial_loss)i;
            return 0;
        }
    }
    return error_set(error, "\"%s\" is not a loss (distillation or cross-entropy)", text);
}

/* What a tap looks like in any model; whether this model has it, sweep_resolve finds out. */
static int set_tap(const char *text, char tap[TAP_NAME_SIZE], struct error *error)
{
    size_t digits = strspn(text, "0123456789");
    const bool good =
        !strcmp(text, "final") || (digits > 0 && (!text[digits] || !strcmp(text + digits, ".mid")));
    if (!good || strlen(text) >= TAP_NAME_SIZE)
        return error_set(error, "\"%.40s\" is not a tap (such as 12, 12.mid or final)", text);
    strcpy(tap, text);
    return 0;
}

static int set_trial_key(struct trial_config *config, enum trial_key key, const char *text, struct error *error)
{
    switch (key) {
    case KEY_TAP: return set_tap(text, config->tap, error);
    case KEY_HEAD: return (config->spec.kind = head_kind_find(text, error)) ? 0 : -1;
    case KEY_OUTPUT: return head_output_find(text, &config->spec.output, error);
    case KEY_INIT: return head_init_find(text, &config->init, error);
    case KEY_LOSS: return set_loss(text, &config->loss, error);
    case KEY_RATE: return parse_number(text, 0, 10, &config->rate, error);
    case KEY_WARMUP: return parse_integer(text, 0, 1000000000, &config->warmup, error);
    case KEY_CLIP: return parse_number(text, 0, 1e9, &config->clip, error);
    case KEY_DECAY: return parse_number(text, 0, 1, &config->decay, error);
    case KEY_BETA1: return parse_number(text, 0, 0.99999, &config->beta1, error);
    case KEY_BETA2: return parse_number(text, 0, 0.99999, &config->beta2, error);
    case KEY_EPSILON: return parse_number(text, 1e-20, 1, &config->epsilon, error);
    }
    return -1;
}

static int set_setting(struct sweep *sweep, enum setting_key key, const char *text, struct error *error)
{
    int64_t value;
    switch (key) {
    case KEY_SEED:
        if (parse_integer(text, 0, INT64_MAX, &value, error) < 0)
            return -1;
        sweep->seed = (uint64_t)value;
        return 0;
    case KEY_PASSES:
        if (parse_integer(text, 1, 10000, &value, error) < 0)
            return -1;
        sweep->passes = (int)value;
        return 0;
    case KEY_STEPS:
        sweep->steps = -1;
        return *text ? parse_integer(text, 0, 1000000000, &sweep->steps, error) : 0;
    case KEY_SEQUENCES:
        if (parse_integer(text, 1, 65536, &value, error) < 0)
            return -1;
        sweep->sequences = (int)value;
        return 0;
    case KEY_EVALUATE: return parse_integer(text, 0, 1000000000, &sweep->evaluate, error);
    case KEY_CHECKPOINT: return parse_integer(text, 1, 1000000000, &sweep->checkpoint, error);
    case KEY_HALVING:
        if (parse_integer(text, 0, HALVING_MAX, &value, error) < 0)
            return -1;
        sweep->halving = (int)value;
        return value == 1 ? error_set(error, "1 would stop no trial; give at least 2, or 0 for that") : 0;
    case KEY_PATIENCE:
        if (parse_integer(text, 0, 1000000, &value, error) < 0)
            return -1;
        sweep->patience = (int)value;
        return 0;
    }
    return -1;
}

/* ---- the document ---- */

/* Puts file, line and key before what is wrong with a value. */
static int blame_value(const struct sweep *sweep, const char *key, const char *value, struct error *error)
{
    if (!sweep->name)
        return error_prefix(error, "--%s", key);
    return error_prefix(error, "%s: line %d: %s", sweep->name, sweep_line(sweep->text, key, value, 1), key);
}

static int read_settings(struct sweep *sweep, const struct sweep_document *document, struct error *error)
{
    for (int k = 0; k < SETTING_KEYS; k++) {
        const char *written = document->setting[k], *given = written && *written ? written : NULL;
        if (set_setting(sweep, (enum setting_key)k, given ? given : setting_keys[k].standard, error) < 0)
            return blame_value(sweep, setting_keys[k].name, given, error);
    }
    if (document->setting[KEY_PASSES] && document->setting[KEY_STEPS])
        return error_set(error, "passes and steps both say how long to train; give one"),
               blame_value(sweep, "steps", NULL, error);
    return 0;
}

/* The next trial from texts by key, NULL standing for the default. */
static int add_trial(struct sweep *sweep, char *const *values, struct error *error)
{
    struct trial_config *config = &sweep->trial[sweep->trials];
    for (int k = 0; k < TRIAL_KEYS; k++) {
        const char *text = values[k] ? values[k] : trial_keys[k].standard;
        if (set_trial_key(config, (enum trial_key)k, text, error) < 0)
            return blame_value(sweep, trial_keys[k].name, values[k], error);
    }
    if (head_init_check(config->spec.kind, config->init, error) < 0)
        return blame_value(sweep, "init", values[KEY_INIT], error);
    sweep->trials++;
    return 0;
}

/* How many trials the grid stands for; -1 with an error when there are too many. */
static int64_t grid_size(const struct sweep *sweep, const struct sweep_lists *grid, struct error *error)
{
    int64_t size = grid != NULL;
    for (int k = 0; grid && k < TRIAL_KEYS; k++) {
        size *= grid->key[k].item ? grid->key[k].count : 1;
        if (size > TRIALS_MAX)
            return error_set(error, "%s: line %d: the grid makes more than %d trials", sweep->name,
                             sweep_line(sweep->text, "grid", NULL, 1), TRIALS_MAX);
    }
    return size;
}

/* Trial `index` of the grid. The list of the last key runs fastest. */
static int add_grid_trial(struct sweep *sweep, const struct sweep_lists *grid, int64_t index,
                          struct error *error)
{
    char *values[TRIAL_KEYS] = {NULL};
    for (int k = TRIAL_KEYS - 1; k >= 0; k--) {
        if (!grid->key[k].item)
            continue;
        values[k] = grid->key[k].item[index % grid->key[k].count];
        index /= grid->key[k].count;
    }
    return add_trial(sweep, values, error);
}

static int read_trials(struct sweep *sweep, const struct sweep_document *document, struct error *error)
{
    const int64_t size = grid_size(sweep, document->grid, error);
    if (size < 0)
        return -1;
    if (size + document->trials == 0)
        return error_set(error, "%s: holds no trials; give `grid` or `trials`", sweep->name);
    if (array_alloc(&sweep->trial, size + document->trials, error) < 0)
        return -1;
    for (int64_t i = 0; i < size; i++) {
        if (add_grid_trial(sweep, document->grid, i, error) < 0)
            return -1;
    }
    for (unsigned i = 0; i < document->trials; i++) {
        if (add_trial(sweep, document->trial[i].value, error) < 0)
            return -1;
    }
    return 0;
}

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
        result = read_trials(sweep, document, error);
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

/* Everything that is not the default goes into the name; what tells trials apart most comes first. */
static int name_trial(struct trial_config *config, struct error *error)
{
    char extra[96] = "";
    const struct {
        enum trial_key key;
        double value;
    } numbers[] = {{KEY_WARMUP, (double)config->warmup}, {KEY_CLIP, config->clip},
                   {KEY_DECAY, config->decay},           {KEY_BETA1, config->beta1},
                   {KEY_BETA2, config->beta2},           {KEY_EPSILON, config->epsilon}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const struct sweep_key *key = &trial_keys[numbers[i].key];
        size_t used = strlen(extra);
        if (numbers[i].value != strtod(key->standard, NULL))
            snprintf(extra + used, sizeof extra - used, "-%s%g", key->name, numbers[i].value);
    }
    int length =
        snprintf(config->id, sizeof config->id, "%s-%s%s-%s-%s-%g%s", config->tap,
                 head_kind_name(config->spec.kind), config->spec.output == OUTPUT_UNTIED ? "-untied" : "",
                 head_init_name(config->init), trial_loss_name(config->loss), config->rate, extra);
    if (length < 0 || (size_t)length >= sizeof config->id)
        return error_set(error, "the name of a trial at tap %s is too long", config->tap);
    return 0;
}

static int resolve_trial(const struct sweep *sweep, struct trial_config *config,
                         const struct model_config *model, struct error *error)
{
    char written[TAP_NAME_SIZE];
    strcpy(written, config->tap);
    if (tap_parse(written, model->layers, &config->spec.tap, error) < 0 ||
        head_spec_check(&config->spec, model, error) < 0)
        return blame_value(sweep, "tap", written, error);
    tap_name(config->spec.tap, model->layers, config->tap);
    return name_trial(config, error);
}

int sweep_resolve(struct sweep *sweep, const struct model_config *model, struct error *error)
{
    for (int i = 0; i < sweep->trials; i++) {
        struct trial_config *config = &sweep->trial[i];
        if (resolve_trial(sweep, config, model, error) < 0)
            return -1;
        for (int j = 0; j < i; j++) {
            if (!strcmp(sweep->trial[j].id, config->id))
                return error_set(error, "%s: trial %s is given twice; leave one out, or change a setting of it",
                                 sweep->name, config->id);
        }
    }
    return 0;
}

void sweep_take_part(struct sweep *sweep, struct sweep_part part)
{
    int kept = 0;
    for (int i = 0; i < sweep->trials; i++) {
        if (part.count <= 1 || i % part.count == part.index)
            sweep->trial[kept++] = sweep->trial[i];
    }
    sweep->trials = kept;
}

int sweep_fit(struct sweep *sweep, uint64_t sequences, struct error *error)
{
    if ((uint64_t)sweep->sequences <= sequences)
        return 0;
    if (sweep_line(sweep->text, setting_keys[KEY_SEQUENCES].name, NULL, 1) ==
        0) { /* a default that is too many */
        sweep->sequences = sequences > 0 ? (int)sequences : 1;
        return 0;
    }
    return error_set(error, "%d per step are more than the %" PRIu64 " of the store's training split",
                     sweep->sequences, sequences),
           blame_value(sweep, setting_keys[KEY_SEQUENCES].name, NULL, error);
}

int64_t sweep_steps(const struct sweep *sweep, uint64_t sequences)
{
    if (sweep->steps >= 0)
        return sweep->steps;
    const int64_t steps = (int64_t)(sequences * (uint64_t)sweep->passes / (uint64_t)sweep->sequences);
    return steps > 0 ? steps : 1;
}

double trial_rate(const struct trial_config *config, int64_t step, int64_t steps)
{
    if (step <= config->warmup)
        return config->rate * (double)step / (double)config->warmup;
    const double done = (double)(step - config->warmup) / (double)(steps - config->warmup);
    return config->rate * (0.1 + 0.9 * 0.5 * (1 + cos(3.14159265358979323846 * done)));
}

json_t *trial_config_to_json(const struct trial_config *config, struct error *error)
{
    json_t *object = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:f, s:I, s:f, s:f, s:f, s:f, s:f}", "id", config->id, "tap",
        config->tap, "head", head_kind_name(config->spec.kind), "output", head_output_name(config->spec.output),
        "init", head_init_name(config->init), "loss", trial_loss_name(config->loss), "rate", config->rate,
        "warmup", (json_int_t)config->warmup, "clip", config->clip, "decay", config->decay, "beta1",
        config->beta1, "beta2", config->beta2, "epsilon", config->epsilon);
    if (!object)
        error_set_kind(error, ERROR_NO_MEMORY, "trial %s: out of memory", config->id);
    return object;
}
