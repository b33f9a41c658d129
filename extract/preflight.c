#include "extract/preflight.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/string.h"
#include "common/head/source.h"
#include "common/pilot/pilot.h"
#include "common/store/manifest.h"
#include "common/store/runs.h"
#include "extract/codec_pilot.h"
#include "extract/run.h"
#include "extract/sample.h"
#include "extract/texts.h"

#define PILOT_SECONDS 8.0
#define FEW_RECORDS   64

/* A pilot in the making. */
struct trial {
    const struct preflight_job *job;
    struct preflight *preflight;
    struct plan plan;
    struct sample sample;
    uint64_t there; /* sequences in the sample */
    char *path;
    bool made; /* what is at `path` is this trial's */
    struct store *store;
    bool fitted; /* codecs, to this pilot */
};

/* ---- sequences ---- */

/* Of so many tokens, those of each split. */
static void all_sequences_of(const struct trial *trial, uint64_t sequences[SPLIT_COUNT])
{
    const struct tokenize_job *job = trial->job->tokenize;
    for (int split = 0; split < SPLIT_COUNT; split++) {
        const double tokens = trial->sample.tokens[split];
        sequences[split] = tokens > 1 ? (uint64_t)((tokens - 1) / trial->preflight->info.rows) : 0;
    }
    if (job->runs > 0)
        runs_count(sequences[SPLIT_TRAIN], job->runs, sequences);
}

static int count_sequences(struct trial *trial, struct error *error)
{
    const struct tokenize_job *job = trial->job->tokenize;
    struct preflight *preflight = trial->preflight;
    uint64_t all[SPLIT_COUNT];
    double used = 0;
    if (corpus_sample(job->list, &job->rules, job->threads, &trial->sample, error) < 0)
        return -1;
    all_sequences_of(trial, all);
    for (int split = 0; split < SPLIT_COUNT; split++) {
        const uint64_t wanted = job->most[split] < all[split] ? job->most[split] : all[split];
        preflight->sequences[split] = store_share(&preflight->info, wanted);
        if (all[split] > 0 && (double)wanted / (double)all[split] > used)
            used = (double)wanted / (double)all[split];
    }
    preflight->tokenizing = trial->sample.seconds * used;
    preflight->exact = trial->sample.exact;
    trial->there =
        trial->sample.ids.count > 0 ? (trial->sample.ids.count - 1) / (size_t)preflight->info.rows : 0;
    if (trial->there == 0 || preflight->sequences[SPLIT_TRAIN] == 0)
        return error_set(error,
                         "the training documents do not fill one sequence of %d tokens: give more text, or "
                         "a smaller --seq-len",
                         preflight->info.rows);
    return 0;
}

/* ---- running ---- */

/* A forecast's store says that it is one, so that an earlier one's is known. */
#define MARK "forecast"

static char *pilot_path(const char *out, struct error *error)
{
    char *path;
    if (asprintf(&path, "%s.pilot", out) >= 0)
        return path;
    error_set_kind(error, ERROR_NO_MEMORY, "out of memory: a name for the pilot of %s", out);
    return NULL;
}

/* Whether there is a forecast's store at `path`. -1: there is another one, or one that is in use. A store that
 * cannot be opened is the forecast's if it is not finished: a forecast may have been killed at any point, and
 * finishes none. */
static int find_leftovers(const char *path, struct error *error)
{
    struct error reason;
    struct store *store;
    bool own;
    if (!store_exists(path))
        return 0;
    const int finished = store_was_finished(path, error);
    if (finished < 0)
        return -1;
    if (store_open(path, STORE_WRITE, &store, &reason) == 0)
        own = json_is_true(json_object_get(store_manifest(store), MARK));
    else
        own = !finished;
    store_close(store);
    return own ? 1
               : error_set(error,
                           "%s: is a store that no dry run has made, but a dry run needs this name: rename the "
                           "store, or "
                           "give another --out",
                           path);
}

static int remove_pilot(const char *path, struct error *error)
{
    return codec_pilot_remove(path, error) < 0 ? -1 : store_remove(path, error);
}

