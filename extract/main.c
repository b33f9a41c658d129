/* extract: runs a model once over a corpus and stores its hidden states. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/pool.h"
#include "common/device/device.h"
#include "common/head/source.h"
#include "common/store/codecs.h"
#include "extract/codec_pilot.h"
#include "extract/doubts.h"
#include "extract/grow.h"
#include "extract/identity.h"
#include "extract/options.h"
#include "extract/plan.h"
#include "extract/preflight.h"
#include "extract/run.h"
#include "extract/scout_report.h"
#include "extract/summary.h"
#include "extract/tokenize.h"
#include "extract/write.h"

struct extraction {
    const struct extract_options *options;
    struct model *model;
    struct tokenizer *tokenizer; /* NULL: the corpus is token files, and the model's is not known */
    struct corpus_list list;
    struct tap *tap; /* [taps], ascending; the target at the end */
    struct codec_choice *codec; /* [taps] */
    int taps;
    int32_t end; /* the end-of-text id; -1: none is known, and none is needed */
    enum holding holding; /* what is held out */
    int threads;
    struct backend *backend;
    uint64_t memory; /* plan_memory */
    char numerics[NUMERICS_SIZE];
    json_t *manifest; /* of the store */
    struct store *store;
};

/* ---- what the command line means for this model ---- */

static int compare_taps(const void *a, const void *b)
{
    return tap_compare(*(const struct tap *)a, *(const struct tap *)b);
}

static int parse_taps(struct extraction *extraction, struct error *error)
{
    const int layers = model_config(extraction->model)->layers;
    char **names, name[TAP_NAME_SIZE];
    if (parse_list(extraction->options->taps, &names, &extraction->taps, error) < 0) {
        error_prefix(error, "--taps");
        return error_narrow(error, ERROR_USAGE);
    }
    int result = array_alloc(&extraction->tap, extraction->taps + 1, error); /* and the target */
    for (int i = 0; i < extraction->taps && result == 0; i++)
        if ((result = tap_parse(names[i], layers, &extraction->tap[i], error)) < 0)
            error_prefix(error, "--taps");
    cli_list_free(names, extraction->taps);
    if (result < 0)
        return error_narrow(error, ERROR_USAGE);
    qsort(extraction->tap, (size_t)extraction->taps, sizeof *extraction->tap, compare_taps);
    for (int i = 1; i < extraction->taps; i++) {
        if (tap_compare(extraction->tap[i - 1], extraction->tap[i]) == 0) {
            tap_name(extraction->tap[i], layers, name);
            return error_set_kind(error, ERROR_USAGE, "--taps: %s is named twice", name);
        }
    }
    return 0;
}

static int choose_codecs(struct extraction *extraction, struct error *error)
{
    if (array_alloc(&extraction->codec, extraction->taps, error) < 0)
        return -1;
    return codecs_parse(extraction->options->codec, extraction->tap, extraction->taps,
                        model_config(extraction->model)->layers, extraction->codec, error);
}

/* Four, evenly spaced, the last of them final. */
static int choose_taps(struct extraction *extraction, struct error *error)
{
    const int layers = model_config(extraction->model)->layers;
    if (array_alloc(&extraction->tap, 4 + 1, error) < 0) /* and the target */
        return -1;
    for (int i = 1; i <= 4; i++)
        if (layers * i / 4 > layers * (i - 1) / 4)
            extraction->tap[extraction->taps++].layer = layers * i / 4;
    return 0;
}

/* Behind final, unless it is not wanted. */
static void add_target(struct extraction *extraction)
{
    const struct tap final = {.layer = model_config(extraction->model)->layers};
    if (!extraction->options->no_target && tap_compare(extraction->tap[extraction->taps - 1], final) == 0)
        extraction->tap[extraction->taps++] = tap_target(final.layer);
}

/* A file that is written replaces nothing that is read. path NULL: there is none. */
static int check_file_out(const struct extract_options *options, const char *option, const char *path,
                          struct error *error)
{
    const struct path_list *lists[] = {&options->corpus, &options->held_out_corpus, &options->sums};
    if (!path)
        return 0;
    if (file_check_output(path, error) < 0 || file_check_apart(path, options->model, error) < 0)
        return error_prefix(error, "%s", option);
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++)
        for (size_t i = 0; i < lists[l]->count; i++) {
            const char *input = lists[l]->path[i];
            if ((path_is_directory(input) ? corpus_check_output(input, path, error)
                                          : file_check_apart(path, input, error)) < 0)
                return error_prefix(error, "%s", option);
        }
    return 0;
}

