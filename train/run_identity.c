#include "train/run_identity.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/device/device.h"

/* The stores by what their manifest says of the states in them. That is the same in however many shards they
 * are. */
static json_t *store_identity(const struct stores *stores)
{
    char text[17] = "";
    struct error ignored; /* NULL says it: memory is out */
    json_t *manifest = json_copy((json_t *)(uintptr_t)shards_manifest(stores->shards));
    json_object_del(manifest, "shard");
    json_object_del(manifest, "command");
    char *dump = json_text("the store's manifest", manifest, JSON_SORT_KEYS | JSON_COMPACT, &ignored);
    json_decref(manifest);
    if (dump)
        hash_print(hash_bytes(dump, strlen(dump), 0), text);
    free(dump);
    return *text ? json_string(text) : NULL;
}

/* A run that was begun before there was such a setting has it as 0. */
static int fix_setting(struct run_folder *run, const char *name, int value, struct error *error)
{
    if (json_object_get(run->facts, "steps") && !json_object_get(run->facts, name) &&
        run_folder_note(run, name, json_integer(0), error) < 0)
        return -1;
    return run_folder_fix(run, name, json_integer(value), error);
}

/* A run that was begun before there were samples has the whole split. */
static int check_sample(struct run_folder *run, const struct stores *stores, struct sweep *sweep,
                        struct error *error)
{
    const int64_t split = (int64_t)stores->sequences[SPLIT_HELD_OUT];
    const json_t *before = json_object_get(run->facts, "sample");
    if (!before && json_object_get(run->facts, "steps"))
        sweep->sample = split;
    else if (sweep->sample < 0 && before)
        sweep->sample = json_integer_value(before);
    else
        sweep->sample = sweep_sample(sweep, split, stores->rows);
    return run_folder_fix(run, "sample", json_integer(sweep->sample), error);
}

int run_identity_check(struct run_folder *run, const struct stores *stores, struct sweep *sweep,
                       struct error *error)
{
    const struct {
        const char *name;
        json_t *value;
    } facts[] = {
        {"version", json_integer(1)},
        {"model", json_string(stores->fingerprint)},
        {"store", store_identity(stores)},
        {"training_sequences", json_integer((json_int_t)stores->sequences[SPLIT_TRAIN])},
        {"held_out_sequences", json_integer((json_int_t)stores->sequences[SPLIT_HELD_OUT])},
        {"rows", json_integer(stores->rows)},
        {"vocabulary", json_integer(stores->config.vocab)},
        {"seed", json_integer((json_int_t)sweep->seed)},
        {"sequences", json_integer(sweep->sequences)},
    };
    int result = 0;
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        if (result < 0) {
            json_decref(facts[i].value);
            continue;
        }
        result = run_folder_fix(run, facts[i].name, facts[i].value, error);
        if (result < 0 && strcmp(facts[i].name, "store") == 0)
            error_prefix(error, "this is another store: its taps, codecs, text or numerics differ");
    }
    if (result < 0 || check_sample(run, stores, sweep, error) < 0 ||
        fix_setting(run, "halving", sweep->halving, error) < 0)
        return -1;
    if (fix_setting(run, "patience", sweep->patience, error) < 0)
        return -1;
    /* Patience counts evaluations; without it they change nothing but which head is kept, and may be other ones. */
    return sweep->patience == 0 ? 0 : run_folder_fix(run, "evaluate", json_integer(sweep->evaluate), error);
}

/* ---- the vocabulary ---- */