static int make_store(struct trial *trial, struct error *error)
{
    if (!(trial->path = pilot_path(trial->job->out, error)) ||
        (path_is_directory(trial->path) &&
         (find_leftovers(trial->path, error) < 0 || remove_pilot(trial->path, error) < 0)))
        return -1;
    json_t *manifest = json_deep_copy(trial->job->manifest);
    if (!manifest || json_object_set_new(manifest, MARK, json_true()) < 0) {
        json_decref(manifest);
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory for the manifest");
    }
    trial->made = !file_exists(trial->path);
    int result = store_create(trial->path, manifest, &trial->store, error);
    trial->made = trial->made || result == 0;
    json_decref(manifest);
    return result;
}

/* Sequences up to number `count` of the sample, evenly spread when there are `spread` in all. */
static int put_sequences(struct trial *trial, uint64_t count, uint64_t spread, struct error *error)
{
    const uint64_t rows = (uint64_t)trial->preflight->info.rows;
    if (store_begin(trial->store, error) < 0)
        return -1;
    for (uint64_t i = store_sequences(trial->store, SPLIT_TRAIN); i < count; i++) {
        const uint64_t index = trial->there / spread * i + trial->there % spread * i / spread;
        if (store_put_tokens(trial->store, SPLIT_TRAIN, trial->sample.ids.data + index * rows, NULL, 0, error) <
            0)
            return -1;
    }
    return store_commit(trial->store, error);
}

static struct codec_pilot_job codec_pilot_job(const struct trial *trial)
{
    const struct preflight_job *job = trial->job;
    return (struct codec_pilot_job){.model = job->model,
                                    .backend = job->backend,
                                    .store = trial->store,
                                    .threads = job->tokenize->threads,
                                    .memory = job->memory,
                                    .from = job->parameters};
}

/* The model's head, where a codec wants to know what it loses. */
static int put_head(const struct trial *trial, struct error *error)
{
    const struct preflight_job *job = trial->job;
    const struct store_info *info = &trial->preflight->info;
    for (int tap = 0; tap < info->taps; tap++)
        if (info->codec[tap].goal == CODEC_KL && !job->parameters &&
            sources_store(job->model, trial->store, error) < 0)
            return -1;
    return 0;
}

/* Codecs with parameters are fitted to the pilot's first sequences: what is aimed at, bits or loss, they have
 * then, as they will when they are fitted to more. */
static int fit_codecs(struct trial *trial, struct error *error)
{
    struct codec_pilot_job fitting = codec_pilot_job(trial);
    struct codec_pilot_result made;
    fitting.alone = true;
    if (put_head(trial, error) < 0 || codec_pilot_run(&fitting, &made, error) < 0)
        return -1;
    trial->fitted = made.seconds > 0;
    return 0;
}

/* Runs what is in the pilot's store and has no record yet. */
static int run_pilot(struct trial *trial, struct run_report *report, struct error *error)
{
    const struct run_job run = {.title = "pilot",
                                .model = trial->job->model,
                                .backend = trial->job->backend,
                                .store = trial->store,
                                .plan = &trial->plan};
    return run_model(&run, report, error);
}

/* Seconds of computing, from a run of one call and one of `calls` calls. Weights that are loaded again for
 * every super-batch take the same time for one call as for all of them. */
static double estimate(const struct trial *trial, const struct run_report *one, const struct run_report *some,
                       uint64_t calls)
{
    const struct plan *plan = &trial->plan;
    const double batch = plan->batch, total = (double)split_sum(trial->preflight->sequences) / batch;
    const double first = one->seconds - one->loading, second = some->seconds - some->loading;
    if (plan->resident || calls < 2)
        return second / (double)calls * total;
    const double call = second > first ? (second - first) / (double)(calls - 1) : second / (double)calls;
    const double turn = first > call ? first - call : 0;
    return total * call + (total / plan->group + 1) * turn;
}

/* The most sequences that a pilot can have: what the sample holds, and half of the disk. */
static int find_most(const struct trial *trial, uint64_t *most, struct error *error)
{
    const struct preflight *preflight = trial->preflight;
    uint64_t each = 0, available;
    char text[32];
    for (int tap = 0; tap < preflight->info.taps; tap++)
        each += plan_tap_bytes(&preflight->info, tap, 1);
    if (disk_free(trial->job->out, &available, error) < 0)
        return -1;
    *most = trial->there < split_sum(preflight->sequences) ? trial->there : split_sum(preflight->sequences);
    if (*most > available / 2 / each)
        *most = available / 2 / each;
    return *most > 0 ? 0
                     : error_set_kind(error, ERROR_NO_SPACE,
                                      "%s: the disk has %s free, not enough to try one sequence",
                                      trial->job->out, format_bytes((double)available, text, sizeof text));
}