/* The file of parameters replaces nothing that is in the store. */
static int check_pilot_out(const struct extract_options *options, struct error *error)
{
    if (options->pilot_out && file_check_apart(options->pilot_out, options->out, error) < 0)
        return error_prefix(error, "--pilot-out");
    return check_file_out(options, "--pilot-out", options->pilot_out, error);
}

/* What is written must not be read as a part of the corpus, nor replace what is not a file. */
static int check_outputs(const struct extract_options *options, struct error *error)
{
    const struct path_list *lists[] = {&options->corpus, &options->held_out_corpus};
    if (options->scout)
        return check_file_out(options, "--out", options->out, error) < 0
                   ? -1
                   : check_file_out(options, "--svg", options->svg, error);
    if (directory_check(options->out, error) < 0)
        return error_prefix(error, "--out");
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++)
        for (size_t i = 0; i < lists[l]->count; i++)
            if (corpus_check_output(lists[l]->path[i], options->out, error) < 0)
                return error_prefix(error, "--out");
    return check_pilot_out(options, error);
}

static int open_corpus(struct extraction *extraction, struct error *error)
{
    const struct extract_options *options = extraction->options;
    for (size_t i = 0; i < options->corpus.count; i++)
        if (corpus_list_add(&extraction->list, options->corpus.path[i], false, options->token_bytes, error) < 0)
            return error_prefix(error, "--corpus");
    for (size_t i = 0; i < options->held_out_corpus.count; i++)
        if (corpus_list_add(&extraction->list, options->held_out_corpus.path[i], true, options->token_bytes,
                            error) < 0)
            return error_prefix(error, "--held-out-corpus");
    if (corpus_list_check_apart(&extraction->list, error) < 0 ||
        doubts_say(&extraction->list, options->field, error) < 0)
        return -1;
    return corpus_list_identify(&extraction->list, error);
}

/* A corpus of token files does without a tokenizer; if the model's can be had, it knows the end of text. */
static int open_tokenizer(struct extraction *extraction, struct error *error)
{
    struct error reason;
    const struct gguf *gguf = model_gguf(extraction->model);
    const bool needed = corpus_list_has_text(&extraction->list);
    if (!needed && extraction->options->end_of_text >= 0)
        return 0;
    if (tokenizer_open(gguf, gguf ? NULL : model_path(extraction->model), &extraction->tokenizer, &reason) ==
        0) {
        const char *warning = tokenizer_frame_warning(extraction->tokenizer);
        if (needed && warning)
            cli_say("warning: %s", warning);
        return 0;
    }
    if (!needed)
        return 0;
    *error = reason;
    if (reason.kind != ERROR_INPUT) /* a damaged file is to be mended, not gone around */
        return -1;
    return error_set(error,
                     "%s: a text needs the model's tokenizer, but a corpus of token ids does not: tokenize "
                     "it elsewhere and give raw little-endian ids (*.u16 or *.u32)",
                     reason.text);
}

static int choose_end(struct extraction *extraction, struct error *error)
{
    const struct model_config *config = model_config(extraction->model);
    int64_t end = extraction->options->end_of_text;
    if (end < 0 && extraction->tokenizer)
        end = tokenizer_end(extraction->tokenizer);
    if (end < 0)
        end = config->eos;
    if (end < 0 && !corpus_list_is_one_document(&extraction->list))
        return error_set_kind(error, ERROR_USAGE,
                              "%s: does not say which token ends a text: give it with --end-of-text",
                              model_path(extraction->model));
    if (end >= config->vocab)
        return error_set_kind(error, ERROR_USAGE,
                              "the end-of-text id %" PRId64 " is outside the model's vocabulary of %d", end,
                              config->vocab);
    extraction->end = (int32_t)end;
    return 0;
}

static struct corpus_rules corpus_rules(const struct extraction *extraction, double held_out)
{
    return (struct corpus_rules){.field = extraction->options->field,
                                 .held_out = held_out,
                                 .end = extraction->end,
                                 .vocab = model_config(extraction->model)->vocab,
                                 .tokenizer = extraction->tokenizer};
}

