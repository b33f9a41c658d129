#include "cache/rewrite.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/base/pool.h"
#include "common/base/progress.h"
#include "common/device/device.h"
#include "common/pilot/pilot.h"
#include "common/store/codecs.h"
#include "common/store/copy.h"
#include "common/store/manifest.h"
#include "common/store/record.h"

#define COMMIT_SECONDS 0.5
#define BATCH_BYTES    ((size_t)32 << 20) /* of records that are coded at a time */
#define NOTE_BYTES     "bytes" /* extract's note: bytes of each tap's records */

#define SAMPLE 64 /* sequences that a tap's size is estimated from */

/* A record that is coded anew. */
struct coding {
    const struct coder *coder;
    int tap;
    struct sequence sequence;
    struct record record;
    struct error error;
    bool failed;
};

/* What a thread codes with. */
struct hand {
    struct shards_reader *reader;
    struct codec_worker *worker;
    float *states; /* [rows, hidden] */
};

struct job {
    const struct rewrite *rewrite;
    struct shards *from;
    struct shards_reader *reader;
    const struct store_info *info; /* of `from` */
    struct store *to;
    bool *recoded; /* [taps] */
    struct string *parameters; /* [taps] of the new codecs; empty: it has none, or `to` has them */
    uint64_t *bytes; /* [taps] of records */
    double committed; /* clock_seconds */

    struct backend *backend; /* NULL unless a codec asks for a KL */
    struct pool *pool; /* NULL: nothing is recoded */
    struct hand *hands; /* [threads] */
    struct coding *codings; /* [coding_capacity] */
    size_t coding_count, coding_capacity;
    int batch; /* sequences */
    struct progress progress;
    uint64_t done, total; /* sequences */
};

/* ---- the new store ---- */

/* Records that are coded anew are packed with this machine's library. */
static void name_libraries(const struct job *job, json_t *manifest)
{
    const char *numerics = json_string_value(json_object_get(manifest, "numerics"));
    char text[NUMERICS_SIZE];
    if (!numerics)
        return;
    codecs_numerics(numerics, job->rewrite->codec, job->info->taps, text);
    json_object_set_new(manifest, "numerics", json_string(text));
}

/* Shard 0's manifest, as of one store, with the new codecs. "recoded" names the codecs before. */
static json_t *make_manifest(const struct job *job, struct error *error)
{
    const struct codec_choice *codec = job->rewrite->codec;
    json_t *manifest = json_deep_copy(shards_manifest(job->from)), *before = json_array(), *taps, *object;
    size_t i;
    json_object_del(manifest, "shard");
    taps = json_object_get(manifest, "taps");
    json_array_foreach(taps, i, object)
    {
        struct error ignored;
        struct tap tap;
        const char *name = json_string_value(json_object_get(object, "name"));
        json_array_append_new(before,
                              json_pack("{s:s, s:O}", "name", name, "codec", json_object_get(object, "codec")));
        if (codec && tap_parse_stored(name, job->info->layers, &tap, &ignored) == 0)
            json_object_set_new(object, "codec",
                                json_string(codec[shards_find_tap(job->from, tap, &ignored)].name));
    }
    if (codec && !json_object_get(manifest, "recoded"))
        json_object_set(manifest, "recoded", before);
    if (codec)
        name_libraries(job, manifest);
    if (!manifest || json_array_size(before) != json_array_size(taps)) {
        json_decref(manifest);
        manifest = NULL;
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory for the manifest");
    }
    json_decref(before);
    return manifest;
}

static int open_new(struct job *job, struct error *error)
{
    const char *path = job->rewrite->out;
    json_t *manifest = make_manifest(job, error);
    if (!manifest)
        return -1;
    int result;
    if (!store_exists(path))
        result = store_create(path, manifest, &job->to, error);
    else if ((result = store_open(path, STORE_WRITE, &job->to, error)) == 0 &&
             (result = manifest_compare(store_manifest(job->to), manifest, NULL, error)) < 0)
        error_prefix(error, "%s: there is another store", path);
    json_decref(manifest);
    return result;
}

