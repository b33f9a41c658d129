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
#include "common/pilot/pilot.h"
#include "common/store/copy.h"
#include "common/store/manifest.h"

#define COMMIT_BYTES   ((size_t)64 << 20)
#define COMMIT_SECONDS 0.5
#define BATCH_BYTES    ((size_t)32 << 20) /* of records that are coded at a time */
#define NOTE_BYTES     "bytes" /* extract's: bytes of each tap's records */

/* A record that is coded anew. */
struct coding {
    int tap;
    struct sequence sequence;
    unsigned char *record;
    size_t capacity, size;
    struct error error;
    bool failed;
};

/* What a thread codes with. */
struct hand {
    struct shards_reader *reader;
    struct codec_worker *worker;
    float *states; /* [rows, hidden] */
    struct target_row *values; /* [rows] */
};

struct job {
    const struct rewrite *rewrite;
    struct shards *from;
    struct shards_reader *reader;
    const struct store_info *info; /* of `from` */
    struct store *to;
    bool *recoded; /* [taps] */
    uint64_t *bytes; /* [taps] of records */
    double committed; /* clock_seconds */

    struct pool *pool; /* NULL: nothing is recoded */
    struct hand *hands; /* [threads] */
    struct coding *codings; /* [coding_capacity] */
    size_t coding_count, coding_capacity;
    int batch; /* sequences */
    struct progress progress;
    uint64_t done, total; /* sequences */
};

/* ---- the new store ---- */

