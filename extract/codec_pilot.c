#include "extract/codec_pilot.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/pilot/pilot.h"
#include "common/store/manifest.h"
#include "extract/pilot_file.h"
#include "extract/run.h"

#define FOLDER "pilot"

/* ---- what is wanted ---- */

/* -1: asking failed. */
static int lacks_parameters(struct store *store, int tap, struct error *error)
{
    void *bytes;
    size_t size;
    if (!store_info(store)->codec[tap].codec->fit)
        return 0;
    if (store_get_parameters(store, tap, &bytes, &size, error) < 0)
        return -1;
    free(bytes);
    return !bytes;
}

/* lack [taps]: those whose parameters are still to be made. Returns how many. */
static int find_lacking(struct store *store, bool *lack, struct error *error)
{
    int count = 0;
    for (int tap = 0; tap < store_info(store)->taps; tap++) {
        const int lacks = lacks_parameters(store, tap, error);
        if (lacks < 0)
            return -1;
        lack[tap] = lacks > 0;
        count += lacks;
    }
    return count;
}

/* ---- from a file ---- */

static int take_from_file(const struct pilot_file *file, struct store *store, int tap, struct error *error)
{
    const void *bytes;
    void *there;
    size_t size, there_size;
    if (!store_info(store)->codec[tap].codec->fit)
        return 0;
    if (pilot_file_find(file, store, tap, &bytes, &size, error) < 0 ||
        store_get_parameters(store, tap, &there, &there_size, error) < 0)
        return -1;
    int result = 0;
    if (!there)
        result = store_put_parameters(store, tap, bytes, size, error);
    else if (there_size != size || memcmp(there, bytes, size) != 0)
        result = error_set_kind(error, ERROR_USAGE,
                                "%s: was begun with other parameters than --pilot names: give the same file",
                                store_path(store));
    free(there);
    return result;
}

static int take_all_from_file(const struct codec_pilot_job *job, struct error *error)
{
    struct pilot_file *file;
    if (pilot_file_open(job->from, job->store, &file, error) < 0)
        return error_prefix(error, "--pilot");
    int result = store_is_sealed(job->store) ? 0 : store_begin(job->store, error);
    for (int tap = 0; tap < store_info(job->store)->taps && result == 0; tap++)
        result = take_from_file(file, job->store, tap, error);
    pilot_file_close(file);
    return result == 0 && !store_is_sealed(job->store) ? store_commit(job->store, error) : result;
}

/* ---- the pilot's store ---- */

/* Its path; free() it. A link is refused: the files behind it would be removed with the pilot. */
static char *own_path(const char *store, struct error *error)
{
    char *path = path_join(store, FOLDER, error);
    if (!path || !path_is_link(path))
        return path;
    error_set(
        error,
        "%s: is a symbolic link, but a pilot needs this name. Remove the link; the same command then goes on",
        path);
    free(path);
    return NULL;
}

/* Whether the run will take the states from here: it pays, and the disk has room for them beside the store. */
static int choose_keeping(const struct codec_pilot_job *job, uint64_t sequences, bool *keep,
                          struct error *error)
{
    const uint64_t all = store_sequences(job->store, SPLIT_TRAIN);
    struct store_info info = {0};
    uint64_t available, wanted = plan_missing_bytes(job->store);
    *keep = false;
    if (!job->keep || !kept_pays(sequences, all))
        return 0;
    json_t *manifest = kept_manifest(job->store, sequences, true, NULL, error);
    int result = manifest ? manifest_parse("manifest", manifest, &info, error) : -1;
    for (int tap = 0; tap < info.taps && result == 0; tap++)
        wanted += plan_tap_bytes(&info, tap, sequences);
    if (result == 0)
        result = disk_free(store_path(job->store), &available, error);
    *keep = result == 0 && wanted <= available;
    manifest_free(&info);
    json_decref(manifest);
    return result;
}

/* What an earlier run has left is gone on with when it is of the same kind. */
static int open_own_store(const char *path, const json_t *manifest, struct store **own, struct error *error)
{
    struct error reason;
    if (store_exists(path)) {
        if (store_open(path, STORE_WRITE, own, &reason) == 0 &&
            manifest_compare(store_manifest(*own), manifest, NULL, &reason) == 0)
            return 0;
        store_close(*own);
        if (store_remove(path, error) < 0)
            return -1;
    }
    return store_create(path, manifest, own, error);
}