static uint64_t fitted_sequences(const struct job *job)
{
    return pilot_sequences(job->info, shards_sequences(job->from, SPLIT_TRAIN),
                           store_sequences(shards_store(job->from, 0), SPLIT_TRAIN));
}

static void warn_few(const struct job *job)
{
    for (int tap = 0; tap < job->info->taps; tap++)
        if (job->recoded[tap] && job->rewrite->codec[tap].codec->fit) {
            pilot_warn_few(fitted_sequences(job) * (uint64_t)job->info->rows, job->info->hidden);
            return;
        }
}

/* Parameters, fitted to sequences spread over the first shard. */
static int fit_tap(struct job *job, int tap, struct error *error)
{
    struct store *from = shards_store(job->from, 0);
    const struct store_info *info = job->info;
    struct pilot pilot = {
        .store = from, .tap = tap, .sequences = fitted_sequences(job), .choice = &job->rewrite->codec[tap]};
    struct codec_setting setting;
    double kl;
    int result = 0;
    if (pilot.choice->goal == CODEC_KL) {
        const struct device_options options = {.name = "auto", .backend = {.threads = job->rewrite->threads}};
        if (!job->backend)
            result = device_open(&options, &job->backend, error);
        if (result == 0)
            result = meter_open(from, job->backend, info->rows, &pilot.meter, error);
    }
    if (result == 0)
        result = pilot_fit(&pilot, &job->parameters[tap], &setting, &kl, error);
    meter_close(pilot.meter);
    return result;
}

/* Parameters of the old store, or of a new codec. Nothing where the new store has them already. */
static int find_parameters(struct job *job, int tap, struct error *error)
{
    void *bytes = NULL;
    size_t size;
    if (job->to && store_get_parameters(job->to, tap, &bytes, &size, error) < 0)
        return -1;
    const bool there = bytes != NULL;
    free(bytes);
    if (there)
        return 0;
    if (job->recoded[tap])
        return job->rewrite->codec[tap].codec->fit ? fit_tap(job, tap, error) : 0;
    if (store_get_parameters(shards_store(job->from, 0), tap, &bytes, &size, error) < 0)
        return -1;
    if (bytes)
        string_append(&job->parameters[tap], bytes, size);
    free(bytes);
    return string_failed(&job->parameters[tap], error) ? -1 : 0;
}

/* Puts what comes before the first sequence. After a kill it is put again. */
static int put_first(struct job *job, struct error *error)
{
    struct store *first = shards_store(job->from, 0);
    if (store_all_sequences(job->to) > 0)
        return 0;
    if (copy_sources(job->to, first, error) < 0 || store_begin(job->to, error) < 0 ||
        copy_notes(job->to, first, error) < 0)
        return -1;
    for (int tap = 0; tap < job->info->taps; tap++) {
        struct string *parameters = &job->parameters[tap];
        if (parameters->length > 0 &&
            store_put_parameters(job->to, tap, parameters->data, parameters->length, error) < 0)
            return -1;
        string_free(parameters);
    }
    return store_commit(job->to, error);
}

static int read_bytes(struct job *job, struct error *error)
{
    void *note;
    size_t size;
    if (store_get_note(job->to, NOTE_BYTES, &note, &size, error) < 0)
        return -1;
    if (note && size == (size_t)job->info->taps * sizeof *job->bytes &&
        store_sequences(job->to, SPLIT_TRAIN) > 0)
        memcpy(job->bytes, note, size);
    free(note);
    return 0;
}

/* ---- coding ---- */

static int code_record(const struct job *job, struct hand *hand, struct coding *coding)
{
    const struct record_key key = record_key(job->info, coding->coder, coding->tap, coding->sequence);
    struct record_states states = {.states = hand->states};
    struct error *error = &coding->error;
    if ((key.columns
             ? shards_reader_target_columns(hand->reader, coding->sequence, &states.columns, hand->states,
                                            error)
             : shards_reader_states(hand->reader, coding->tap, coding->sequence, hand->states, error)) < 0)
        return -1;
    return record_encode(hand->worker, &key, &states, &coding->record, error);
}

