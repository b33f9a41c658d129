#include "train/sweep_trials.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "train/sweep_draw.h"

#define TRIALS_MAX   10000
#define FAULTS_TOLD  20 /* of a file, but for the last one */
#define ATTEMPTS_MAX 100 /* a trial of a section, and as many more, to draw one that is not there */

/* The trials so far, and what they are made from. */
struct reading {
    const struct sweep_document *document;
    const char *name; /* of the file, for errors */
    struct sweep_scalar standard[TRIAL_KEYS]; /* `defaults` */
    struct trial_config *trial; /* [trials], of room */
    int trials;
    struct hash_index names; /* once random trials are drawn */
};

static const struct sweep_section *get_section(const struct reading *reading, enum section_kind kind, int index)
{
    return &reading->document->kind[kind].section[index];
}

static int count_sections(const struct reading *reading, enum section_kind kind)
{
    return reading->document->kind[kind].sections;
}

/* ---- one trial ---- */

/* The next trial from scalars by key; where a text is NULL, the default counts. It is not counted yet. */
static int make_trial(struct reading *reading, const struct sweep_scalar *values, int line, struct error *error)
{
    struct trial_config *config = &reading->trial[reading->trials];
    *config = (struct trial_config){.line.trial = line};
    for (int k = 0; k < TRIAL_KEYS; k++) {
        const struct sweep_scalar *value = values[k].text ? &values[k] : &reading->standard[k];
        const char *text = value->text ? value->text : trial_keys[k].standard;
        config->line.key[k] = value->text ? value->line : 0;
        if (!text)
            return error_set(error, "%s: line %d: \"%s\" is missing; give it here or in `defaults`",
                             reading->document->name, line, trial_keys[k].name);
        if (trial_config_set(config, (enum trial_key)k, text, error) < 0)
            return trial_config_blame(config, reading->name, (enum trial_key)k, error);
    }
    if (head_init_check(config->spec.kind, config->init, error) < 0)
        return trial_config_blame(config, reading->name, KEY_INIT, error);
    enum trial_key wrong;
    if (trial_config_check_keys(config, &wrong, error) < 0)
        return trial_config_blame(config, reading->name, wrong, error);
    return 0;
}

/* ---- every value of a section ---- */

static int check_value(const struct reading *reading, enum trial_key key, struct sweep_scalar value,
                       struct error *error)
{
    struct trial_config config = {0};
    config.line.key[key] = value.line;
    return trial_config_set(&config, key, value.text, error) < 0
               ? trial_config_blame(&config, reading->name, key, error)
               : 0;
}

/* What is wrong with a file's values: all that is found but the last is said on stderr, and the last is the error. */
struct faults {
    int count;
    struct error last;
};

/* Returns -1 where the machine is at fault. */
static int add_fault(struct faults *faults, const struct error *error)
{
    if (error_is_machines(error))
        return -1;
    if (faults->count > 0 && faults->count < FAULTS_TOLD)
        cli_say("%s", faults->last.text);
    faults->last = *error;
    faults->count++;
    return 0;
}

static int check_section(const struct reading *reading, const struct sweep_section *section,
                         struct faults *faults, struct error *error)
{
    for (int k = 0; k < TRIAL_KEYS; k++) {
        const struct sweep_values *values = &section->key[k];
        if (sweep_draw_check(reading->document, (enum trial_key)k, values, error) < 0) {
            if (add_fault(faults, error) < 0)
                return -1;
            continue;
        }
        for (int i = 0; i < values->count; i++) {
            const struct sweep_scalar value = sweep_document_item(reading->document, values, i);
            if (check_value(reading, (enum trial_key)k, value, error) < 0 && add_fault(faults, error) < 0)
                return -1;
        }
    }
    return 0;
}