static int check_length(const struct extraction *extraction, struct error *error)
{
    const int rows = extraction->options->rows, context = model_config(extraction->model)->context;
    return rows <= context
               ? 0
               : error_set_kind(error, ERROR_USAGE,
                                "--seq-len: %d is more than the %d positions the model was made for", rows,
                                context);
}

static int open_inputs(struct extraction *extraction, struct error *error)
{
    const struct extract_options *options = extraction->options;
    const int threads = options->device.backend.threads;
    extraction->threads = threads > 0 ? threads : processor_count();
    if (check_outputs(options, error) < 0 || open_corpus(extraction, error) < 0)
        return -1;
    if (model_open(options->model, &extraction->model, error) < 0)
        return error_prefix(error, "--model");
    if (check_length(extraction, error) < 0 ||
        (options->taps ? parse_taps(extraction, error) : choose_taps(extraction, error)) < 0)
        return -1;
    add_target(extraction);
    if (choose_codecs(extraction, error) < 0 || open_tokenizer(extraction, error) < 0 ||
        choose_end(extraction, error) < 0)
        return -1;
    if (device_open(&options->device, &extraction->backend, error) < 0)
        return -1;
    extraction->memory = plan_memory(extraction->backend, options->memory);
    return 0;
}

/* ---- the store ---- */

static int make_manifest(struct extraction *extraction, struct error *error)
{
    codecs_numerics(backend_identity(extraction->backend), extraction->codec, extraction->taps,
                    extraction->numerics);
    const struct identity identity = {.options = extraction->options,
                                      .model = extraction->model,
                                      .tokenizer = extraction->tokenizer,
                                      .list = &extraction->list,
                                      .tap = extraction->tap,
                                      .codec = extraction->codec,
                                      .taps = extraction->taps,
                                      .end = extraction->end,
                                      .numerics = extraction->numerics};
    extraction->manifest = identity_manifest(&identity, error);
    return extraction->manifest ? 0 : -1;
}

static uint64_t most_sequences(const struct extract_options *options, enum split split)
{
    const uint64_t tokens = options->tokens[split];
    return tokens == UINT64_MAX ? tokens : tokens / (uint64_t)options->rows;
}

static struct tokenize_job tokenize_job(const struct extraction *extraction)
{
    const struct extract_options *options = extraction->options;
    const bool runs = extraction->holding == HOLDING_RUNS;
    return (struct tokenize_job){
        .store = extraction->store,
        .list = &extraction->list,
        .rules = corpus_rules(extraction, runs ? 0 : options->held_out),
        .most = {most_sequences(options, SPLIT_TRAIN), most_sequences(options, SPLIT_HELD_OUT)},
        .runs = runs ? options->held_out : 0,
        .threads = extraction->threads};
}

static void set_holding(struct extraction *extraction, enum holding holding)
{
    extraction->holding = holding;
    json_object_set_new(json_object_get(extraction->manifest, "corpus"), "split",
                        json_string(holding_name(holding)));
}

static int choose_holding(struct extraction *extraction, struct error *error)
{
    const struct extract_options *options = extraction->options;
    const struct corpus_rules rules = corpus_rules(extraction, options->held_out);
    enum holding holding = HOLDING_NONE;
    if (split_choose(&extraction->list, &rules, options->rows, extraction->threads, &holding, error) < 0)
        return -1;
    set_holding(extraction, holding);
    return 0;
}

static int create_store(struct extraction *extraction, struct error *error)
{
    return choose_holding(extraction, error) < 0
               ? -1
               : store_create(extraction->options->out, extraction->manifest, &extraction->store, error);
}

/* A store keeps its way of holding out. */
static int take_holding(struct extraction *extraction, const json_t *there, struct error *error)
{
    const char *name;
    if (json_get_string(extraction->options->out, json_object_get(there, "corpus"), "split", &name, error) < 0)
        return -1;
    if (holding_find(name) == HOLDING_COUNT)
        return error_set(error, "%s: \"split\" is \"%.40s\"", extraction->options->out, name);
    set_holding(extraction, holding_find(name));
    return 0;
}

static bool holds_records(const struct store *store)
{
    for (int tap = 0; tap < store_info(store)->taps; tap++)
        if (store_all_progress(store, tap) > 0)
            return true;
    return false;
}