static void code_one(void *context, int number, int worker)
{
    struct job *job = context;
    struct coding *coding = &job->codings[number];
    coding->failed = code_record(job, &job->hands[worker], coding) < 0;
}

static void add_coding(struct job *job, const struct coder *coder, int tap, struct sequence sequence)
{
    struct coding *coding = &job->codings[job->coding_count++];
    coding->coder = coder;
    coding->tap = tap;
    coding->sequence = sequence;
}

/* Codes what was added. */
static int code_added(struct job *job, struct error *error)
{
    pool_run(job->pool, (int)job->coding_count, code_one, job);
    for (size_t i = 0; i < job->coding_count; i++)
        if (job->codings[i].failed) {
            *error = job->codings[i].error;
            return -1;
        }
    return 0;
}

static int code_batch(struct job *job, enum split split, uint64_t first, uint64_t count, struct error *error)
{
    const struct coder *coder;
    job->coding_count = 0;
    for (uint64_t i = 0; i < count; i++)
        for (int tap = 0; tap < job->info->taps; tap++) {
            if (!job->recoded[tap])
                continue;
            if (store_coder(job->to, tap, &coder, error) < 0)
                return -1;
            add_coding(job, coder, tap, (struct sequence){split, first + i});
        }
    return code_added(job, error);
}

static int open_hands(struct job *job, struct error *error)
{
    const size_t values = (size_t)job->info->rows * (size_t)job->info->hidden;
    size_t taps = 0;
    for (int tap = 0; tap < job->info->taps; tap++)
        taps += job->recoded[tap];
    const size_t fitting = BATCH_BYTES / (values * sizeof(float) * (taps ? taps : 1));
    job->batch = fitting < 1 ? 1 : fitting > 256 ? 256 : (int)fitting;
    if (taps == 0)
        return 0;
    job->coding_capacity = (size_t)job->batch * taps;
    if (array_alloc(&job->codings, job->coding_capacity, error) < 0 ||
        pool_create(job->rewrite->threads, &job->pool, error) < 0 ||
        array_alloc(&job->hands, pool_threads(job->pool), error) < 0)
        return -1;
    for (int i = 0; i < pool_threads(job->pool); i++)
        if (shards_reader_open(job->from, &job->hands[i].reader, error) < 0 ||
            codec_worker_create(&job->hands[i].worker, error) < 0 ||
            array_alloc(&job->hands[i].states, values, error) < 0)
            return -1;
    return 0;
}

/* ---- writing ---- */

static int commit(struct job *job, struct error *error)
{
    for (int tap = 0; tap < job->info->taps; tap++)
        for (enum split split = 0; split < SPLIT_COUNT; split++)
            if (store_set_progress(job->to, tap, split, store_sequences(job->to, split), error) < 0)
                return -1;
    if (store_put_note(job->to, NOTE_BYTES, job->bytes, (size_t)job->info->taps * sizeof *job->bytes, error) <
        0)
        return -1;
    job->committed = clock_seconds();
    return store_commit(job->to, error);
}

/* *next: the next coded record, if a tap is recoded. */
static int put_sequence(struct job *job, struct sequence sequence, struct coding **next, struct error *error)
{
    struct sequence stored = sequence;
    struct reader *from = shards_reader_of(job->reader, &stored);
    size_t size;
    if (copy_tokens(job->to, from, sequence, error) < 0)
        return -1;
    for (int tap = 0; tap < job->info->taps; tap++) {
        if (job->recoded[tap]) {
            size = (*next)->record.size;
            if (store_put_record(job->to, tap, sequence, (*next)->record.bytes, size, error) < 0)
                return -1;
            ++*next;
        } else if (copy_record(job->to, from, tap, sequence, &size, error) < 0)
            return -1;
        job->bytes[tap] += size;
    }
    return 0;
}

static int put_batch(struct job *job, enum split split, uint64_t first, uint64_t count, struct error *error)
{
    struct coding *next = job->codings;
    for (uint64_t i = 0; i < count; i++) {
        if (put_sequence(job, (struct sequence){split, first + i}, &next, error) < 0)
            return -1;
        if (store_commit_due(job->to) || clock_seconds() - job->committed >= COMMIT_SECONDS)
            if (commit(job, error) < 0 || store_begin(job->to, error) < 0)
                return -1;
    }
    job->done += count;
    progress_update(&job->progress, job->done);
    return 0;
}