static int copy_tokens(struct store *store, struct store *own, uint64_t sequences, struct error *error)
{
    const struct store_info *info = store_info(store);
    struct reader *reader = NULL;
    int32_t *ids = NULL;
    int result = -1;
    if (store_sequences(own, SPLIT_TRAIN) > 0)
        return 0;
    if (array_alloc(&ids, info->rows + 1, error) < 0 || reader_open(store, &reader, error) < 0 ||
        store_begin(own, error) < 0)
        goto done;
    for (uint64_t i = 0; i < sequences; i++) {
        const uint64_t number = pilot_index(i, sequences, store_sequences(store, SPLIT_TRAIN));
        const struct sequence sequence = store_sequence(info, SPLIT_TRAIN, number);
        if (reader_tokens(reader, sequence, ids, error) < 0 ||
            store_put_tokens(own, SPLIT_TRAIN, ids, NULL, 0, error) < 0)
            goto done;
    }
    result = store_commit(own, error);
done:
    reader_close(reader);
    free(ids);
    return result;
}

static int check_disk(const struct store *own, struct error *error)
{
    const uint64_t wanted = plan_missing_bytes(own);
    uint64_t available;
    char most[32], there[32];
    if (disk_free(store_path(own), &available, error) < 0)
        return -1;
    if (wanted <= available)
        return 0;
    return error_set_kind(error, ERROR_NO_SPACE,
                          "%s: needs up to %s for a while, but only %s of the disk are free: make room",
                          store_path(own), format_bytes((double)wanted, most, sizeof most),
                          format_bytes((double)available, there, sizeof there));
}

static int compute_states(const struct codec_pilot_job *job, struct store *own, uint64_t *tokens,
                          struct error *error)
{
    struct plan plan;
    struct run_report report;
    const struct run_job run = {
        .title = "pilot", .model = job->model, .backend = job->backend, .store = own, .plan = &plan};
    const struct plan_machine machine = plan_machine(job->backend, job->threads, job->memory);
    if (plan_make(model_config(job->model), plan_file(job->model), store_info(own), &machine, &plan, error) <
            0 ||
        check_disk(own, error) < 0)
        return -1;
    const int result = run_model(&run, &report, error) < 0 ? kept_advise(own, error) : 0;
    memory_give_back(); /* all layers were there; the run loads them anew */
    *tokens = report.tokens;
    return result;
}

/* ---- fitting ---- */

/* Fits tap `tap` of the store, which is `own_tap` in the pilot's, and puts its parameters. They are fitted to bf16, which
 * is what the pilot's store has where states are not kept. */
static int fit_tap(const struct codec_pilot_job *job, int tap, struct store *own, int own_tap,
                   struct error *error)
{
    const struct store_info *info = store_info(job->store);
    struct string parameters = {0};
    struct codec_setting setting;
    struct pilot pilot = {.store = own,
                          .tap = own_tap,
                          .sequences = store_sequences(own, SPLIT_TRAIN),
                          .choice = &info->codec[tap],
                          .round = true};
    char name[TAP_NAME_SIZE];
    double kl;
    if (pilot.choice->goal == CODEC_KL &&
        meter_open(job->store, job->backend, info->rows, &pilot.meter, error) < 0)
        return -1;
    tap_name(info->tap[tap], info->layers, name);
    int result = pilot_fit(&pilot, &parameters, &setting, &kl, error);
    if (result == 0)
        result = store_put_parameters(job->store, tap, parameters.data, parameters.length, error);
    else if (error->kind == ERROR_DAMAGED)
        kept_advise(own, error); /* it names the tap */
    else
        error_prefix(error, "tap %s", name);
    if (result == 0 && !job->alone) {
        char loss[64] = "";
        if (pilot.meter)
            snprintf(loss, sizeof loss, ", the head loses %.2g nats a token", kl);
        cli_say("pilot: tap %s, %s: spacing %.4g, %.2f bits a value%s", name, pilot.choice->name,
                setting.spacing, setting.bits, loss);
    }
    meter_close(pilot.meter);
    string_free(&parameters);
    return result;
}

static int fit_all(const struct codec_pilot_job *job, const bool *lack, struct store *own, struct error *error)
{
    if (store_begin(job->store, error) < 0)
        return -1;
    for (int tap = 0; tap < store_info(job->store)->taps; tap++) {
        if (!lack[tap])
            continue;
        const int own_tap = store_find_tap(own, store_info(job->store)->tap[tap], error);
        if (own_tap < 0 || fit_tap(job, tap, own, own_tap, error) < 0)
            return -1;
    }
    return store_commit(job->store, error);
}