/* A store of other options that has come to nothing makes room. */
static int begin_anew(struct extraction *extraction, struct error *error)
{
    const char *path = extraction->options->out;
    store_close(extraction->store);
    extraction->store = NULL;
    cli_say("%s: this store had no records and is begun anew", path);
    return codec_pilot_remove(path, error) < 0 || store_remove(path, error) < 0
               ? -1
               : create_store(extraction, error);
}

/* A new store, or the one that an earlier run of the same command began. */
static int open_store(struct extraction *extraction, struct error *error)
{
    const char *path = extraction->options->out;
    if (!store_exists(path))
        return create_store(extraction, error);
    if (store_open(path, STORE_WRITE, &extraction->store, error) < 0)
        return store_advise(error);
    const json_t *there = store_manifest(extraction->store);
    if (holds_records(extraction->store) && identity_keep_columns(there, extraction->manifest))
        cli_say(
            "%s: an earlier version began its target without columns that extract makes now (cache info shows "
            "them); it goes on without them",
            path);
    if (identity_compare(path, there, extraction->manifest, error) == 0)
        return take_holding(extraction, there, error);
    if (!holds_records(extraction->store))
        return begin_anew(extraction, error);
    if (!identity_may_have_grown(there, extraction->manifest) || take_holding(extraction, there, error) < 0)
        return -1;
    if (json_object_get(there, "split"))
        return error_set(
            error,
            "%s: the corpus has grown, but the store has the split that `cache split` gave it: take it "
            "away (cache split --held-out 0 --replace), run this again, and split it anew",
            path);
    const struct tokenize_job job = tokenize_job(extraction);
    return corpus_grow(&job, extraction->manifest, error);
}

/* ---- the two stages ---- */

static struct preflight_job preflight_job(const struct extraction *extraction,
                                          const struct tokenize_job *tokenize)
{
    return (struct preflight_job){.model = extraction->model,
                                  .backend = extraction->backend,
                                  .out = extraction->options->out,
                                  .manifest = extraction->manifest,
                                  .memory = extraction->memory,
                                  .parameters = extraction->options->pilot,
                                  .tokenize = tokenize,
                                  .holding = extraction->holding};
}

static int dry_run(struct extraction *extraction, struct error *error)
{
    if (choose_holding(extraction, error) < 0)
        return -1;
    const struct tokenize_job tokenize = tokenize_job(extraction);
    struct preflight_job job = preflight_job(extraction, &tokenize);
    struct preflight preflight;
    if (extraction->options->pilot_out) {
        if (preflight_fit(&job, extraction->options->pilot_out, error) < 0)
            return -1;
        job.parameters = extraction->options->pilot_out;
    }
    int result = preflight_run(&job, &preflight, error);
    if (result == 0)
        result = preflight_print(&job, &preflight, extraction->options->json, error);
    preflight_free(&preflight);
    return result;
}

static int check_disk(const struct extraction *extraction, struct error *error)
{
    const struct tokenize_job tokenize = tokenize_job(extraction);
    const struct preflight_job job = preflight_job(extraction, &tokenize);
    return preflight_check_disk(&job, extraction->store, extraction->options->force, error);
}

static int tokenize(struct extraction *extraction, struct tokenize_result *result, struct error *error)
{
    const struct tokenize_job job = tokenize_job(extraction);
    if (extraction->holding == HOLDING_RUNS)
        cli_say("%s", holding_text(extraction->holding));
    if (corpus_tokenize(&job, result, error) < 0)
        return -1;
    if (result->empty > 0)
        cli_say("%" PRIu64 " empty documents were left out", result->empty);
    return 0;
}

/* What a pilot has left serves nothing when all records are there. */
static int seal(struct extraction *extraction, struct error *error)
{
    const char *path = extraction->options->out;
    if (store_is_sealed(extraction->store))
        return 0;
    return codec_pilot_remove(path, error) < 0 ? -1 : store_seal(extraction->store, error);
}

/* The pilot, and behind it the run, which takes the pilot's states. */
static int compute(struct extraction *extraction, struct plan *plan, struct codec_pilot_result *pilot,
                   struct run_report *report, struct error *error)
{
    const struct codec_pilot_job job = {.model = extraction->model,
                                        .backend = extraction->backend,
                                        .store = extraction->store,
                                        .threads = extraction->threads,
                                        .memory = extraction->memory,
                                        .from = extraction->options->pilot,
                                        .to = extraction->options->pilot_out,
                                        .keep = true};
    struct run_job run = {.title = "extract",
                          .model = extraction->model,
                          .backend = extraction->backend,
                          .store = extraction->store,
                          .plan = plan};
    int result = codec_pilot_run(&job, pilot, error);
    run.kept = pilot->kept;
    if (result == 0)
        result = check_disk(extraction, error);
    if (result == 0)
        result = run_model(&run, report, error);
    kept_close(pilot->kept);
    pilot->kept = NULL;
    return result;
}