static int check_sections(const struct reading *reading, struct error *error)
{
    struct faults faults = {0};
    for (int kind = 0; kind < SECTION_KINDS; kind++) {
        for (int i = 0; i < count_sections(reading, (enum section_kind)kind); i++) {
            if (check_section(reading, get_section(reading, (enum section_kind)kind, i), &faults, error) < 0)
                return -1;
        }
    }
    if (faults.count == 0)
        return 0;
    *error = faults.last;
    return -1;
}

/* ---- how many ---- */

/* Combinations of a section's values, at most TRIALS_MAX + 1. */
static int count_combinations(const struct sweep_section *section)
{
    int64_t count = 1;
    for (int k = 0; k < TRIAL_KEYS && count <= TRIALS_MAX; k++)
        count *= section->key[k].count ? section->key[k].count : 1;
    return count > TRIALS_MAX ? TRIALS_MAX + 1 : (int)count;
}

static int read_count(const struct reading *reading, const struct sweep_section *section, int *count,
                      struct error *error)
{
    int64_t value;
    if (parse_integer(section->count.text, 1, TRIALS_MAX, &value, error) < 0)
        return error_prefix(error, "%s: line %d: count", reading->document->name, section->count.line);
    *count = (int)value;
    return 0;
}

/* Adds to *total. */
static int count_kind(const struct reading *reading, enum section_kind kind, int *total, struct error *error)
{
    for (int i = 0; i < count_sections(reading, kind); i++) {
        const struct sweep_section *section = get_section(reading, kind, i);
        int count = kind == SECTION_GRID ? count_combinations(section) : 1;
        if (kind == SECTION_RANDOM && read_count(reading, section, &count, error) < 0)
            return -1;
        *total += count;
        if (*total > TRIALS_MAX)
            return error_set(error, "%s: line %d: the sweep has more than %d trials", reading->document->name,
                             section->line, TRIALS_MAX);
    }
    return 0;
}

/* ---- sections ---- */

/* Every combination; the list of the last key runs fastest. */
static int read_grid(struct reading *reading, const struct sweep_section *grid, struct error *error)
{
    const int count = count_combinations(grid);
    for (int i = 0; i < count; i++) {
        struct sweep_scalar values[TRIAL_KEYS] = {0};
        for (int k = TRIAL_KEYS - 1, left = i; k >= 0; k--) {
            if (grid->key[k].count == 0)
                continue;
            values[k] = sweep_document_item(reading->document, &grid->key[k], left % grid->key[k].count);
            left /= grid->key[k].count;
        }
        if (make_trial(reading, values, grid->line, error) < 0)
            return -1;
        reading->trials++;
    }
    return 0;
}

static int read_trial(struct reading *reading, const struct sweep_section *trial, struct error *error)
{
    struct sweep_scalar values[TRIAL_KEYS] = {0};
    for (int k = 0; k < TRIAL_KEYS; k++) {
        if (trial->key[k].count)
            values[k] = sweep_document_item(reading->document, &trial->key[k], 0);
    }
    if (make_trial(reading, values, trial->line, error) < 0)
        return -1;
    reading->trials++;
    return 0;
}

static int draw_trial(struct reading *reading, const struct sweep_section *section,
                      const struct sweep_draw *draw, struct error *error)
{
    struct sweep_scalar values[TRIAL_KEYS] = {0};
    char room[TRIAL_KEYS][SWEEP_DRAW_SIZE];
    for (int k = 0; k < TRIAL_KEYS; k++) {
        if (section->key[k].count)
            values[k] = sweep_draw_value(reading->document, (enum trial_key)k, &section->key[k], draw, room[k]);
    }
    if (make_trial(reading, values, section->line, error) < 0)
        return -1;
    return trial_config_name(&reading->trial[reading->trials], error);
}

static int read_seed(const struct reading *reading, const struct sweep_section *section, uint64_t *seed,
                     struct error *error)
{
    int64_t value;
    if (!section->seed.text)
        return 0;
    if (sweep_key_whole(&setting_keys[KEY_SEED], section->seed.text, &value, error) < 0)
        return error_prefix(error, "%s: line %d: seed", reading->document->name, section->seed.line);
    *seed = (uint64_t)value;
    return 0;
}