static int put_split(struct job *job, enum split split, struct error *error)
{
    const uint64_t end = shards_sequences(job->from, split);
    for (uint64_t first = store_sequences(job->to, split); first < end;) {
        const uint64_t left = end - first, count = left < (uint64_t)job->batch ? left : (uint64_t)job->batch;
        if (cli_interrupted()) {
            if (commit(job, error) < 0)
                return -1;
            return error_set_kind(
                error, ERROR_INTERRUPTED,
                "interrupted; what was written is kept: give the command again, and it goes on");
        }
        if ((job->pool && code_batch(job, split, first, count, error) < 0) ||
            put_batch(job, split, first, count, error) < 0)
            return -1;
        first += count;
    }
    return 0;
}

static int put_all(struct job *job, struct error *error)
{
    job->done = store_all_sequences(job->to);
    progress_start(&job->progress, job->rewrite->name, "sequences", job->total);
    job->progress.first = job->done;
    if (store_begin(job->to, error) < 0)
        return -1;
    if (put_split(job, SPLIT_TRAIN, error) < 0 || put_split(job, SPLIT_HELD_OUT, error) < 0)
        return -1;
    progress_finish(&job->progress);
    return commit(job, error) < 0 ? -1 : store_seal(job->to, error);
}

/* ---- size ---- */

/* Bytes on disk that a recoded tap comes to: those of records spread over both splits, coded, times how many
 * there will be. */
static int forecast_tap(struct job *job, int tap, double *bytes, struct error *error)
{
    const struct codec *codec = job->rewrite->codec[tap].codec;
    const struct string *parameters = &job->parameters[tap];
    const uint64_t count = job->total < SAMPLE ? job->total : SAMPLE;
    const uint64_t train = shards_sequences(job->from, SPLIT_TRAIN);
    struct coder *coder = NULL;
    double sum = 0;
    int result = 0;
    if (parameters->length > 0 || !job->to)
        result = coder_create(codec, parameters->data, parameters->length, job->info->hidden, &coder, error);
    const struct coder *used = coder;
    if (result == 0 && !coder)
        result = store_coder(job->to, tap, &used, error);
    job->coding_count = 0;
    for (uint64_t i = 0; i < count && result == 0; i++) {
        const uint64_t number = pilot_index(i, count, job->total);
        add_coding(job, used, tap,
                   number < train ? (struct sequence){SPLIT_TRAIN, number}
                                  : (struct sequence){SPLIT_HELD_OUT, number - train});
        if (job->coding_count < job->coding_capacity && i + 1 < count)
            continue;
        result = code_added(job, error);
        for (size_t j = 0; j < job->coding_count; j++)
            sum += store_value_bytes(job->codings[j].record.size);
        job->coding_count = 0;
    }
    coder_destroy(coder);
    *bytes = count > 0 ? sum / (double)count * (double)job->total : 0;
    return result;
}

/* Bytes on disk of what is copied, from all shards. */
static int measure_copied(const struct job *job, int tap, double *bytes, struct error *error)
{
    *bytes = 0;
    for (int i = 0; i < shards_count(job->from); i++) {
        struct store_usage usage;
        if (store_measure(shards_store(job->from, i), tap, &usage, error) < 0)
            return -1;
        *bytes += (double)usage.bytes;
    }
    return 0;
}

static int forecast(struct job *job, double *bytes, struct error *error)
{
    struct store_usage usage = {0}; /* of parameters that are there already */
    if (job->to && store_measure(job->to, STORE_PARAMETERS, &usage, error) < 0)
        return -1;
    *bytes = (double)usage.bytes;
    for (int tap = STORE_SOURCE; tap < job->info->taps; tap++) {
        double more;
        if ((tap >= 0 && job->recoded[tap] ? forecast_tap(job, tap, &more, error)
                                           : measure_copied(job, tap, &more, error)) < 0)
            return -1;
        *bytes += more;
        if (tap >= 0 && job->parameters[tap].length > 0)
            *bytes += STORE_PARAMETERS_COPIES * store_value_bytes(job->parameters[tap].length);
    }
    return 0;
}

