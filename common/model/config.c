#include "common/model/config.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/model/family.h"

enum kind { INTEGER, NUMBER, SINGLE, FLAG };

/* Every scalar field, its limits and its name in JSON: one list for writing, reading and checking. */
static const struct field {
    const char *name;
    enum kind kind;
    size_t offset;
    double least, most; /* integers: exact */
} fields[] = {
#define FIELD(kind, name, least, most) NAMED(#name, kind, name, least, most)
#define NAMED(text, kind, name, least, most)                                                                   \
    {                                                                                                          \
        text, kind, offsetof(struct model_config, name), least, most                                           \
    }
    FIELD(INTEGER, layers, 1, 10000),
    FIELD(INTEGER, hidden, 1, 1 << 20),
    NAMED("heads", INTEGER, attention_heads, 1, 1 << 16),
    FIELD(INTEGER, kv_heads, 1, 1 << 16),
    FIELD(INTEGER, head_size, 2, HEAD_SIZE_MAX),
    FIELD(INTEGER, intermediate, 1, 1 << 24),
    FIELD(INTEGER, vocab, 1, 1 << 24),
    FIELD(INTEGER, context, 1, 1 << 30),
    FIELD(INTEGER, window, 0, 1 << 30),
    FIELD(INTEGER, window_layer, 0, 10000),
    FIELD(SINGLE, norm_epsilon, 0, 1),
    FIELD(FLAG, attention_bias, 0, 1),
    FIELD(FLAG, output_bias, 0, 1),
    FIELD(FLAG, mlp_bias, 0, 1),
    NAMED("head_norms", FLAG, qk_norms, 0, 1),
    FIELD(FLAG, tied, 0, 1),
    FIELD(NUMBER, rope_theta, 1, 1e15),
    FIELD(NUMBER, rope_factor, 0, 1e9),
    FIELD(NUMBER, rope_low, 0, 1e9),
    FIELD(NUMBER, rope_high, 0, 1e9),
    FIELD(INTEGER, rope_original, 0, 1 << 30),
    FIELD(INTEGER, eos, -1, 1 << 24),
#undef FIELD
#undef NAMED
};
enum { FIELD_COUNT = sizeof fields / sizeof *fields };

static const char *const pairs_names[] = {[ROPE_ADJACENT] = "adjacent", [ROPE_HALVES] = "halves"};
static const char *const scaling_names[] = {[ROPE_SCALING_NONE] = "none",
                                            [ROPE_SCALING_LINEAR] = "linear",
                                            [ROPE_SCALING_LLAMA3] = "llama3",
                                            [ROPE_SCALING_TABLE] = "table"};

static double field_get(const struct model_config *config, const struct field *field)
{
    const void *at = (const char *)config + field->offset;
    switch (field->kind) {
    case INTEGER: return *(const int *)at;
    case NUMBER: return *(const double *)at;
    case SINGLE: return (double)*(const float *)at;
    case FLAG: return *(const bool *)at;
    }
    return 0;
}

static void field_set(struct model_config *config, const struct field *field, double value)
{
    void *at = (char *)config + field->offset;
    switch (field->kind) {
    case INTEGER: *(int *)at = (int)value; break;
    case NUMBER: *(double *)at = value; break;
    case SINGLE: *(float *)at = (float)value; break;
    case FLAG: *(bool *)at = value != 0; break;
    }
}

/* ---- JSON ---- */

