/* training_open.c: what a run is made of, and whether it may go on. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/pool.h"
#include "common/device/device.h"
#include "common/head/policy.h"
#include "common/model/safetensors.h"
#include "train/foretell.h"
#include "train/members.h"
#include "train/training.h"
#include "train/wish.h"

/* ---- facts ---- */

/* The stores by what their manifest says of the states in them, which are the same in however many shards. */
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

static int fix_facts(struct training *training, struct error *error)
{
    struct run_folder *run = &training->run;
    const struct sweep *sweep = training->sweep;
    const struct stores *stores = &training->stores;
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
            error_prefix(error, "another store (its taps, codecs, text or numerics differ)");
    }
    return result;
}

/* Steps may become more: the run goes on then, with the rates of a longer one from where it is. What they were is
 * kept: trials that were done with so many go on from their heads (members.c). */
static int fix_steps(struct training *training, bool *more, struct error *error)
{
    struct run_folder *run = &training->run;
    const json_int_t before = json_integer_value(json_object_get(run->facts, "steps"));
    json_t *list = json_object_get(run->facts, "steps_before");
    *more = json_object_get(run->facts, "steps") && training->steps > before;
    if (!*more)
        return run_folder_fix(run, "steps", json_integer(training->steps), error);
    cli_say("the run was begun with %" JSON_INTEGER_FORMAT " steps and goes on to %" PRId64
            ". Trials that are done go on from their kept heads, with a new optimizer state. The rates are "
            "those of %" PRId64
            " steps from here on. So the run does not end as one that was begun with %" PRId64,
            before, training->steps, training->steps, training->steps);
    if (!json_is_array(list)) {
        list = json_array();
        if (run_folder_note(run, "steps_before", list, error) < 0)
            return -1;
    }
    if (json_array_append_new(list, json_integer(before)) < 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    return run_folder_note(run, "steps", json_integer(training->steps), error);
}

/* The mode of the products, which is a device's own unless it is asked for. */
static int fix_math(struct training *training, struct error *error)
{
    const char *name = math_names()[backend_math(training->backend) - MATH_F32];
    return run_folder_fix(&training->run, "math", json_string(name), error);
}

/* The backends the run has used so far; more than one may mean other bytes than an uninterrupted run's. */
static int note_numerics(struct training *training, struct error *error)
{
    const char *identity = backend_identity(training->backend);
    json_t *list = json_object_get(training->run.facts, "numerics");
    if (!json_is_array(list)) {
        list = json_array();
        if (run_folder_note(&training->run, "numerics", list, error) < 0)
            return -1;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *before = json_string_value(json_array_get(list, i));
        if (before && !strcmp(before, identity))
            return 0;
    }
    if (json_array_size(list) > 0)
        cli_say("warning: the run was begun on \"%s\" and goes on on \"%s\": its heads may differ in the "
                "last digits from those of one uninterrupted run",
                json_string_value(json_array_get(list, 0)), identity);
    return json_array_append_new(list, json_string(identity)) < 0
               ? error_set_kind(error, ERROR_NO_MEMORY, "out of memory")
               : 0;
}

/* A file of the run that has something in it. */
static bool run_has(const struct training *training, const char *folder, const char *name)
{
    struct error ignored;
    struct stat status;
    char *path = run_folder_path(&training->run, &ignored, "%s%s", folder, name);
    const bool there = path && stat(path, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
    free(path);
    return there;
}

/* Of a file that was cut, or is something else, no trial goes on. */
static bool run_has_head(const struct training *training, const char *folder)
{
    struct error ignored;
    struct safetensors *head = NULL;
    char *path = run_folder_path(&training->run, &ignored, "%shead.safetensors", folder);
    const bool there = path && safetensors_open(path, &head, &ignored) == 0;
    safetensors_close(head);
    free(path);
    return there;
}

/* What a trial that has ended leaves: metrics up to the last evaluation and its head, unless it has failed. */
static bool trial_is_there(const struct training *training, const struct trial_config *config)
{
    struct error ignored;
    struct metrics metrics;
    char *path = run_folder_path(&training->run, &ignored, "trials/%s/metrics.jsonl", config->id);
    char *folder = run_folder_path(&training->run, &ignored, "trials/%s/", config->id);
    bool there = false;
    if (path && folder) {
        const char *inside = folder + strlen(training->run.path) + 1;
        there = run_has(training, inside, "metrics.jsonl") && run_has(training, inside, "config.json");
    }
    if (there && metrics_read(path, &metrics, &ignored) == 0) {
        const char *inside = folder + strlen(training->run.path) + 1;
        there = metrics.failed[0] || (member_has_ended(training, &metrics) && run_has_head(training, inside));
        metrics_free(&metrics);
    }
    free(path);
    free(folder);
    return there;
}

/* The run ended with just these trials, and what it trained is still there. */
static bool run_is_finished(const struct training *training)
{
    const json_t *trials = json_object_get(json_object_get(training->run.facts, "result"), "trials");
    const struct sweep *sweep = training->sweep;
    if (json_array_size(trials) != (size_t)sweep->trials)
        return false;
    for (int i = 0; i < sweep->trials; i++) {
        const char *id = json_string_value(json_array_get(trials, (size_t)i));
        if (!id || strcmp(id, sweep->trial[i].id) != 0 || !trial_is_there(training, &sweep->trial[i]))
            return false;
    }
    return true;
}

/* What is made of the trials is still there, and the policy can be used. */
static bool run_has_results(const struct training *training)
{
    struct error ignored;
    struct policy policy = {0};
    char *path = run_folder_path(&training->run, &ignored, "policy");
    const bool usable = path && policy_read(path, &policy, &ignored) == 0;
    policy_free(&policy);
    free(path);
    return usable && run_has(training, "", "leaderboard.tsv") && run_has(training, "", "report.html");
}

static int write_sweep(const struct training *training, struct error *error)
{
    char *path = run_folder_path(&training->run, error, "sweep.yaml");
    int result = path ? file_write(path, training->sweep->text, training->sweep->size, error) : -1;
    free(path);
    return result;
}

/* ---- life ---- */

static int open_device(struct training *training, struct error *error)
{
    const struct sweep *sweep = training->sweep;
    const struct stores *stores = &training->stores;
    const struct backend_options options = {
        .threads = training->options->threads, .math = training->options->math, .timed = true};
    const int64_t rows = (int64_t)sweep->sequences * stores->rows;
    unsigned teach = TEACH_OUTCOME;
    struct tap *taps;
    if (device_open(training->options->device, &options, &training->backend, error) < 0 ||
        fix_math(training, error) < 0 || note_numerics(training, error) < 0 ||
        array_alloc(&taps, sweep->trials, error) < 0)
        return -1;
    training->device_memory = backend_memory(training->backend);
    if (foretell_check(sweep, stores, backend_math(training->backend), training->steps, training->device_memory,
                       error) < 0) {
        free(taps);
        return -1;
    }
    for (int i = 0; i < sweep->trials; i++) {
        taps[i] = sweep->trial[i].spec.tap;
        teach |= trial_measuring(&sweep->trial[i]);
    }
    int result =
        batch_create(stores, training->backend, taps, sweep->trials, teach, rows, &training->batch, error);
    free(taps);
    if (result < 0)
        return -1;
    if (workspace_create(training->backend, rows, stores->config.hidden, sweep->trials, &training->workspace,
                         error) < 0)
        return -1;
    training->trials_told = workspace_trials(training->workspace);
    training->rows_told = rows;
    return 0;
}

static int open_run(struct training *training, struct error *error)
{
    const struct training_options *options = training->options;
    if (stores_open(options->store, options->stores, &training->stores, error) < 0)
        return -1;
    const struct head_shape shape = stores_head_shape(&training->stores);
    if (sweep_resolve(training->sweep, &shape, error) < 0 ||
        sweep_fit(training->sweep, training->stores.sequences[SPLIT_TRAIN], error) < 0 ||
        run_folder_open(options->out, &training->run, error) < 0)
        return -1;
    training->steps = sweep_steps(training->sweep, training->stores.sequences[SPLIT_TRAIN]);
    bool more = false, other = false;
    if (fix_facts(training, error) < 0 || fix_steps(training, &more, error) < 0 ||
        wish_read(options, training->sweep, &training->run, &training->stores, &training->wish, &other, error) <
            0)
        return -1;
    const bool finished = run_is_finished(training);
    if (finished) { /* a process that was killed may have left some; where they cannot be removed they do no harm */
        struct error ignored;
        members_remove_checkpoints(training, &ignored);
    }
    if (!more && finished)
        training->left = other || !run_has_results(training) ? LEFT_POLICY : LEFT_NOTHING;
    else
        training->left = LEFT_TRAINING;
    if (training->left == LEFT_NOTHING)
        return 0;
    if (open_device(training, error) < 0)
        return -1;
    if (training->left == LEFT_POLICY)
        return 0;
    json_object_del(training->run.facts, "result");
    if (array_alloc(&training->member, training->sweep->trials, error) < 0)
        return -1;
    return run_folder_save(&training->run, error) < 0 ? -1 : write_sweep(training, error);
}

int training_open(const struct training_options *options, struct sweep *sweep, struct training **training,
                  struct error *error)
{
    struct training *opened;
    *training = NULL;
    if (array_alloc(&opened, 1, error) < 0)
        return -1;
    opened->options = options;
    opened->sweep = sweep;
    opened->run.lock = -1;
    opened->started = clock_seconds();
    opened->threads = options->threads > 0 ? options->threads : processor_count();
    if (open_run(opened, error) < 0) {
        training_close(opened);
        return -1;
    }
    *training = opened;
    return 0;
}

void training_close(struct training *training)
{
    if (!training)
        return;
    feed_close(training->feed);
    for (int i = 0; training->member && i < training->sweep->trials; i++) {
        struct member *member = &training->member[i];
        trial_destroy(member->trial);
        if (member->metrics)
            fclose(member->metrics);
        free(member->checkpoint);
        free(member->metrics_path);
        free(member->head);
    }
    free(training->member);
    free(training->wish.exit);
    workspace_destroy(training->workspace);
    batch_destroy(training->batch);
    backend_close(training->backend);
    stores_close(&training->stores);
    run_folder_close(&training->run);
    free(training);
}

int training_active(const struct training *training, struct trial **active)
{
    int count = 0;
    for (int i = 0; i < training->sweep->trials; i++) {
        struct trial *trial = training->member[i].trial;
        if (trial && !trial->failed)
            active[count++] = trial;
    }
    return count;
}

struct evaluation_setting training_evaluation(const struct training *training)
{
    return (struct evaluation_setting){
        .stores = &training->stores,
        .batch = training->batch,
        .workspace = training->workspace,
        .sequences = training->sweep->sequences,
        .threads = training->threads,
    };
}

/* What is gone of the device's memory: before the end nothing is given back but where it ran out. Other processes
 * count, too. */
static int note_device_memory(struct training *training, struct error *error)
{
    struct run_folder *run = &training->run;
    if (training->device_memory == 0)
        return 0;
    const double peak = json_number_value(json_object_get(run->facts, "device_memory"));
    const double used = (double)training->device_memory - (double)backend_memory(training->backend);
    return run_folder_note(run, "device_memory", json_real(used > peak ? used : peak), error);
}

/* Adds what the device was at work since this was noted last. */
static int note_device_times(struct training *training, struct error *error)
{
    const struct device_times now = backend_times(training->backend), last = training->device_times;
    const struct {
        const char *name;
        double seconds;
    } facts[] = {{"device_compute_seconds", now.ops - last.ops},
                 {"device_in_seconds", now.in - last.in},
                 {"device_out_seconds", now.out - last.out}};
    for (int i = 0; i < 3 && now.ops > 0; i++) {
        const double before = json_number_value(json_object_get(training->run.facts, facts[i].name));
        if (run_folder_note(&training->run, facts[i].name, json_real(before + facts[i].seconds), error) < 0)
            return -1;
    }
    training->device_times = now;
    return 0;
}

int training_note_cost(struct training *training, struct error *error)
{
    struct run_folder *run = &training->run;
    const double seconds = json_number_value(json_object_get(run->facts, "seconds"));
    const double stalled = json_number_value(json_object_get(run->facts, "stall_seconds"));
    const double peak = json_number_value(json_object_get(run->facts, "peak_memory"));
    const double now = clock_seconds(), used = (double)memory_peak();
    if (run_folder_note(run, "seconds", json_real(seconds + now - training->started), error) < 0 ||
        run_folder_note(run, "stall_seconds", json_real(stalled + training->stalled), error) < 0 ||
        run_folder_note(run, "peak_memory", json_real(used > peak ? used : peak), error) < 0 ||
        note_device_memory(training, error) < 0 || note_device_times(training, error) < 0)
        return -1;
    training->started = now;
    training->stalled = 0;
    return run_folder_save(run, error);
}