static int run(struct extraction *extraction, struct error *error)
{
    const struct extract_options *options = extraction->options;
    struct tokenize_result tokens = {0};
    struct run_report report;
    struct codec_pilot_result pilot;
    struct plan plan;
    const struct tokenize_job job = tokenize_job(extraction);
    const struct summary summary = {.store = extraction->store,
                                    .job = &job,
                                    .plan = &plan,
                                    .tokens = &tokens,
                                    .holding = extraction->holding,
                                    .pilot = &pilot,
                                    .run = &report,
                                    .numerics = extraction->numerics};
    const struct plan_machine machine =
        plan_machine(extraction->backend, extraction->threads, extraction->memory);
    if (plan_make(model_config(extraction->model), plan_file(extraction->model), store_info(extraction->store),
                  &machine, &plan, error) < 0 ||
        sources_store(extraction->model, extraction->store, error) < 0 ||
        tokenize(extraction, &tokens, error) < 0 || compute(extraction, &plan, &pilot, &report, error) < 0 ||
        seal(extraction, error) < 0)
        return -1;
    if (preflight_remove(options->out, error) < 0)
        return error_prefix(error, "the store is finished");
    return summary_print(&summary, options->json, error);
}

/* ---- --scout ---- */

static uint64_t most_held_out(const struct extract_options *options)
{
    const uint64_t least = (uint64_t)options->rows, wanted = SCOUT_HELD_OUT > least ? SCOUT_HELD_OUT : least;
    return options->tokens[SPLIT_HELD_OUT] == UINT64_MAX ? wanted / (uint64_t)options->rows
                                                         : most_sequences(options, SPLIT_HELD_OUT);
}

static int run_scout(struct extraction *extraction, struct error *error)
{
    const struct extract_options *options = extraction->options;
    struct scout_result result;
    if (choose_holding(extraction, error) < 0)
        return -1;
    const struct tokenize_job tokens = tokenize_job(extraction);
    const struct scout_job job = {.model = extraction->model,
                                  .backend = extraction->backend,
                                  .wish = {.list = &extraction->list,
                                           .rules = tokens.rules,
                                           .rows = options->rows,
                                           .most = {tokens.most[SPLIT_TRAIN], most_held_out(options)},
                                           .runs = tokens.runs,
                                           .shard = options->shard,
                                           .shards = options->shards,
                                           .threads = extraction->threads},
                                  .memory = extraction->memory,
                                  .manifest = extraction->manifest,
                                  .out = options->out,
                                  .sums = options->sums.path,
                                  .files = options->sums.count};
    if (options->dry_run)
        return scout_foretell(&job, options->json, error);
    int done = scout_run(&job, &result, error);
    if (done == 0)
        done = scout_print(&job, &result, options->json, error);
    if (done == 0 && options->svg)
        done = scout_draw(&result, options->svg, error);
    scout_free(&result);
    return done;
}

static void close_extraction(struct extraction *extraction)
{
    store_close(extraction->store);
    json_decref(extraction->manifest);
    backend_close(extraction->backend);
    tokenizer_close(extraction->tokenizer);
    model_close(extraction->model);
    corpus_list_free(&extraction->list);
    free(extraction->tap);
    free(extraction->codec);
}

int main(int argc, char **argv)
{
    struct extract_options options;
    struct extraction extraction = {.options = &options};
    struct error error;
    cli_start();
    extract_options_parse(argc, argv, &options);
    int result = open_inputs(&extraction, &error);
    if (result == 0)
        result = make_manifest(&extraction, &error);
    if (result == 0 && options.scout)
        result = run_scout(&extraction, &error);
    else if (result == 0 && options.dry_run)
        result = dry_run(&extraction, &error);
    else if (result == 0 && (result = open_store(&extraction, &error)) == 0)
        result = run(&extraction, &error);
    if (result < 0)
        cli_say("%s", error.text);
    close_extraction(&extraction);
    extract_options_free(&options);
    return cli_exit_code(result, &error);
}