/* `count` trials that differ from all before them: one that was there is drawn again. */
static int read_random(struct reading *reading, const struct sweep_section *section, uint64_t seed,
                       struct error *error)
{
    int count = 0, attempts = 0;
    if (read_count(reading, section, &count, error) < 0 || read_seed(reading, section, &seed, error) < 0)
        return -1;
    struct sweep_draw draw = {.seed = seed};
    while (draw.number < count) {
        if (draw_trial(reading, section, &draw, error) < 0)
            return -1;
        const char *id = reading->trial[reading->trials].id;
        if (trial_configs_find(reading->trial, &reading->names, id) < 0) {
            if (trial_configs_add(reading->trial, &reading->names, reading->trials, error) < 0)
                return -1;
            reading->trials++;
            draw.number++;
            draw.attempt = 0;
            continue;
        }
        draw.attempt++;
        if (++attempts > ATTEMPTS_MAX * (count + 10))
            return error_set(error,
                             "%s: line %d: count: only %" PRId64
                             " trial%s found that are not there already; ask for fewer, or give more values",
                             reading->document->name, section->count.line, draw.number,
                             draw.number == 1 ? " was" : "s were");
    }
    return 0;
}

/* Names the trials that random ones must differ from. */
static int enter_names(struct reading *reading, struct error *error)
{
    for (int i = 0; i < reading->trials; i++) {
        if (trial_config_name(&reading->trial[i], error) < 0 ||
            trial_configs_add(reading->trial, &reading->names, i, error) < 0)
            return -1;
    }
    return 0;
}

static int read_all(struct reading *reading, uint64_t seed, struct error *error)
{
    for (int i = 0; i < count_sections(reading, SECTION_GRID); i++) {
        if (read_grid(reading, get_section(reading, SECTION_GRID, i), error) < 0)
            return -1;
    }
    for (int i = 0; i < count_sections(reading, SECTION_TRIALS); i++) {
        if (read_trial(reading, get_section(reading, SECTION_TRIALS, i), error) < 0)
            return -1;
    }
    if (count_sections(reading, SECTION_RANDOM) && enter_names(reading, error) < 0)
        return -1;
    for (int i = 0; i < count_sections(reading, SECTION_RANDOM); i++) {
        if (read_random(reading, get_section(reading, SECTION_RANDOM, i), seed, error) < 0)
            return -1;
    }
    return 0;
}

static void read_defaults(struct reading *reading)
{
    for (int k = 0; k < TRIAL_KEYS && count_sections(reading, SECTION_DEFAULTS); k++) {
        const struct sweep_values *values = &get_section(reading, SECTION_DEFAULTS, 0)->key[k];
        if (values->count)
            reading->standard[k] = sweep_document_item(reading->document, values, 0);
    }
}

int sweep_trials_read(const struct sweep_document *document, const char *name, uint64_t seed,
                      struct trial_config **trials, int *count, struct error *error)
{
    struct reading reading = {.document = document, .name = name};
    int total = 0;
    *trials = NULL;
    *count = 0;
    if (count_kind(&reading, SECTION_GRID, &total, error) < 0 ||
        count_kind(&reading, SECTION_TRIALS, &total, error) < 0 ||
        count_kind(&reading, SECTION_RANDOM, &total, error) < 0 || check_sections(&reading, error) < 0)
        return -1;
    if (total == 0)
        return error_set(error, "%s: holds no trials; give `grid`, `random` or `trials`", document->name);
    if (array_alloc(&reading.trial, total, error) < 0)
        return -1;
    read_defaults(&reading);
    int result = read_all(&reading, seed, error);
    hash_index_free(&reading.names);
    if (result < 0) {
        free(reading.trial);
        return -1;
    }
    *trials = reading.trial;
    *count = reading.trials;
    return 0;
}