json_t *config_to_json(const struct model_config *config, struct error *error)
{
    json_t *object = json_object();
    int failed = json_object_set_new(object, "family", json_string(config->family));
    for (int i = 0; i < FIELD_COUNT; i++) {
        double value = field_get(config, &fields[i]);
        json_t *item = fields[i].kind == FLAG      ? json_boolean(value != 0)
                       : fields[i].kind == INTEGER ? json_integer((json_int_t)value)
                                                   : json_real(value);
        failed |= json_object_set_new(object, fields[i].name, item);
    }
    failed |= json_object_set_new(object, "rope_pairs", json_string(pairs_names[config->rope_pairs]));
    failed |= json_object_set_new(object, "rope_scaling", json_string(scaling_names[config->rope_scaling]));
    if (config->rope_scaling == ROPE_SCALING_TABLE) {
        json_t *divisors = json_array();
        for (int i = 0; i < config->head_size / 2; i++)
            failed |= json_array_append_new(divisors, json_real((double)config->rope_divisors[i]));
        failed |= json_object_set_new(object, "rope_divisors", divisors);
    }
    if (failed) {
        json_decref(object);
        error_set_kind(error, ERROR_NO_MEMORY,
                       "out of memory, or a number of the model's config is not finite");
        return NULL;
    }
    return object;
}

static int field_read(const char *name, const json_t *object, const struct field *field,
                      struct model_config *config, struct error *error)
{
    double value;
    if (field->kind == INTEGER) {
        int64_t integer;
        if (json_get_integer(name, object, field->name, (int64_t)field->least, (int64_t)field->most, &integer,
                             error) < 0)
            return -1;
        value = (double)integer;
    } else if (field->kind == FLAG) {
        json_t *flag = json_object_get(object, field->name);
        if (!json_is_boolean(flag))
            return error_set(error, "%s: \"%s\" is missing or not true or false", name, field->name);
        value = json_is_true(flag);
    } else if (json_get_number(name, object, field->name, &value, error) < 0) {
        return -1;
    }
    field_set(config, field, value);
    return 0;
}

/* The index of the string at `key` among `names`. */
static int choice_read(const char *name, const json_t *object, const char *key, const char *const *names,
                       int count, int *choice, struct error *error)
{
    const char *text;
    if (json_get_string(name, object, key, &text, error) < 0)
        return -1;
    for (int i = 0; i < count; i++) {
        if (strcmp(text, names[i]) == 0) {
            *choice = i;
            return 0;
        }
    }
    return error_set(error, "%s: \"%s\" is \"%.40s\", which is unknown", name, key, text);
}

static int divisors_read(const char *name, const json_t *object, struct model_config *config,
                         struct error *error)
{
    json_t *divisors = json_object_get(object, "rope_divisors");
    if (config->head_size < 2 || config->head_size > HEAD_SIZE_MAX ||
        json_array_size(divisors) != (size_t)(config->head_size / 2))
        return error_set(error, "%s: \"rope_divisors\" is not a list of head_size / 2 numbers", name);
    for (int i = 0; i < config->head_size / 2; i++) {
        json_t *divisor = json_array_get(divisors, (size_t)i);
        if (!json_is_number(divisor))
            return error_set(error, "%s: \"rope_divisors\" is not a list of head_size / 2 numbers", name);
        config->rope_divisors[i] = (float)json_number_value(divisor);
    }
    return 0;
}

int config_from_json(const char *name, const json_t *object, struct model_config *config, struct error *error)
{
    const char *family;
    int pairs = 0, scaling = 0;
    *config = (struct model_config){0};
    if (json_get_string(name, object, "family", &family, error) < 0)
        return -1;
    strncpy(config->family, family, sizeof config->family - 1);
    for (int i = 0; i < FIELD_COUNT; i++)
        if (field_read(name, object, &fields[i], config, error) < 0)
            return -1;
    if (choice_read(name, object, "rope_pairs", pairs_names, 2, &pairs, error) < 0 ||
        choice_read(name, object, "rope_scaling", scaling_names, 4, &scaling, error) < 0)
        return -1;
    config->rope_pairs = (enum rope_pairs)pairs;
    config->rope_scaling = (enum rope_scaling)scaling;
    if (config->rope_scaling == ROPE_SCALING_TABLE && divisors_read(name, object, config, error) < 0)
        return -1;
    return config_check(name, config, error);
}

/* ---- checks ---- */

