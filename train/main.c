/* train: fits exit heads to cached hidden states; see --help. */
#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/base/option.h"
#include "common/base/string.h"
#include "common/device/options.h"
#include "train/dry_run.h"
#include "train/export.h"
#include "train/results.h"
#include "train/training.h"

enum {
    OPTION_SWEEP = 256,
    OPTION_OUT,
    OPTION_STORE,
    OPTION_JSON,
    OPTION_AGREEMENT,
    OPTION_THRESHOLD,
    OPTION_EXITS,
    OPTION_MAX_PARALLEL,
    OPTION_MEMORY,
    OPTION_PART,
    OPTION_COLLECT,
    OPTION_DRY_RUN,
    OPTION_EXPORT,
    OPTION_FORMAT,
    OPTION_MODEL,
    OPTION_TRIAL = 512,
    OPTION_SETTING = 768
};

enum { MOST_PARTS = 1000000, MOST_PARALLEL = 1000000 };

struct arguments {
    struct training_options options;
    const char **store; /* [options.stores] */
    size_t capacity;
    const char *sweep; /* file, or NULL: one trial by flags */
    const char *trial[TRIAL_KEYS], *setting[SETTING_KEYS]; /* flags, NULL: not given */
    bool json, dry_run;
    struct export_options export; /* its trial is NULL: nothing is exported */
};

static const char description[] =
    "Fits exit heads to the hidden states of a store that extract made. Trials that are "
    "trained at the same time share one read of the store. Writes heads, metrics, a leaderboard, a report and "
    "an exit policy into RUN. The "
    "same command goes on where it was stopped. A finished run is only shown, or given another policy."
    "\vA sweep file is YAML. Its keys are the names of the flags above: settings of the run at its top, and "
    "keys of trials in `grid` (lists, of which every combination is a trial), `random` (`count` trials, each "
    "key from a list, or between two bounds: {uniform: [A, B]}, {log_uniform: [A, B]}, {integer: [A, B]}), "
    "`trials` (single ones), and `defaults` (what the others do not give). pipelines/demo.yaml is an example. "
    "Without --sweep the flags describe one trial:\n\n"
    "  train --store STORE --out RUN --tap 12 --head affine --init ridge\n\n"
    "A finished trial's head for other software:\n\n"
    "  train --store STORE --export RUN/trials/ID --format torch --out DIR\n";

static const struct argp_option common_options[] = {
    {"store", OPTION_STORE, "STORE", 0, "a finished store; give it again for each further shard", 1},
    {"out", OPTION_OUT, "RUN", 0, "folder of the run", 1},
    {"sweep", OPTION_SWEEP, "FILE", 0, "the trials and the settings of the run", 1},
    {"agreement", OPTION_AGREEMENT, "SHARE", 0,
     "of the tokens that leave early, the share that must be the full model's (default: 0.95)", 1},
    {"threshold", OPTION_THRESHOLD, "P", 0,
     "threshold of the policy, instead of the one that --agreement chooses", 1},
    {"exits", OPTION_EXITS, "TAP,...", 0, "exits of the policy, whatever they cost (default: those that pay)",
     1},
    {"max-parallel", OPTION_MAX_PARALLEL, "N", 0,
     "trials that are trained at a time; the others wait. The store is read once for each N of them (default: "
     "all that memory holds)",
     1},
    {"memory", OPTION_MEMORY, "SIZE", 0,
     "memory that the run may take, such as 2G: so many trials at a time as it holds (default: what there is)",
     1},
    {"part", OPTION_PART, "I/N", 0,
     "train only part I (0 .. N-1) of N of the sweep's trials, while other processes train the others in the "
     "same RUN",
     1},
    {"collect", OPTION_COLLECT, NULL, 0, "when all parts have ended: make leaderboard, report and policy", 1},
    {"dry-run", OPTION_DRY_RUN, NULL, 0,
     "only list the trials, with their memory and time, after some seconds of measuring; writes nothing", 1},
    {"export", OPTION_EXPORT, "TRIAL", 0,
     "write the head of a finished trial, RUN/trials/ID, into --out as other software reads it; nothing is "
     "trained",
     1},
    {"format", OPTION_FORMAT, "FORMAT", 0, "of --export: torch, ee-llm or eagle3 (docs/formats.md)", 1},
    {"model", OPTION_MODEL, "PATH", 0,
     "of --export: the model's folder, which eagle3's readers open, too (default: its name in the store)", 1},
    {"json", OPTION_JSON, NULL, 0, "print the result as JSON", DEVICE_OPTIONS_GROUP},
};
enum { COMMON_OPTIONS = sizeof common_options / sizeof common_options[0] };