/* *whole counts those that were begun before there were subsets. */
static int keep_trial_vocabulary(const struct run_folder *run, struct trial_config *config, int *whole,
                                 struct error *error)
{
    char *path = run_folder_trial_path(run, config->id, "config.json", error);
    if (!path)
        return -1;
    struct error ignored; /* resume.c refuses what cannot be read */
    json_t *kept = file_exists(path) ? json_read(path, &ignored) : NULL;
    const char *before = json_string_value(json_object_get(kept, "vocabulary"));
    if (kept && !before) {
        *whole += config->vocabulary == VOCABULARY_SUBSET;
        config->vocabulary = VOCABULARY_ALL;
    } else if (before && config->vocabulary_auto)
        config->vocabulary = strcmp(before, "subset") == 0 ? VOCABULARY_SUBSET : VOCABULARY_ALL;
    json_decref(kept);
    free(path);
    return 0;
}

int run_identity_keep_vocabulary(const struct run_folder *run, struct sweep *sweep, struct error *error)
{
    int whole = 0;
    for (int i = 0; i < sweep->trials; i++) {
        if (keep_trial_vocabulary(run, &sweep->trial[i], &whole, error) < 0)
            return -1;
    }
    if (whole > 0)
        cli_say("%d trial%s begun with the whole vocabulary, and keep%s it", whole,
                whole == 1 ? " was" : "s were", whole == 1 ? "s" : "");
    return 0;
}

/* ---- steps ---- */

int run_identity_check_steps(struct run_folder *run, int64_t steps, bool *more, struct error *error)
{
    const json_int_t before = json_integer_value(json_object_get(run->facts, "steps"));
    json_t *list = json_object_get(run->facts, "steps_before");
    *more = run_is_whole(run) && json_object_get(run->facts, "steps") && steps > before;
    if (!*more)
        return run_folder_fix(run, "steps", json_integer(steps), error);
    cli_say("the run was begun with %" JSON_INTEGER_FORMAT " steps and goes on to %" PRId64
            ". Trials that are done go on from their kept heads, with a new optimizer state. The rates are "
            "those of %" PRId64
            " steps from here on. So the run does not end as one that was begun with %" PRId64,
            before, steps, steps, steps);
    if (!json_is_array(list)) {
        list = json_array();
        if (run_folder_note(run, "steps_before", list, error) < 0)
            return -1;
    }
    if (json_array_append_new(list, json_integer(before)) < 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    return run_folder_note(run, "steps", json_integer(steps), error);
}

bool run_identity_ends_at(const struct run_folder *run, int64_t step)
{
    const json_t *list = json_object_get(run->facts, "steps_before");
    bool ends = json_integer_value(json_object_get(run->facts, "steps")) == step;
    for (size_t i = 0; i < json_array_size(list) && !ends; i++)
        ends = json_integer_value(json_array_get(list, i)) == step;
    return ends;
}

/* ---- the device ---- */

/* The mode of the products, which is a device's own unless it is asked for. */
static int check_math(struct run_folder *run, const struct backend *backend, struct error *error)
{
    const char *name = math_names()[backend_math(backend) - MATH_F32];
    return run_folder_fix(run, "math", json_string(name), error);
}

/* The backends the run has used so far; more than one may mean other bytes than an uninterrupted run's. */
static int note_numerics(struct run_folder *run, const struct backend *backend, struct error *error)
{
    const char *identity = backend_identity(backend);
    json_t *list = run_folder_noted(run, "numerics");
    if (!json_is_array(list)) {
        list = json_array();
        if (run_folder_note(run, "numerics", list, error) < 0)
            return -1;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *before = json_string_value(json_array_get(list, i));
        if (before && !strcmp(before, identity))
            return 0;
    }
    if (json_array_size(list) > 0)
        cli_say("warning: the run was begun on \"%s\" and now goes on on \"%s\". Its heads may differ in the "
                "last digits from those of a run that was not interrupted",
                json_string_value(json_array_get(list, 0)), identity);
    return json_array_append_new(list, json_string(identity)) < 0
               ? error_set_kind(error, ERROR_NO_MEMORY, "out of memory")
               : 0;
}

int run_identity_check_device(struct run_folder *run, const struct backend *backend, struct error *error)
{
    return check_math(run, backend, error) < 0 ? -1 : note_numerics(run, backend, error);
}