/* Seconds of computing states for the codecs alone: none where the run takes them from the pilot. */
static double fitting_seconds(const struct preflight *preflight)
{
    const uint64_t there = preflight->sequences[SPLIT_TRAIN];
    const uint64_t sequences = pilot_sequences(&preflight->info, there, there);
    return kept_pays(sequences, there)
               ? 0
               : (double)sequences * preflight->info.rows / preflight->tokens_per_second;
}

static int time_pilot(struct trial *trial, struct error *error)
{
    struct preflight *preflight = trial->preflight;
    const uint64_t batch = (uint64_t)trial->plan.batch, total = split_sum(preflight->sequences);
    struct run_report one, some;
    uint64_t most;
    if (find_most(trial, &most, error) < 0)
        return -1;
    const uint64_t first = most < batch ? most : batch;
    if (put_sequences(trial, first, most, error) < 0 || fit_codecs(trial, error) < 0 ||
        run_pilot(trial, &one, error) < 0)
        return -1;
    some = one;
    uint64_t calls = (uint64_t)(PILOT_SECONDS / (one.seconds - one.loading + 1e-3));
    calls = calls < 2 ? 2 : calls;
    preflight->pilot = first + calls * batch < most ? first + calls * batch : most;
    if (preflight->pilot > first &&
        (put_sequences(trial, preflight->pilot, most, error) < 0 || run_pilot(trial, &some, error) < 0))
        return -1;
    calls = (some.tokens / (uint64_t)preflight->info.rows + batch - 1) / batch;
    preflight->loading = some.loading;
    preflight->computing = estimate(trial, &one, &some, calls);
    preflight->tokens_per_second =
        (double)total * preflight->info.rows / (preflight->computing > 0 ? preflight->computing : 1);
    if (trial->fitted)
        preflight->fitting = fitting_seconds(preflight);
    return 0;
}

/* ---- sizes ---- */

static int measure(struct trial *trial, struct error *error)
{
    struct preflight *preflight = trial->preflight;
    const double scale = (double)split_sum(preflight->sequences) / (double)preflight->pilot;
    struct store_usage usage;
    if (store_measure(trial->store, STORE_TOKENS, &usage, error) < 0)
        return -1;
    preflight->token_bytes = (double)usage.bytes * scale;
    preflight->source_bytes = (double)sources_bytes(trial->job->model, &preflight->info);
    if (store_measure(trial->store, STORE_PARAMETERS, &usage, error) < 0)
        return -1;
    preflight->parameter_bytes = (double)usage.bytes;
    preflight->bytes = preflight->token_bytes + preflight->source_bytes + preflight->parameter_bytes;
    for (int tap = 0; tap < preflight->info.taps; tap++) {
        if (store_measure(trial->store, tap, &usage, error) < 0)
            return -1;
        preflight->tap_bytes[tap] = (double)usage.bytes * scale;
        preflight->bytes += preflight->tap_bytes[tap];
    }
    return disk_free(trial->job->out, &preflight->available, error);
}

/* ---- life ---- */

static int prepare(struct trial *trial, struct error *error)
{
    const struct preflight_job *job = trial->job;
    struct preflight *preflight = trial->preflight;
    if (manifest_parse("manifest", job->manifest, &preflight->info, error) < 0 ||
        array_alloc(&preflight->tap_bytes, preflight->info.taps, error) < 0)
        return -1;
    const struct plan_machine machine = plan_machine(job->backend, job->tokenize->threads, job->memory);
    return plan_make(model_config(job->model), plan_file(job->model), &preflight->info, &machine, &trial->plan,
                     error);
}

/* Of so many errors, a run's own is the one to tell. */
static int close_trial(struct trial *trial, int result, struct error *error)
{
    struct error ignored;
    store_close(trial->store);
    if (trial->made && remove_pilot(trial->path, result < 0 ? &ignored : error) < 0)
        result = -1;
    sample_free(&trial->sample);
    free(trial->path);
    return result;
}

int preflight_remove(const char *out, struct error *error)
{
    struct error ignored;
    char *path = pilot_path(out, error);
    int result = path ? 0 : -1;
    if (result == 0 && path_is_directory(path) && find_leftovers(path, &ignored) > 0)
        result = remove_pilot(path, error);
    free(path);
    return result;
}