static int add_store(struct arguments *arguments, const char *path)
{
    struct error ignored;
    if (array_grow(&arguments->store, &arguments->capacity, (size_t)arguments->options.stores + 1, &ignored) <
        0)
        return ENOMEM;
    arguments->store[arguments->options.stores++] = path;
    return 0;
}

static void parse_part(const char *text, struct run_share *share, struct argp_state *state)
{
    const char *slash = strchr(text, '/');
    char first[16];
    if (!slash || (size_t)(slash - text) >= sizeof first)
        argp_error(state, "--part: \"%s\" is not I/N, such as 0/4 for the first of four", text);
    snprintf(first, sizeof first, "%.*s", (int)(slash - text), text);
    share->part.count = (int)option_integer(state, "part", slash + 1, 1, MOST_PARTS);
    share->part.index = (int)option_integer(state, "part", first, 0, share->part.count - 1);
}

static void check_share(const struct arguments *arguments, struct argp_state *state)
{
    const struct run_share *share = &arguments->options.share;
    const struct wish_options *wish = &arguments->options.wish;
    if (share->part.count > 0 && share->collect)
        argp_error(state, "--part and --collect: give one of them; --collect comes when all parts have ended");
    if (share->part.count > 0 && (wish->exits || !isnan(wish->agreement) || !isnan(wish->threshold)))
        argp_error(state, "--agreement, --threshold and --exits belong to --collect: a part makes no policy");
    if (share->part.count > 0 && arguments->setting[KEY_GATES])
        argp_error(state, "--gates belongs to --collect: a part makes no gates");
    if (share->part.count > 0 && arguments->json)
        argp_error(state, "--json belongs to --collect: a part has no result of its own");
}

/* Nothing is trained, so nothing that says how is taken. */
static void check_export(const struct arguments *arguments, struct argp_state *state)
{
    const struct wish_options *wish = &arguments->options.wish;
    bool other = arguments->sweep || arguments->dry_run || arguments->json ||
                 arguments->options.share.collect || arguments->options.share.part.count > 0 || wish->exits ||
                 !isnan(wish->agreement) || !isnan(wish->threshold);
    for (int k = 0; k < TRIAL_KEYS; k++)
        other = other || arguments->trial[k];
    for (int k = 0; k < SETTING_KEYS; k++)
        other = other || arguments->setting[k];
    if (!arguments->export.format)
        argp_error(state, "--format is missing: torch, ee-llm or eagle3");
    if (arguments->options.stores == 0)
        argp_error(state, "--store is missing: the store that the trial was trained from");
    if (!arguments->options.out)
        argp_error(state, "--out is missing: a folder for what is exported");
    if (other)
        argp_error(state, "--export takes --store, --format, --model and --out only");
}