/* That of shard 0, of one store, with the codecs wanted; "recoded" names the codecs before. */
static json_t *make_manifest(const struct job *job, struct error *error)
{
    const struct codec_choice *codec = job->rewrite->codec;
    json_t *manifest = json_deep_copy(shards_manifest(job->from)), *before = json_array();
    json_object_del(manifest, "shard");
    json_t *taps = json_array();
    for (int tap = 0; tap < job->info->taps; tap++) {
        char name[TAP_NAME_SIZE];
        tap_name(job->info->tap[tap], job->info->layers, name);
        json_array_append_new(before,
                              json_pack("{s:s, s:s}", "name", name, "codec", job->info->codec[tap].name));
        json_array_append_new(taps, json_pack("{s:s, s:s}", "name", name, "codec",
                                              codec ? codec[tap].name : job->info->codec[tap].name));
    }
    if (codec && !json_object_get(manifest, "recoded"))
        json_object_set(manifest, "recoded", before);
    if (!manifest || !before || json_object_set_new(manifest, "taps", taps) < 0) {
        json_decref(manifest);
        manifest = NULL;
        error_set(error, "out of memory for the manifest");
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
        error_prefix(error, "%s: is another store", path);
    json_decref(manifest);
    return result;
}

/* The parameters of a tap's new codec, fitted to sequences spread over the first shard. */
static int fit_tap(struct job *job, int tap, struct error *error)
{
    struct store *from = shards_store(job->from, 0);
    const struct store_info *info = job->info;
    const uint64_t rows = (uint64_t)info->rows, there = store_sequences(from, SPLIT_TRAIN);
    const uint64_t wanted =
        (pilot_tokens(shards_sequences(job->from, SPLIT_TRAIN) * rows, info->hidden) + rows - 1) / rows;
    struct pilot pilot = {.store = from, .tap = tap, .sequences = wanted < there ? wanted : there};
    struct string parameters = {0};
    struct codec_setting setting;
    struct backend *backend = NULL;
    void *bytes;
    size_t size;
    double kl;
    pilot.choice = &job->rewrite->codec[tap];
    if (!pilot.choice->codec->fit || store_get_parameters(job->to, tap, &bytes, &size, error) < 0)
        return pilot.choice->codec->fit ? -1 : 0;
    int result = 0;
    if (!bytes && pilot.choice->goal == CODEC_KL) {
        const struct backend_options options = {.threads = job->rewrite->threads};
        result = backend_open("auto", &options, &backend, error);
        if (result == 0)
            result = meter_open(from, backend, info->rows, &pilot.meter, error);
    }
    if (!bytes && result == 0 && (result = pilot_fit(&pilot, &parameters, &setting, &kl, error)) == 0)
        result = store_put_parameters(job->to, tap, parameters.data, parameters.length, error);
    meter_close(pilot.meter);
    backend_close(backend);
    string_free(&parameters);
    free(bytes);
    return result;
}

/* What goes before the first sequence. Done again when a kill has come between. */
static int put_first(struct job *job, struct error *error)
{
    struct store *first = shards_store(job->from, 0);
    if (store_sequences(job->to, SPLIT_TRAIN) + store_sequences(job->to, SPLIT_HELD_OUT) > 0)
        return 0;
    if (copy_sources(job->to, first, error) < 0 || store_begin(job->to, error) < 0)
        return -1;
    int result = copy_notes(job->to, first, error);
    for (int tap = 0; tap < job->info->taps && result == 0; tap++) {
        void *bytes = NULL, *there = NULL;
        size_t size, there_size;
        if (job->recoded[tap]) {
            result = fit_tap(job, tap, error);
            continue;
        }
        if ((result = store_get_parameters(first, tap, &bytes, &size, error)) == 0 && bytes &&
            (result = store_get_parameters(job->to, tap, &there, &there_size, error)) == 0 && !there)
            result = store_put_parameters(job->to, tap, bytes, size, error);
        free(bytes);
        free(there);
    }
    return result < 0 ? -1 : store_commit(job->to, error);
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
    const struct store_info *info = job->info;
    const struct coder *coder;
    struct error *error = &coding->error;
    if (store_coder(job->to, coding->tap, &coder, error) < 0)
        return -1;
    if (coding->tap == store_find_target(info)) {
        if (shards_reader_target(hand->reader, coding->sequence, hand->values, hand->states, error) < 0)
            return -1;
        return target_encode(hand->worker, coder, info->tap[coding->tap], coding->sequence, hand->values,
                             hand->states, info->rows, &coding->record, &coding->capacity, &coding->size, NULL,
                             error);
    }
    if (shards_reader_states(hand->reader, coding->tap, coding->sequence, hand->states, error) < 0)
        return -1;
    return record_encode(hand->worker, coder, info->tap[coding->tap], coding->sequence, hand->states,
                         info->rows, &coding->record, &coding->capacity, &coding->size, NULL, error);
}

static void code_piece(void *context, int piece, int worker)
{
    struct job *job = context;
    struct coding *coding = &job->codings[piece];
    coding->failed = code_record(job, &job->hands[worker], coding) < 0;
}

static int code_batch(struct job *job, enum split split, uint64_t first, uint64_t count, struct error *error)
{
    job->coding_count = 0;
    for (uint64_t i = 0; i < count; i++)
        for (int tap = 0; tap < job->info->taps; tap++)
            if (job->recoded[tap]) {
                struct coding *coding = &job->codings[job->coding_count++];
                coding->tap = tap;
                coding->sequence = (struct sequence){split, first + i};
            }
    pool_run(job->pool, (int)job->coding_count, code_piece, job);
    for (size_t i = 0; i < job->coding_count; i++)
        if (job->codings[i].failed) {
            *error = job->codings[i].error;
            return -1;
        }
    return 0;
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
            array_alloc(&job->hands[i].states, values, error) < 0 ||
            array_alloc(&job->hands[i].values, job->info->rows, error) < 0)
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

/* *next: the coded record that comes next, where one does. */
static int put_sequence(struct job *job, struct sequence sequence, struct coding **next, struct error *error)
{
    struct reader *from = shards_reader_of(job->reader, sequence);
    size_t size;
    if (copy_tokens(job->to, from, sequence, error) < 0)
        return -1;
    for (int tap = 0; tap < job->info->taps; tap++) {
        if (job->recoded[tap]) {
            size = (*next)->size;
            if (store_put_record(job->to, tap, sequence, (*next)->record, size, error) < 0)
                return -1;
            ++*next;
        } else if (copy_record(job->to, tap, from, tap, sequence, &size, error) < 0)
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
        if (store_pending(job->to) >= COMMIT_BYTES || clock_seconds() - job->committed >= COMMIT_SECONDS)
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
            return error_set(error,
                             "interrupted; what was written is kept: the same command goes on from there");
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
    job->done = store_sequences(job->to, SPLIT_TRAIN) + store_sequences(job->to, SPLIT_HELD_OUT);
    progress_start(&job->progress, job->rewrite->name, "sequences", job->total);
    job->progress.first = job->done;
    if (store_begin(job->to, error) < 0)
        return -1;
    if (put_split(job, SPLIT_TRAIN, error) < 0 || put_split(job, SPLIT_HELD_OUT, error) < 0)
        return -1;
    progress_finish(&job->progress);
    return commit(job, error) < 0 ? -1 : store_seal(job->to, error);
}

/* ---- life ---- */

static int check_space(const struct job *job, struct error *error)
{
    uint64_t wanted = 0, available;
    char most[32], there[32];
    for (int i = 0; i < shards_count(job->from); i++)
        for (int tap = STORE_SOURCE; tap < job->info->taps; tap++) {
            struct store_usage usage;
            if (tap >= 0 && job->recoded[tap])
                continue;
            if (store_measure(shards_store(job->from, i), tap, &usage, error) < 0)
                return -1;
            wanted += usage.bytes;
        }
    if (store_exists(job->rewrite->out)) /* some of it is there already */
        return 0;
    if (disk_free(job->rewrite->out, &available, error) < 0)
        return -1;
    if (wanted <= available)
        return 0;
    return error_set(error, "%s: needs %s, and %s are free", job->rewrite->out,
                     format_bytes((double)wanted, most, sizeof most),
                     format_bytes((double)available, there, sizeof there));
}

static void close_job(struct job *job)
{
    for (int i = 0; job->hands && i < pool_threads(job->pool); i++) {
        shards_reader_close(job->hands[i].reader);
        codec_worker_destroy(job->hands[i].worker);
        free(job->hands[i].states);
        free(job->hands[i].values);
    }
    for (size_t i = 0; i < job->coding_capacity && job->codings; i++)
        free(job->codings[i].record);
    free(job->hands);
    free(job->codings);
    free(job->recoded);
    free(job->bytes);
    pool_destroy(job->pool);
    shards_reader_close(job->reader);
    store_close(job->to);
}

static int open_job(struct job *job, struct error *error)
{
    const struct rewrite *rewrite = job->rewrite;
    const char *unfinished = shards_unfinished(job->from);
    if (unfinished)
        return error_set(error, "%s: is not finished: let extract finish it first", unfinished);
    if (array_alloc(&job->recoded, job->info->taps, error) < 0 ||
        array_alloc(&job->bytes, job->info->taps, error) < 0)
        return -1;
    for (int tap = 0; tap < job->info->taps; tap++)
        job->recoded[tap] = rewrite->codec && strcmp(rewrite->codec[tap].name, job->info->codec[tap].name) != 0;
    if (check_space(job, error) < 0 || open_new(job, error) < 0 || read_bytes(job, error) < 0 ||
        open_hands(job, error) < 0)
        return -1;
    return shards_reader_open(job->from, &job->reader, error);
}

int rewrite_store(const struct rewrite *rewrite, struct shards *from, struct error *error)
{
    struct job job = {.rewrite = rewrite, .from = from, .info = shards_info(from)};
    job.total = shards_sequences(from, SPLIT_TRAIN) + shards_sequences(from, SPLIT_HELD_OUT);
    int result = open_job(&job, error);
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