int preflight_run(const struct preflight_job *job, struct preflight *preflight, struct error *error)
{
    struct trial trial = {.job = job, .preflight = preflight};
    *preflight = (struct preflight){0};
    int result = prepare(&trial, error);
    if (result == 0)
        result = count_sequences(&trial, error);
    if (result == 0)
        result = make_store(&trial, error);
    if (result == 0)
        result = time_pilot(&trial, error);
    if (result == 0)
        result = measure(&trial, error);
    return close_trial(&trial, result, error);
}

int preflight_fit(const struct preflight_job *job, const char *file, struct error *error)
{
    struct preflight preflight = {0};
    struct trial trial = {.job = job, .preflight = &preflight};
    struct codec_pilot_result made;
    int result = -1;
    if (prepare(&trial, error) < 0 || count_sequences(&trial, error) < 0 || make_store(&trial, error) < 0)
        goto done;
    const uint64_t wanted = pilot_sequences(&preflight.info, preflight.sequences[SPLIT_TRAIN], trial.there);
    struct codec_pilot_job fitting = codec_pilot_job(&trial);
    fitting.sequences = wanted;
    fitting.to = file;
    if (put_sequences(&trial, wanted, wanted, error) == 0 && put_head(&trial, error) == 0)
        result = codec_pilot_run(&fitting, &made, error);
done:
    result = close_trial(&trial, result, error);
    preflight_free(&preflight);
    return result;
}

void preflight_free(struct preflight *preflight)
{
    free(preflight->tap_bytes);
    manifest_free(&preflight->info);
    *preflight = (struct preflight){0};
}

/* ---- checking ---- */

/* Bytes of a tap's record on disk: the mean of those that are stored, or, when they are few, of a pilot. */
static int record_bytes(const struct preflight_job *job, struct store *store, int tap,
                        struct preflight *preflight, double *bytes, struct error *error)
{
    struct store_usage usage;
    if (store_measure(store, tap, &usage, error) < 0)
        return -1;
    if (usage.values < FEW_RECORDS && preflight->pilot == 0 && preflight_run(job, preflight, error) < 0)
        return -1;
    *bytes = usage.values >= FEW_RECORDS ? (double)usage.bytes / (double)usage.values
                                         : preflight->tap_bytes[tap] / (double)split_sum(preflight->sequences);
    return 0;
}

static int expect_bytes(const struct preflight_job *job, struct store *store, double *bytes,
                        struct error *error)
{
    const struct store_info *info = store_info(store);
    struct preflight preflight = {0};
    int result = 0;
    *bytes = 0;
    for (int tap = 0; tap < info->taps && result == 0; tap++) {
        uint64_t missing = 0;
        double each;
        for (int split = 0; split < SPLIT_COUNT; split++)
            missing +=
                store_sequences(store, (enum split)split) - store_progress(store, tap, (enum split)split);
        if (missing > 0 && (result = record_bytes(job, store, tap, &preflight, &each, error)) == 0)
            *bytes += each * (double)missing;
    }
    preflight_free(&preflight);
    return result;
}

int preflight_check_disk(const struct preflight_job *job, struct store *store, bool force, struct error *error)
{
    uint64_t available;
    double expected;
    if (disk_free(job->out, &available, error) < 0)
        return -1;
    if (plan_missing_bytes(store) <= available)
        return 0;
    if (expect_bytes(job, store, &expected, error) < 0)
        return -1;
    return cli_check_room(job->out, expected, (double)available, "choose fewer taps or tokens", force, error);
}

/* ---- printing ---- */

static double bits_per_value(const struct preflight *preflight, int tap)
{
    return preflight->tap_bytes[tap] * 8 /
           ((double)split_sum(preflight->sequences) * preflight->info.rows * preflight->info.hidden);
}

static double all_seconds(const struct preflight *preflight)
{
    return preflight->tokenizing + preflight->fitting + preflight->loading + preflight->computing;
}

