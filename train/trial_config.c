#include "train/trial_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/hash.h"
#include "common/head/draft.h"

static const char *const loss_names[] = {
    [LOSS_CROSS_ENTROPY] = "cross-entropy", [LOSS_DISTILLATION] = "distillation", [LOSS_MIX] = "mix", NULL};

const char *trial_loss_name(enum trial_loss loss)
{
    return loss_names[loss];
}

static const char *const weighting_names[] = {
    [WEIGHTING_NONE] = "none", [WEIGHTING_CONFIDENCE] = "confidence", NULL};

static const char *const vocabulary_names[] = {
    [VOCABULARY_AUTO] = "auto", [VOCABULARY_SUBSET] = "subset", [VOCABULARY_ALL] = "all", NULL};

static const char *vocabulary_name(enum trial_vocabulary vocabulary)
{
    return vocabulary_names[vocabulary];
}

static const char *const layers_names[] = {"trained", "frozen", NULL};

/* Of a key whose value is one of a few words. */
static int set_word(struct trial_config *config, enum trial_key key, const char *text, struct error *error)
{
    static const char *const *const words[TRIAL_KEYS] = {[KEY_LAYERS] = layers_names,
                                                         [KEY_LOSS] = loss_names,
                                                         [KEY_WEIGHTING] = weighting_names,
                                                         [KEY_VOCABULARY] = vocabulary_names};
    int index;
    if (parse_word(text, words[key], &index, error) < 0)
        return -1;
    switch (key) {
    case KEY_LAYERS: config->spec.frozen = index == 1; break;
    case KEY_LOSS: config->loss = (enum trial_loss)index; break;
    case KEY_WEIGHTING: config->weighting = (enum trial_weighting)index; break;
    default:
        config->vocabulary = (enum trial_vocabulary)index;
        config->vocabulary_named = config->vocabulary != VOCABULARY_AUTO;
    }
    return 0;
}

/* What a tap looks like in any model, and taps of a draft, whose last one may be `final`; whether this model has it,
 * sweep_resolve finds out. */
static int set_tap(const char *text, char tap[TAPS_NAME_SIZE], struct error *error)
{
    const char *at = text;
    bool good = strlen(text) < TAPS_NAME_SIZE;
    for (; good; at++) {
        const size_t digits = strspn(at, "0123456789");
        const size_t mid = digits > 0 && !strncmp(at + digits, ".mid", 4) ? 4 : 0;
        const size_t length = digits > 0 ? digits + mid : !strcmp(at, "final") ? 5 : 0;
        good = length > 0 && length < TAP_NAME_SIZE && (!at[length] || at[length] == '+');
        at += length;
        if (!*at)
            break;
    }
    if (!good)
        return error_set(error, "\"%.40s\" is not a tap (such as 12, 12.mid or final)", text);
    strcpy(tap, text);
    return 0;
}

static int set_int(const struct sweep_key *key, const char *text, int *value, struct error *error)
{
    int64_t whole;
    if (sweep_key_whole(key, text, &whole, error) < 0)
        return -1;
    *value = (int)whole;
    return 0;
}

static int set_to(const char *text, int *to, struct error *error)
{
    int64_t value = -1;
    if (*text && parse_integer(text, 0, 1 << 16, &value, error) < 0)
        return error_set(error, "\"%.40s\" is not a tap after a layer (such as 28)", text);
    *to = (int)value;
    return 0;
}

int trial_config_set(struct trial_config *config, enum trial_key key, const char *text, struct error *error)
{
    const struct sweep_key *row = &trial_keys[key];
    switch (key) {
    case KEY_TAP: return set_tap(text, config->tap, error);
    case KEY_HEAD: return (config->spec.kind = head_kind_find(text, error)) ? 0 : -1;
    case KEY_RANK: return set_int(row, text, &config->spec.rank, error);
    case KEY_TO: return set_to(text, &config->spec.to, error);
    case KEY_OUTPUT: return head_output_find(text, &config->spec.output, error);
    case KEY_INIT: return head_init_find(text, &config->init, error);
    case KEY_SHARE: return sweep_key_number(row, text, &config->share, error);
    case KEY_TEMPERATURE: return sweep_key_number(row, text, &config->temperature, error);
    case KEY_LAYERS:
    case KEY_LOSS:
    case KEY_WEIGHTING:
    case KEY_VOCABULARY: return set_word(config, key, text, error);
    case KEY_DRAFT_VOCAB: return set_int(row, text, &config->draft_vocab, error);
    case KEY_UNROLL: return set_int(row, text, &config->unroll, error);
    case KEY_UNROLL_DECAY: return sweep_key_number(row, text, &config->unroll_decay, error);
    case KEY_RATE: return sweep_key_number(row, text, &config->rate, error);
    case KEY_WARMUP: return sweep_key_whole(row, text, &config->warmup, error);
    case KEY_CLIP: return sweep_key_number(row, text, &config->clip, error);
    case KEY_DECAY: return sweep_key_number(row, text, &config->decay, error);
    case KEY_BETA1: return sweep_key_number(row, text, &config->beta1, error);
    case KEY_BETA2: return sweep_key_number(row, text, &config->beta2, error);
    case KEY_EPSILON: return sweep_key_number(row, text, &config->epsilon, error);
    }
    return -1;
}