static int check_scaling(const char *name, const struct model_config *config, struct error *error)
{
    switch (config->rope_scaling) {
    case ROPE_SCALING_NONE: return 0;
    case ROPE_SCALING_LINEAR:
        if (!(config->rope_factor > 0))
            return error_set(error, "%s: linear rope scaling by %g, which is not positive", name,
                             config->rope_factor);
        return 0;
    case ROPE_SCALING_LLAMA3:
        if (!(config->rope_factor > 0) || !(config->rope_low > 0) || !(config->rope_high > config->rope_low) ||
            config->rope_original < 1)
            return error_set(
                error,
                "%s: llama3 rope scaling with factor %g, low %g, high %g, original context %d (all "
                "must be positive, low below high)",
                name, config->rope_factor, config->rope_low, config->rope_high, config->rope_original);
        return 0;
    case ROPE_SCALING_TABLE:
        for (int i = 0; i < config->head_size / 2; i++)
            if (!isfinite(config->rope_divisors[i]) || !(config->rope_divisors[i] > 0))
                return error_set(error, "%s: rope divisor %d is %g", name, i, (double)config->rope_divisors[i]);
        return 0;
    }
    return error_set(error, "%s: unknown rope scaling %d", name, (int)config->rope_scaling);
}

int config_check(const char *name, const struct model_config *config, struct error *error)
{
    if (!family_find(config->family))
        return error_set(error, "%s: unknown family \"%s\"", name, config->family);
    for (int i = 0; i < FIELD_COUNT; i++) {
        double value = field_get(config, &fields[i]);
        if (!(value >= fields[i].least && value <= fields[i].most)) /* NaN too */
            return error_set(error, "%s: %s is %g, not in %g .. %g", name, fields[i].name, value,
                             fields[i].least, fields[i].most);
    }
    if (config->head_size % 2 != 0)
        return error_set(error, "%s: head_size is %d, which is odd", name, config->head_size);
    if (config->attention_heads % config->kv_heads != 0)
        return error_set(error, "%s: %d attention heads cannot share %d key heads evenly", name,
                         config->attention_heads, config->kv_heads);
    if (config->eos >= config->vocab)
        return error_set(error, "%s: the end-of-text id %d is outside the vocabulary of %d", name, config->eos,
                         config->vocab);
    return check_scaling(name, config, error);
}

/* ---- attention ---- */

int config_window(const struct model_config *config, int layer)
{
    return layer >= config->window_layer ? config->window : 0;
}

/* Angle per position of each pair i: theta^(-2i / D), scaled. */
static double rope_frequency(const struct model_config *config, int pair)
{
    const double turn = 2 * 3.14159265358979323846;
    double frequency = pow(config->rope_theta, -2.0 * pair / config->head_size);
    switch (config->rope_scaling) {
    case ROPE_SCALING_NONE: return frequency;
    case ROPE_SCALING_LINEAR: return frequency / config->rope_factor;
    case ROPE_SCALING_TABLE: return frequency / (double)config->rope_divisors[pair];
    case ROPE_SCALING_LLAMA3: break;
    }
    /* Waves that turn often within the original context stay, slow ones are divided, and between them
     * the two are mixed. */
    double turns = config->rope_original * frequency / turn;
    if (turns > config->rope_high)
        return frequency;
    if (turns < config->rope_low)
        return frequency / config->rope_factor;
    double share = (turns - config->rope_low) / (config->rope_high - config->rope_low);
    return (1 - share) * frequency / config->rope_factor + share * frequency;
}

void config_rope_table(const struct model_config *config, int positions, float *table)
{
    int half = config->head_size / 2;
    for (int pair = 0; pair < half; pair++) {
        double frequency = rope_frequency(config, pair);
        for (int position = 0; position < positions; position++) {
            float *row = table + (size_t)position * (size_t)config->head_size;
            row[pair] = (float)cos(position * frequency);
            row[half + pair] = (float)sin(position * frequency);
        }
    }
}