/* Says how large the store will be. An error when the disk is too small. */
static int check_space(struct job *job, struct error *error)
{
    const struct rewrite *rewrite = job->rewrite;
    uint64_t available, there = 0;
    double all;
    char text[32], free_text[32];
    if (directory_check(rewrite->out, error) < 0 || forecast(job, &all, error) < 0 ||
        disk_free(rewrite->out, &available, error) < 0 ||
        (job->to && store_file_bytes(job->to, &there, error) < 0))
        return -1;
    format_bytes((double)available, free_text, sizeof free_text);
    printf("%s: the store will have about %s; the disk has %s free\n", rewrite->out,
           format_bytes(all, text, sizeof text), free_text);
    if (fflush(stdout) != 0)
        return error_system(error, "standard output");
    return cli_check_room(rewrite->out, all - (double)there, (double)available,
                          rewrite->codec ? "choose other codecs" : NULL, rewrite->force, error);
}

/* ---- life ---- */

static void close_job(struct job *job)
{
    for (int i = 0; job->hands && i < pool_threads(job->pool); i++) {
        shards_reader_close(job->hands[i].reader);
        codec_worker_destroy(job->hands[i].worker);
        free(job->hands[i].states);
    }
    for (size_t i = 0; i < job->coding_capacity && job->codings; i++)
        free(job->codings[i].record.bytes);
    free(job->hands);
    free(job->codings);
    for (int tap = 0; tap < job->info->taps && job->parameters; tap++)
        string_free(&job->parameters[tap]);
    free(job->parameters);
    free(job->recoded);
    free(job->bytes);
    backend_close(job->backend);
    pool_destroy(job->pool);
    shards_reader_close(job->reader);
    store_close(job->to);
}

static int open_job(struct job *job, struct error *error)
{
    const struct rewrite *rewrite = job->rewrite;
    if (shards_check_finished(job->from, error) < 0)
        return -1;
    if (array_alloc(&job->recoded, job->info->taps, error) < 0 ||
        array_alloc(&job->parameters, job->info->taps, error) < 0 ||
        array_alloc(&job->bytes, job->info->taps, error) < 0)
        return -1;
    for (int tap = 0; tap < job->info->taps; tap++)
        job->recoded[tap] = rewrite->codec && strcmp(rewrite->codec[tap].name, job->info->codec[tap].name) != 0;
    if (store_exists(rewrite->out) && open_new(job, error) < 0)
        return -1;
    if (job->to && store_is_sealed(job->to))
        return 0;
    if (open_hands(job, error) < 0 || shards_reader_open(job->from, &job->reader, error) < 0)
        return -1;
    if (!job->to)
        warn_few(job);
    for (int tap = 0; tap < job->info->taps; tap++)
        if (find_parameters(job, tap, error) < 0)
            return -1;
    if (check_space(job, error) < 0 || (!job->to && open_new(job, error) < 0))
        return -1;
    return read_bytes(job, error);
}

int rewrite_store(const struct rewrite *rewrite, struct shards *from, struct error *error)
{
    struct job job = {.rewrite = rewrite, .from = from, .info = shards_info(from)};
    shards_forget_split(from); /* it stays in the manifest, and so do the stored numbers */
    job.total = shards_all_sequences(from);
    int result = shards_check_apart(from, rewrite->out, error);
    if (result == 0)
        result = open_job(&job, error);
    if (result == 0 && !store_is_sealed(job.to)) {
        result = put_first(&job, error);
        if (result == 0)
            result = put_all(&job, error);
    }
    if (result == 0)
        printf("%s: %" PRIu64 " train and %" PRIu64 " held-out sequences, finished\n", rewrite->out,
               store_sequences(job.to, SPLIT_TRAIN), store_sequences(job.to, SPLIT_HELD_OUT));
    close_job(&job);
    return result;
}