static int print_json(const struct preflight_job *job, const struct preflight *preflight, struct error *error)
{
    const struct store_info *info = &preflight->info;
    json_t *taps = json_array();
    for (int tap = 0; tap < info->taps; tap++) {
        char name[TAP_NAME_SIZE];
        tap_name(info->tap[tap], info->layers, name);
        json_array_append_new(taps,
                              json_pack("{s:s, s:s, s:I, s:f}", "name", name, "codec", info->codec[tap].name,
                                        "bytes", (json_int_t)preflight->tap_bytes[tap], "bits_per_value",
                                        bits_per_value(preflight, tap)));
    }
    json_t *object = json_pack(
        "{s:s, s:I, s:I, s:s, s:o, s:o, s:i, s:b, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:b, s:f, s:f}", "store",
        job->out, "train_sequences", (json_int_t)preflight->sequences[SPLIT_TRAIN], "held_out_sequences",
        (json_int_t)preflight->sequences[SPLIT_HELD_OUT], "split", holding_name(job->holding), "before_text",
        texts_before(job->tokenize->rules.tokenizer, job->tokenize->list), "behind_text",
        texts_behind(job->tokenize->rules.tokenizer, job->tokenize->list), "end_of_text",
        (int)job->tokenize->rules.end, "exact", (int)preflight->exact, "pilot_sequences",
        (json_int_t)preflight->pilot, "taps", taps, "token_bytes", (json_int_t)preflight->token_bytes,
        "source_bytes", (json_int_t)preflight->source_bytes, "parameter_bytes",
        (json_int_t)preflight->parameter_bytes, "bytes", (json_int_t)preflight->bytes, "available_bytes",
        (json_int_t)preflight->available, "fits", preflight->bytes <= (double)preflight->available,
        "tokens_per_second", preflight->tokens_per_second, "seconds", all_seconds(preflight));
    return json_print("the forecast", object, stdout, error) < 0 ? -1 : cli_finish_output(error);
}

static void print_bytes(const char *name, const char *codec, double bytes)
{
    char text[32];
    printf("%-10s %-10s %10s\n", name, codec, format_bytes(bytes, text, sizeof text));
}

static int print_text(const struct preflight_job *job, const struct preflight *preflight, struct error *error)
{
    const struct store_info *info = &preflight->info;
    char text[32], texts[600];
    printf("%s: %s%" PRIu64 " training and %" PRIu64 " held-out sequences of %d tokens\n", job->out,
           preflight->exact ? "" : "about ", preflight->sequences[SPLIT_TRAIN],
           preflight->sequences[SPLIT_HELD_OUT], info->rows);
    printf("%s\n", holding_text(job->holding));
    texts_describe(&job->tokenize->rules, job->tokenize->list, texts, sizeof texts);
    printf("%s\n", texts);
    printf("%-10s %-10s %10s %11s\n", "tap", "codec", "bytes", "bits/value");
    for (int tap = 0; tap < info->taps; tap++) {
        char name[TAP_NAME_SIZE];
        tap_name(info->tap[tap], info->layers, name);
        printf("%-10s %-10s %10s %11.2f\n", name, info->codec[tap].name,
               format_bytes(preflight->tap_bytes[tap], text, sizeof text), bits_per_value(preflight, tap));
    }
    print_bytes("tokens", "", preflight->token_bytes);
    print_bytes("tensors", "", preflight->source_bytes);
    if (preflight->parameter_bytes > 0)
        print_bytes("parameters", "", preflight->parameter_bytes);
    print_bytes("all", "", preflight->bytes);
    printf("the disk has %s free: %s\n", format_bytes((double)preflight->available, text, sizeof text),
           preflight->bytes <= (double)preflight->available ? "it fits" : "it does not fit");
    printf("%.0f tokens/s, from a run of %" PRIu64 " sequences; ", preflight->tokens_per_second,
           preflight->pilot);
    printf("all takes about %s\n", format_duration(all_seconds(preflight), text, sizeof text));
    return cli_finish_output(error);
}

/* As the real run will, which fits to more than this one has. */
static void warn_few(const struct preflight_job *job, const struct preflight *preflight)
{
    const struct store_info *info = &preflight->info;
    for (int tap = 0; tap < info->taps && !job->parameters; tap++)
        if (info->codec[tap].codec->fit) {
            const uint64_t tokens = preflight->sequences[SPLIT_TRAIN] * (uint64_t)info->rows;
            pilot_warn_few(pilot_tokens(tokens, info->hidden), info->hidden);
            return;
        }
}

int preflight_print(const struct preflight_job *job, const struct preflight *preflight, bool json,
                    struct error *error)
{
    warn_few(job, preflight);
    return json ? print_json(job, preflight, error) : print_text(job, preflight, error);
}