static double standard_of(enum trial_key key)
{
    return strtod(trial_keys[key].standard, NULL);
}

/* Whether a number is not its key's default. */
static bool is_changed(enum trial_key key, double value)
{
    return value != standard_of(key);
}

/* Whether a key that only drafts have says something of another head. */
static bool is_of_no_draft(const struct trial_config *config, enum trial_key *key)
{
    const struct {
        enum trial_key key;
        double value;
    } own[] = {{KEY_DRAFT_VOCAB, config->draft_vocab},
               {KEY_UNROLL, config->unroll},
               {KEY_UNROLL_DECAY, config->unroll_decay}};
    for (size_t i = 0; i < sizeof own / sizeof own[0] && !head_kind_is_draft(config->spec.kind); i++) {
        *key = own[i].key;
        if (is_changed(own[i].key, own[i].value))
            return true;
    }
    return false;
}

int trial_config_check_keys(const struct trial_config *config, enum trial_key *key, struct error *error)
{
    if (is_of_no_draft(config, key))
        return error_set(
            error,
            "it is a draft's, and this trial's head is %s; leave it out, or give drafts a section of "
            "their own",
            head_kind_name(config->spec.kind));
    if (config->loss != LOSS_MIX && is_changed(KEY_SHARE, config->share))
        return *key = KEY_SHARE,
               error_set(error,
                         "it is the share of cross-entropy in `loss: mix`, and this trial's loss is "
                         "%s; leave it out, or give such trials a section of their own",
                         trial_loss_name(config->loss));
    if (config->loss == LOSS_CROSS_ENTROPY && is_changed(KEY_TEMPERATURE, config->temperature))
        return *key = KEY_TEMPERATURE,
               error_set(error,
                         "it is that of distillation, and this trial's loss is cross-entropy alone; leave it "
                         "out, or give such trials a section of their own");
    return 0;
}

bool trial_config_takes_final(const struct trial_config *config)
{
    return config->loss != LOSS_CROSS_ENTROPY &&
           (config->spec.output == OUTPUT_UNTIED || is_changed(KEY_TEMPERATURE, config->temperature));
}

bool trial_config_same_loss(const struct trial_config *config, const struct trial_config *other)
{
    return config->loss == other->loss && config->share == other->share &&
           config->temperature == other->temperature && config->weighting == other->weighting;
}

