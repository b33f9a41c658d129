/* cache repair: makes a damaged store whole again, from what of it is right and the model it was made from. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/commands.h"
#include "cache/recompute.h"
#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/base/option.h"
#include "common/device/options.h"
#include "common/head/source.h"
#include "common/repair/salvage.h"
#include "common/repair/verify.h"

struct repair_command {
    const char *path, *model, *device;
    int threads;
    bool allow_numerics;
};

/* A problem that is not a record's. */
struct damaged_value {
    enum verify_kind kind;
    struct sequence sequence;
    int tap;
};

struct repair {
    const struct repair_command *command;
    struct damaged_record *records; /* [record_count] */
    size_t record_count, record_capacity;
    struct damaged_value *values; /* [value_count] */
    size_t value_count, value_capacity;
    bool structure;
    bool rebuilt; /* the structure */
    bool last; /* what is found now stays damaged, and is printed */
    struct error error; /* of a callback that returns nothing */
    bool failed;
    struct store *store;
    struct model *model;
};

enum { OPTION_MODEL = 256, OPTION_DEVICE, OPTION_ALLOW_NUMERICS };

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct repair_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &command->threads; return 0;
    case OPTION_MODEL: command->model = text; return 0;
    case OPTION_DEVICE:
        command->device = device_names()[option_word(state, "device", text, device_names())];
        return 0;
    case OPTION_ALLOW_NUMERICS: command->allow_numerics = true; return 0;
    case ARGP_KEY_END:
        if (!command->model)
            argp_error(state, "--model is missing: the model that the store was made from");
        return 0;
    default: return cache_take_store(&command->path, key, text, state);
    }
}

/* ---- what is damaged ---- */

static int keep_problem(struct repair *repair, const struct verify_problem *problem)
{
    if (problem->kind == VERIFY_RECORD) {
        if (array_grow(&repair->records, &repair->record_capacity, repair->record_count + 1, &repair->error) <
            0)
            return -1;
        repair->records[repair->record_count++] = (struct damaged_record){problem->sequence, problem->tap};
        return 0;
    }
    if (array_grow(&repair->values, &repair->value_capacity, repair->value_count + 1, &repair->error) < 0)
        return -1;
    repair->values[repair->value_count++] =
        (struct damaged_value){problem->kind, problem->sequence, problem->tap};
    repair->structure = repair->structure || problem->kind == VERIFY_STRUCTURE;
    return 0;
}

static void take_problem(void *context, const struct verify_problem *problem)
{
    struct repair *repair = context;
    repair->failed = repair->failed || keep_problem(repair, problem) < 0;
    if (repair->last && problem->kind != VERIFY_RECORD)
        printf("%s%s\n", problem->text,
               problem->kind == VERIFY_TOKENS ? ": only the corpus has these tokens: extract into another store"
                                              : "");
}

static int find_damage(struct repair *repair, struct error *error)
{
    const struct verify_options options = {.report = take_problem, .context = repair};
    struct verify_result result;
    repair->record_count = repair->value_count = 0;
    repair->structure = false;
    if (store_verify(repair->command->path, &options, &result, error) < 0)
        return -1;
    if (repair->failed)
        *error = repair->error;
    return repair->failed ? -1 : 0;
}

/* ---- structure ---- */

static int rebuild(struct repair *repair, struct error *error)
{
    const char *path = repair->command->path;
    struct salvage_report report;
    if (store_salvage(path, &report, error) < 0)
        return -1;
    printf("%s: the structure was damaged, and was built anew from the values that are right\n", path);
    if (report.older)
        printf("%s: its last commit is lost; if it was not finished, extract goes on from the one before\n",
               path);
    repair->rebuilt = true;
    return find_damage(repair, error);
}

/* Finds what is damaged. A damaged structure may hide more, so it is built anew and all is looked at again. */
static int see_to_structure(struct repair *repair, struct error *error)
{
    const char *path = repair->command->path;
    if (!store_exists(path))
        return error_set(error, "%s: there is no store here", path);
    const int result = find_damage(repair, error);
    if (cli_interrupted() || repair->failed || (result == 0 && !repair->structure))
        return result;
    return rebuild(repair, error);
}

/* ---- the model that made the store ---- */

static int check_model(const struct repair *repair, struct error *error)
{
    const json_t *stored = json_object_get(store_manifest(repair->store), "model");
    const char *wanted = json_string_value(json_object_get(stored, "fingerprint"));
    char fingerprint[17];
    if (model_fingerprint(repair->model, fingerprint, error) < 0)
        return -1;
    if (wanted && strcmp(wanted, fingerprint) == 0)
        return 0;
    return error_set_kind(error, ERROR_USAGE,
                          "--model: %s has the fingerprint %s; the store was made from a model with %s",
                          repair->command->model, fingerprint, wanted ? wanted : "none");
}

/* ---- what is not a record ---- */