static void check_arguments(const struct arguments *arguments, struct argp_state *state)
{
    if (arguments->export.trial) {
        check_export(arguments, state);
        return;
    }
    if (arguments->export.format || arguments->export.model)
        argp_error(state, "--format and --model belong to --export");
    if (arguments->options.stores == 0)
        argp_error(state, "--store is missing: a store that extract made");
    if (!arguments->options.out && !arguments->dry_run)
        argp_error(state, "--out is missing: a folder for the run");
    if (!isnan(arguments->options.wish.agreement) && !isnan(arguments->options.wish.threshold))
        argp_error(state, "--agreement and --threshold: give one of them; --agreement chooses a threshold");
    if (arguments->options.share.collect && arguments->dry_run)
        argp_error(state, "--collect and --dry-run: give one of them; nothing is trained to collect");
    check_share(arguments, state);
    for (int k = 0; arguments->sweep && k < TRIAL_KEYS; k++) {
        if (arguments->trial[k])
            argp_error(state, "--%s belongs in %s when --sweep is given", trial_keys[k].name, arguments->sweep);
    }
    for (int k = 0; arguments->sweep && k < SETTING_KEYS; k++) {
        if (arguments->setting[k] && k != KEY_GATES) /* which a finished run can be given, too */
            argp_error(state, "--%s belongs in %s when --sweep is given", setting_keys[k].name,
                       arguments->sweep);
    }
    for (int k = 0; !arguments->sweep && k < TRIAL_KEYS; k++) {
        if (!trial_keys[k].standard && !arguments->trial[k])
            argp_error(state, "--sweep is missing, or --%s for a single trial", trial_keys[k].name);
    }
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    if (key >= OPTION_TRIAL && key < OPTION_TRIAL + TRIAL_KEYS) {
        arguments->trial[key - OPTION_TRIAL] = value;
        return 0;
    }
    if (key >= OPTION_SETTING && key < OPTION_SETTING + SETTING_KEYS) {
        arguments->setting[key - OPTION_SETTING] = value;
        return 0;
    }
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &arguments->options.device; return 0;
    case OPTION_STORE: return add_store(arguments, value);
    case OPTION_OUT: arguments->options.out = value; return 0;
    case OPTION_SWEEP: arguments->sweep = value; return 0;
    case OPTION_MAX_PARALLEL:
        arguments->options.max_parallel = (int)option_integer(state, "max-parallel", value, 1, MOST_PARALLEL);
        return 0;
    case OPTION_MEMORY: arguments->options.memory = option_size(state, "memory", value, true); return 0;
    case OPTION_PART: parse_part(value, &arguments->options.share, state); return 0;
    case OPTION_COLLECT: arguments->options.share.collect = true; return 0;
    case OPTION_JSON: arguments->json = true; return 0;
    case OPTION_DRY_RUN: arguments->dry_run = true; return 0;
    case OPTION_EXPORT: arguments->export.trial = value; return 0;
    case OPTION_FORMAT: arguments->export.format = value; return 0;
    case OPTION_MODEL: arguments->export.model = value; return 0;
    case OPTION_AGREEMENT:
        arguments->options.wish.agreement = option_number(state, "agreement", value, 0, 1);
        return 0;
    case OPTION_THRESHOLD:
        arguments->options.wish.threshold = option_number(state, "threshold", value, 0, 1);
        return 0;
    case OPTION_EXITS: arguments->options.wish.exits = value; return 0;
    case ARGP_KEY_ARG: argp_error(state, "\"%s\" is too much: stores are named by --store", value); return 0;
    case ARGP_KEY_END: check_arguments(arguments, state); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* argp's table: the common options, and one for each key of a sweep file. */
struct option_table {
    struct argp_option option[COMMON_OPTIONS + TRIAL_KEYS + SETTING_KEYS + 3];
    char help[TRIAL_KEYS + SETTING_KEYS][160];
    int options, helps;
};

static void add_keys(struct option_table *table, const char *title, const struct sweep_key *keys, int count,
                     int first, int group)
{
    table->option[table->options++] = (struct argp_option){.doc = title, .group = group};
    for (int k = 0; k < count; k++) {
        const char *standard = keys[k].standard;
        char *help = table->help[table->helps++];
        snprintf(help, sizeof table->help[0], "%s%s%s%s", keys[k].help,
                 standard && *standard ? " (default: " : "", standard ? standard : "",
                 standard && *standard ? ")" : "");
        table->option[table->options++] = (struct argp_option){
            .name = keys[k].name, .key = first + k, .arg = keys[k].value, .doc = help, .group = group};
    }
}

static void list_options(struct option_table *table)
{
    for (int i = 0; i < COMMON_OPTIONS; i++)
        table->option[table->options++] = common_options[i];
    add_keys(table, "One trial, without --sweep:", trial_keys, TRIAL_KEYS, OPTION_TRIAL,
             DEVICE_OPTIONS_GROUP + 1);
    add_keys(table, "Its run:", setting_keys, SETTING_KEYS, OPTION_SETTING, DEVICE_OPTIONS_GROUP + 2);
}

static int write_flag(struct string *text, const char *before, const char *key, const char *value,
                      struct error *error)
{
    json_t *string = json_string(value);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL; /* YAML quotes as JSON does */
    if (quoted)
        string_print(text, "%s%s: %s\n", before, key, quoted);
    else
        error_set_kind(error, ERROR_USAGE, "--%s: is not UTF-8", key);
    free(quoted);
    json_decref(string);
    return quoted ? 0 : -1;
}

/* What the flags say, as the sweep file that says the same. */
static int write_flags(const struct arguments *arguments, struct string *text, struct error *error)
{
    const char *before = "  - ";
    for (int k = 0; k < SETTING_KEYS; k++) {
        const char *value = arguments->setting[k];
        if (value && write_flag(text, "", setting_keys[k].name, value, error) < 0)
            return -1;
    }
    string_print(text, "trials:\n");
    for (int k = 0; k < TRIAL_KEYS; k++) {
        const char *value = arguments->trial[k];
        if (!value)
            continue;
        if (write_flag(text, before, trial_keys[k].name, value, error) < 0)
            return -1;
        before = "    ";
    }
    return string_failed(text, error) ? -1 : 0;
}

static int read_sweep(const struct arguments *arguments, struct sweep *sweep, struct error *error)
{
    struct string text = {0};
    int result =
        arguments->sweep ? sweep_read(arguments->sweep, sweep, error) : write_flags(arguments, &text, error);
    if (result == 0 && !arguments->sweep)
        result = sweep_parse(NULL, text.data, text.length, sweep, error);
    if (result == 0 && arguments->sweep && arguments->setting[KEY_GATES] &&
        gate_wish_parse(arguments->setting[KEY_GATES], &sweep->gates, error) < 0)
        result = error_prefix(error, "--gates");
    string_free(&text);
    return result < 0 ? error_narrow(error, ERROR_USAGE) : 0;
}

static void tell_left(const struct arguments *arguments, const struct training *training)
{
    const enum run_left left = training_left(training);
    const struct run_folder *run = training_run(training);
    if (left == LEFT_NOTHING && run_is_part(run))
        cli_say("part %d of %d of the run in %s has ended; nothing is left to do", run->share.part.index,
                run->share.part.count, arguments->options.out);
    else if (left == LEFT_NOTHING)
        cli_say("the run in %s is finished; nothing is left to do", arguments->options.out);
    if (left == LEFT_GATES)
        cli_say("the run in %s is finished; gates are added", arguments->options.out);
    if (left == LEFT_POLICY && run_is_whole(run))
        cli_say("the run in %s is finished; its policy is made again, and the report with it",
                arguments->options.out);
}

static int run(const struct arguments *arguments, struct sweep *sweep, struct error *error)
{
    struct training *training;
    if (training_open(&arguments->options, sweep, &training, error) < 0)
        return -1;
    int result = 0;
    const enum run_left left = training_left(training);
    tell_left(arguments, training);
    if (left == LEFT_TRAINING)
        result = training_train(training, error);
    if (result == 0 && left != LEFT_NOTHING)
        result = training_finish(training, error);
    if (result == 0 && !run_is_part(training_run(training)))
        result = results_print(training_run(training), sweep, training_model(training), arguments->json, error);
    training_close(training);
    return result;
}

static int run_export(struct arguments *arguments, struct error *error)
{
    arguments->export.store = arguments->store;
    arguments->export.stores = arguments->options.stores;
    arguments->export.out = arguments->options.out;
    return export_trial(&arguments->export, error);
}

/* Trains, or says what it would do. */
static int run_sweep(const struct arguments *arguments, struct error *error)
{
    struct sweep sweep = {0};
    int result = read_sweep(arguments, &sweep, error);
    if (result == 0)
        result = arguments->dry_run ? dry_run(&arguments->options, &sweep, arguments->json, error)
                                    : run(arguments, &sweep, error);
    sweep_free(&sweep);
    return result;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.options = {.device = {.name = "auto", .backend = {.timed = true}},
                                              .wish = {.agreement = NAN, .threshold = NAN}}};
    struct option_table table = {0};
    static const struct argp_child children[] = {{.argp = &device_argp}, {0}};
    const struct argp argp = {table.option, parse_option, NULL, description, children, NULL, NULL};
    struct error error = {0};
    list_options(&table);
    cli_start();
    cli_parse(&argp, argc, argv, 0, &arguments);
    arguments.options.store = arguments.store;
    int result = arguments.export.trial ? run_export(&arguments, &error) : run_sweep(&arguments, &error);
    if (result == 0)
        result = cli_finish_output(&error);
    if (result < 0)
        cli_say("%s", error.text);
    free(arguments.store);
    return cli_exit_code(result, &error);
}