/* Everything that is not the default goes into the name; what tells trials apart most comes first. */
int trial_config_name(struct trial_config *config, struct error *error)
{
    char extra[128] = "";
    snprintf(extra, sizeof extra, "%s%s%s%s", config->weighting == WEIGHTING_NONE ? "" : "-",
             config->weighting == WEIGHTING_NONE ? "" : weighting_names[config->weighting],
             config->vocabulary_named ? "-" : "",
             config->vocabulary_named ? vocabulary_name(config->vocabulary) : "");
    const bool draft = head_kind_is_draft(config->spec.kind);
    const struct {
        enum trial_key key;
        double value;
    } numbers[] = {{KEY_DRAFT_VOCAB, draft ? config->draft_vocab : standard_of(KEY_DRAFT_VOCAB)},
                   {KEY_UNROLL, draft ? config->unroll : standard_of(KEY_UNROLL)},
                   {KEY_UNROLL_DECAY, draft ? config->unroll_decay : standard_of(KEY_UNROLL_DECAY)},
                   {KEY_SHARE, config->share},
                   {KEY_TEMPERATURE, config->temperature},
                   {KEY_WARMUP, (double)config->warmup},
                   {KEY_CLIP, config->clip},
                   {KEY_DECAY, config->decay},
                   {KEY_BETA1, config->beta1},
                   {KEY_BETA2, config->beta2},
                   {KEY_EPSILON, config->epsilon}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const struct sweep_key *key = &trial_keys[numbers[i].key];
        size_t used = strlen(extra);
        if (is_changed(numbers[i].key, numbers[i].value))
            snprintf(extra + used, sizeof extra - used, "-%s%g", key->name, numbers[i].value);
    }
    char kind[64] = "";
    snprintf(kind, sizeof kind, "%s", head_kind_name(config->spec.kind));
    if (config->to_named)
        snprintf(kind + strlen(kind), sizeof kind - strlen(kind), "-to%d", config->spec.to);
    if (config->spec.rank > 0)
        snprintf(kind + strlen(kind), sizeof kind - strlen(kind), "-rank%d", config->spec.rank);
    int length =
        snprintf(config->id, sizeof config->id, "%s-%s%s%s-%s-%s-%g%s", config->tap, kind,
                 config->spec.frozen ? "-frozen" : "", config->spec.output == OUTPUT_UNTIED ? "-untied" : "",
                 head_init_name(config->init), trial_loss_name(config->loss), config->rate, extra);
    if (length < 0 || (size_t)length >= sizeof config->id)
        return error_set(error, "the name of a trial at tap %s is too long", config->tap);
    return 0;
}

int trial_config_blame(const struct trial_config *config, const char *name, enum trial_key key,
                       struct error *error)
{
    const int line = config->line.key[key] ? config->line.key[key] : config->line.trial;
    return name ? error_prefix(error, "%s: line %d: %s", name, line, trial_keys[key].name)
                : error_prefix(error, "--%s", trial_keys[key].name);
}

static uint64_t hash_id(const char *id)
{
    return hash_bytes(id, strlen(id), 0);
}

int trial_configs_add(const struct trial_config *configs, struct hash_index *names, int entry,
                      struct error *error)
{
    return hash_index_put(names, hash_id(configs[entry].id), (uint32_t)entry, error);
}

int trial_configs_find(const struct trial_config *configs, const struct hash_index *names, const char *id)
{
    struct hash_probe probe = {.key = hash_id(id)};
    for (uint32_t i; (i = hash_index_next(names, &probe)) != HASH_INDEX_END;) {
        if (!strcmp(configs[i].id, id))
            return (int)i;
    }
    return -1;
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
        "{s:s, s:s, s:s, s:i, s:i, s:s, s:s, s:s, s:s, s:f, s:f, s:s, s:s, s:f, s:I, s:f, s:f, s:f, s:f, s:f}",
        "id", config->id, "tap", config->tap, "head", head_kind_name(config->spec.kind), "rank",
        config->spec.rank, "to", config->spec.to, "layers", layers_names[config->spec.frozen], "output",
        head_output_name(config->spec.output), "init", head_init_name(config->init), "loss",
        trial_loss_name(config->loss), "share", config->share, "temperature", config->temperature, "weighting",
        weighting_names[config->weighting], "vocabulary", vocabulary_name(config->vocabulary), "rate",
        config->rate, "warmup", (json_int_t)config->warmup, "clip", config->clip, "decay", config->decay,
        "beta1", config->beta1, "beta2", config->beta2, "epsilon", config->epsilon);
    if (object && head_kind_is_draft(config->spec.kind) &&
        (json_object_set_new(object, "draft_vocab", json_integer(config->draft_vocab)) < 0 ||
         json_object_set_new(object, "unroll", json_integer(config->unroll)) < 0 ||
         json_object_set_new(object, "unroll_decay", json_real(config->unroll_decay)) < 0)) {
        json_decref(object);
        object = NULL;
    }
    if (!object)
        error_set_kind(error, ERROR_NO_MEMORY, "trial %s: out of memory", config->id);
    return object;
}

bool trial_config_is_default(const char *key, const json_t *value)
{
    for (int k = 0; k < TRIAL_KEYS; k++) {
        const char *standard = trial_keys[k].standard;
        if (standard && !strcmp(trial_keys[k].name, key))
            return json_is_number(value) ? json_number_value(value) == strtod(standard, NULL)
                                         : !strcmp(json_string_value(value), standard);
    }
    return false;
}