/* Returns 1 when the value is right now. */
static int mend_value(struct repair *repair, const struct damaged_value *value, bool *sources,
                      struct error *error)
{
    bool mended = false;
    switch (value->kind) {
    case VERIFY_TOKENS:
        if (repair_tokens(repair->store, value->sequence, &mended, error) < 0)
            return -1;
        if (mended)
            printf("tokens of %s sequence %" PRIu64 ": one bit was flipped, and was mended\n",
                   split_name(value->sequence.split), value->sequence.index);
        return mended;
    case VERIFY_PARAMETERS:
        if (repair_parameters(repair->store, value->tap, &mended, error) < 0)
            return -1;
        if (mended)
            printf("parameters of a codec: were restored from their copy\n");
        return mended;
    case VERIFY_SOURCE: *sources = true; return 0;
    default: return 0;
    }
}

/* *mended: whether anything was put. */
static int mend_values(struct repair *repair, bool *mended, struct error *error)
{
    /* Only the model says whether a whole tensor is missing. */
    bool sources = repair->rebuilt && !sources_are_there(repair->model, repair->store);
    if (repair_begin(repair->store, error) < 0)
        return -1;
    for (size_t i = 0; i < repair->value_count; i++) {
        const int result = mend_value(repair, &repair->values[i], &sources, error);
        if (result < 0)
            return -1;
        *mended = *mended || result > 0;
    }
    if (sources) {
        if (sources_put(repair->model, repair->store, error) < 0)
            return -1;
        printf("tensors of the model: were written again\n");
        *mended = true;
    }
    return store_commit(repair->store, error) < 0 ? -1 : repair_finish(repair->store, error);
}

static int open_store(struct repair *repair, struct error *error)
{
    if (store_open(repair->command->path, STORE_WRITE, &repair->store, error) < 0)
        return -1;
    return check_model(repair, error);
}

static void close_store(struct repair *repair)
{
    store_close(repair->store);
    repair->store = NULL;
}

/* Without them other values could not be read: these are looked at again then. */
static int see_to_values(struct repair *repair, struct error *error)
{
    if (repair->value_count == 0 && !repair->rebuilt)
        return 0;
    bool mended = false;
    if (open_store(repair, error) < 0 || mend_values(repair, &mended, error) < 0)
        return -1;
    close_store(repair);
    return mended ? find_damage(repair, error) : 0;
}

/* ---- all of it ---- */

static int recompute(struct repair *repair, uint64_t *done, struct error *error)
{
    const struct repair_command *command = repair->command;
    if (repair->record_count == 0)
        return 0;
    if (open_store(repair, error) < 0)
        return -1;
    const struct recompute job = {.store = repair->store,
                                  .model = repair->model,
                                  .device = command->device,
                                  .threads = command->threads,
                                  .allow_numerics = command->allow_numerics};
    return recompute_records(&job, repair->records, repair->record_count, done, error);
}

/* *left: problems that are still there, which are printed. Records that were put have been read again
 * already. */
static int count_left(struct repair *repair, uint64_t *left, struct error *error)
{
    *left = 0;
    if (repair->value_count == 0)
        return 0;
    close_store(repair);
    repair->last = true;
    if (find_damage(repair, error) < 0)
        return -1;
    *left = repair->record_count + repair->value_count;
    return 0;
}

static int run(const struct repair_command *command, uint64_t *left, struct error *error)
{
    struct repair repair = {.command = command};
    uint64_t done = 0;
    int result = model_open(command->model, &repair.model, error);
    if (result < 0)
        error_prefix(error, "--model");
    else if ((result = see_to_structure(&repair, error)) == 0 &&
             (result = see_to_values(&repair, error)) == 0 && (result = recompute(&repair, &done, error)) == 0)
        result = count_left(&repair, left, error);
    close_store(&repair);
    if (result == 0 && *left == 0)
        result = salvage_settle(command->path, error);
    if (result == 0)
        printf("%s: %" PRIu64 " records were computed again, %" PRIu64 " problems are left\n", command->path,
               done, *left);
    model_close(repair.model);
    free(repair.records);
    free(repair.values);
    return result;
}

int cache_repair(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"model", OPTION_MODEL, "PATH", 0, "The model that the store was made from", DEVICE_OPTIONS_GROUP},
        {"device", OPTION_DEVICE, "NAME", 0, "auto, cpu, cuda or ref (default: the one that made the store)",
         0},
        {"allow-numerics", OPTION_ALLOW_NUMERICS, NULL, 0,
         "Accept records of another device or library, whose bytes differ; the store notes that", 0},
        {0}};
    static const struct argp_child children[] = {{.argp = &threads_argp}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .children = children,
        .args_doc = "STORE",
        .doc =
            "Make a damaged store whole again."
            "\vFirst stop the programs that read the store. Everything is verified. A damaged structure is "
            "built "
            "anew from the values that are right, which takes as much disk as the store does. Damaged records "
            "are computed again from the model and the stored tokens, to the bytes that they had. Tensors come "
            "from the model, parameters of codecs from their copy. Of tokens, one flipped bit can be mended. "
            "The exit code is 1 when problems are left.",
    };
    struct repair_command command = {0};
    struct error error;
    uint64_t left = 0;
    cli_parse(&argp, argc, argv, 0, &command);
    int code = cache_finish_repair(argv[0], run(&command, &left, &error), &error);
    return code == EXIT_DONE && left > 0 ? EXIT_FAILED : code;
}