static int make_parameters(const struct codec_pilot_job *job, const char *path, const bool *lack,
                           struct codec_pilot_result *made, struct error *error)
{
    const struct store_info *info = store_info(job->store);
    const uint64_t there = store_sequences(job->store, SPLIT_TRAIN);
    const uint64_t sequences = job->sequences > 0 ? job->sequences : pilot_sequences(info, there, there);
    struct store *own = NULL;
    bool keep;
    int result = -1;
    json_t *manifest = choose_keeping(job, sequences, &keep, error) == 0
                           ? kept_manifest(job->store, sequences, keep, lack, error)
                           : NULL;
    if (!manifest)
        goto done;
    if (!job->alone) {
        cli_say("pilot: %" PRIu64 " sequences to fit the codecs to", sequences);
        pilot_warn_few(sequences * (uint64_t)info->rows, info->hidden);
    }
    if (open_own_store(path, manifest, &own, error) < 0 || copy_tokens(job->store, own, sequences, error) < 0 ||
        compute_states(job, own, &made->tokens, error) < 0 || fit_all(job, lack, own, error) < 0)
        error_prefix(error, "pilot");
    else
        result = 0;
    if (result == 0 && keep)
        result = kept_open(own, job->store, &made->kept, error);
    else
        store_close(own);
    if (result == 0 && !keep)
        result = store_remove(path, error);
done:
    json_decref(manifest);
    return result;
}

/* The states of a pilot that an earlier run made and did not come to use. What is of no use is removed: its sequences run
 * through the model again. */
static int find_kept(const struct codec_pilot_job *job, const char *path, struct kept **kept,
                     struct error *error)
{
    struct error reason;
    struct store *own;
    uint64_t available;
    if (!file_exists(path))
        return 0;
    if (disk_free(path, &available, error) < 0)
        return -1;
    if (store_is_sealed(job->store) || plan_missing_bytes(job->store) > available ||
        store_open(path, STORE_WRITE, &own, &reason) < 0 || kept_open(own, job->store, kept, &reason) < 0)
        return store_remove(path, error);
    return 0;
}

int codec_pilot_remove(const char *store, struct error *error)
{
    char *path = own_path(store, error);
    int result = !path ? -1 : file_exists(path) ? store_remove(path, error) : 0;
    free(path);
    return result;
}

/* --pilot and --pilot-out make no sense for codecs without parameters. */
static int check_wanted(const struct codec_pilot_job *job, struct error *error)
{
    const struct store_info *info = store_info(job->store);
    for (int tap = 0; tap < info->taps; tap++)
        if (info->codec[tap].codec->fit)
            return 0;
    return job->from || job->to
               ? error_set_kind(error, ERROR_USAGE,
                                "--pilot%s: no tap is stored with a codec that has parameters (klt)",
                                job->to ? "-out" : "")
               : 0;
}

int codec_pilot_run(const struct codec_pilot_job *job, struct codec_pilot_result *made, struct error *error)
{
    const double started = clock_seconds();
    bool *lack = NULL;
    *made = (struct codec_pilot_result){0};
    char *path = check_wanted(job, error) == 0 ? own_path(store_path(job->store), error) : NULL;
    int result = -1;
    if (!path)
        return -1;
    if (job->from) {
        result = take_all_from_file(job, error);
        goto done;
    }
    if (array_alloc(&lack, store_info(job->store)->taps, error) < 0)
        goto done;
    const int lacking = find_lacking(job->store, lack, error);
    result = lacking < 0 ? -1 : 0;
    if (lacking > 0 && store_info(job->store)->shards > 1 && !job->to && !job->alone)
        result = error_set_kind(
            error, ERROR_USAGE,
            "all shards of a store must have the same parameters of their codecs. Fit these once: give this "
            "command "
            "without --shard, but with --dry-run --pilot-out FILE. Then give every shard --pilot FILE");
    else if (lacking > 0) {
        result = make_parameters(job, path, lack, made, error);
        made->seconds = clock_seconds() - started;
    } else if (lacking == 0 && job->keep)
        result = find_kept(job, path, &made->kept, error);
    if (result == 0 && job->to)
        result = pilot_file_write(job->to, job->store, error);
done:
    free(lack);
    free(path);
    return result;
}
