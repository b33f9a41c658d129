#include "cache/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/base/progress.h"
#include "common/pilot/meter.h"
#include "common/pilot/pilot.h"
#include "common/store/record.h"

#define ROUNDS 5 /* of which the fastest counts */

struct bench {
    struct store *store;
    const struct measure_options *options;
    struct backend *backend;
    struct meter *meter;
    struct reader *reader;
    struct codec_worker *worker;
    uint64_t records; /* of a tap */
    float *states, *decoded; /* [rows, hidden] */
    struct codec_payload payload;
    struct progress progress;
    uint64_t done; /* records, of all taps and codecs */
};

/* ---- which records ---- */

static uint64_t least_progress(const struct store *store, enum split split)
{
    uint64_t least = UINT64_MAX;
    for (int tap = 0; tap < store_info(store)->taps; tap++) {
        const uint64_t there = store_progress(store, tap, split);
        if (tap != store_find_target(store_info(store)))
            least = there < least ? there : least;
    }
    return least;
}

bool measure_takes_held_out(const struct store *store)
{
    return least_progress(store, SPLIT_HELD_OUT) > 0;
}

static enum split split_of(const struct store *store)
{
    return measure_takes_held_out(store) ? SPLIT_HELD_OUT : SPLIT_TRAIN;
}

/* Spread over the split from its first to its last sequence. A pilot takes others: from the middle of
 * stretches. */
static struct sequence sequence_at(const struct bench *bench, uint64_t number)
{
    const struct store_info *info = store_info(bench->store);
    const enum split split = split_of(bench->store);
    const uint64_t there = least_progress(bench->store, split);
    const uint64_t index = bench->records > 1 ? number * (there - 1) / (bench->records - 1) : 0;
    return store_sequence(info, split, index);
}

/* ---- measuring ---- */

/* As train decodes: to bf16 if the codec gives that, else to f32. */
static int decode(struct bench *bench, const struct coder *coder, int64_t rows, struct error *error)
{
    const struct codec_payload *payload = &bench->payload;
    struct states_view view;
    return coder_codec(coder)->decode_bf16
               ? coder_view(coder, bench->worker, payload->bytes, payload->size, rows, bench->decoded, &view,
                            error)
               : coder_decode(coder, bench->worker, payload->bytes, payload->size, rows, bench->decoded, error);
}

/* One record's times to *measure, what it is coded to to bench->payload, the decoded states to
 * bench->decoded. */
static int time_record(struct bench *bench, const struct coder *coder, struct measure *measure,
                       struct error *error)
{
    const int rows = store_info(bench->store)->rows;
    struct codec_worker *worker = bench->worker;
    double best[4] = {INFINITY, INFINITY, INFINITY, INFINITY};
    for (int round = 0; round < ROUNDS; round++) {
        double entropy = -codec_worker_entropy_seconds(worker), start = clock_seconds();
        if (coder_encode(coder, worker, bench->states, rows, &bench->payload, error) < 0)
            return -1;
        const double middle = clock_seconds();
        entropy += codec_worker_entropy_seconds(worker);
        best[0] = fmin(best[0], middle - start - entropy);
        best[1] = fmin(best[1], entropy);
        entropy = -codec_worker_entropy_seconds(worker), start = clock_seconds();
        if (decode(bench, coder, rows, error) < 0)
            return -1;
        const double end = clock_seconds();
        entropy += codec_worker_entropy_seconds(worker);
        best[2] = fmin(best[2], end - start - entropy);
        best[3] = fmin(best[3], entropy);
    }
    const double values = (double)rows * store_info(bench->store)->hidden * (double)bench->records;
    measure->encode_transform += best[0] / values;
    measure->encode_entropy += best[1] / values;
    measure->decode_transform += best[2] / values;
    measure->decode_entropy += best[3] / values;
    return coder_decode(coder, worker, bench->payload.bytes, bench->payload.size, rows, bench->decoded, error);
}

/* Asks the head about some of the record's tokens, before and after coding. */
static int ask_head(struct bench *bench, struct error *error)
{
    const int rows = store_info(bench->store)->rows, hidden = store_info(bench->store)->hidden;
    const size_t row = (size_t)hidden * sizeof(float);
    int taken = 0;
    for (int r = 0; r < rows; r += MEASURE_STRIDE, taken++) { /* in place: rows only move up */
        memmove(bench->states + (int64_t)taken * hidden, bench->states + (int64_t)r * hidden, row);
        memmove(bench->decoded + (int64_t)taken * hidden, bench->decoded + (int64_t)r * hidden, row);
    }
    if (memcmp(bench->states, bench->decoded, (size_t)taken * row) == 0)
        return 0; /* the KL is 0, and would come out as rounding */
    return meter_add(bench->meter, bench->states, bench->decoded, taken, error);
}

static int measure_record(struct bench *bench, const struct coder *coder, uint64_t number,
                          struct measure *measure, struct error *error)
{
    const struct store_info *info = store_info(bench->store);
    const double values = (double)info->rows * info->hidden * (double)bench->records;
    if (cli_interrupted())
        return error_set_kind(error, ERROR_INTERRUPTED, "interrupted");
    if (reader_states(bench->reader, measure->tap, sequence_at(bench, number), bench->states, error) < 0 ||
        time_record(bench, coder, measure, error) < 0)
        return -1;
    const size_t record = sizeof(struct record_header) + bench->payload.size;
    measure->bits += 8 * (double)record / values;
    measure->slack_bits += 8 * (double)store_value_slack(record) / values;
    measure->loss += bench->payload.loss / (double)bench->records;
    progress_update(&bench->progress, ++bench->done);
    return ask_head(bench, error);
}

/* A coder for the tap. *parameters: bytes that it needs beside the records. */
static int make_coder(struct bench *bench, const struct codec_choice *choice, int tap, struct coder **coder,
                      size_t *parameters, struct error *error)
{
    const struct store_info *info = store_info(bench->store);
    const uint64_t there = store_progress(bench->store, tap, SPLIT_TRAIN);
    struct string bytes = {0};
    struct codec_setting setting;
    double kl;
    int result = 0;
    if (choice->codec->fit) {
        const struct pilot pilot = {.store = bench->store,
                                    .tap = tap,
                                    .sequences = pilot_sequences(info, there, there),
                                    .choice = choice,
                                    .meter = choice->goal == CODEC_KL ? bench->meter : NULL};
        if (there == 0)
            return error_set(error,
                             "%s cannot be measured: it is fitted to training records, and the store has none",
                             choice->name);
        result = pilot_fit(&pilot, &bytes, &setting, &kl, error);
    }
    *parameters = bytes.length;
    if (result == 0)
        result = coder_create(choice->codec, bytes.data, bytes.length, info->hidden, coder, error);
    string_free(&bytes);
    return result;
}

static int measure_codec(struct bench *bench, const char *name, int tap, struct measure *measure,
                         struct error *error)
{
    const struct store_info *info = store_info(bench->store);
    const double stored = (double)store_all_progress(bench->store, tap) * info->rows * info->hidden;
    struct codec_choice choice;
    struct coder *coder = NULL;
    size_t parameters = 0;
    if (codec_parse(name, &choice, error) < 0 ||
        make_coder(bench, &choice, tap, &coder, &parameters, error) < 0)
        return -1;
    memcpy(measure->codec, choice.name, sizeof measure->codec);
    measure->tap = tap;
    measure->parameter_bits = 8 * STORE_PARAMETERS_COPIES * (double)parameters / stored;
    meter_reset(bench->meter);
    int result =
        array_grow(&bench->payload.bytes, &bench->payload.capacity, coder_bound(coder, info->rows), error);
    for (uint64_t i = 0; i < bench->records && result == 0; i++)
        result = measure_record(bench, coder, i, measure, error);
    measure->kl = fmax(0, meter_mean(bench->meter));
    coder_destroy(coder);
    return result;
}

static int open_bench(struct bench *bench, struct error *error)
{
    const struct store_info *info = store_info(bench->store);
    const size_t values = (size_t)info->rows * (size_t)info->hidden;
    const uint64_t there = least_progress(bench->store, split_of(bench->store));
    if (there == 0)
        return error_set(error, "%s: one of its taps has no record yet", store_path(bench->store));
    bench->records = bench->options->records < there ? bench->options->records : there;
    return backend_open("cpu", &(struct backend_options){0}, &bench->backend, error) < 0 ||
                   meter_open(bench->store, bench->backend, info->rows, &bench->meter, error) < 0 ||
                   reader_open(bench->store, &bench->reader, error) < 0 ||
                   codec_worker_create(&bench->worker, error) < 0 ||
                   array_alloc(&bench->states, values, error) < 0 ||
                   array_alloc(&bench->decoded, values, error) < 0
               ? -1
               : 0;
}

static void close_bench(struct bench *bench)
{
    meter_close(bench->meter);
    backend_close(bench->backend);
    reader_close(bench->reader);
    codec_worker_destroy(bench->worker);
    free(bench->states);
    free(bench->decoded);
    free(bench->payload.bytes);
}

static void warn_few(const struct bench *bench)
{
    const struct store_info *info = store_info(bench->store);
    const uint64_t there = store_sequences(bench->store, SPLIT_TRAIN);
    struct codec_choice choice;
    struct error ignored;
    for (int i = 0; i < bench->options->count; i++)
        if (codec_parse(bench->options->codecs[i], &choice, &ignored) == 0 && choice.codec->fit) {
            pilot_warn_few(pilot_sequences(info, there, there) * (uint64_t)info->rows, info->hidden);
            return;
        }
}

/* All codecs at one tap. */
static int measure_tap(struct bench *bench, int tap, struct measure *measures, struct error *error)
{
    for (int i = 0; i < bench->options->count; i++)
        if (measure_codec(bench, bench->options->codecs[i], tap, &measures[i], error) < 0)
            return -1;
    return 0;
}

int measure_codecs(struct store *store, const struct measure_options *options, struct measured *measured,
                   struct error *error)
{
    struct bench bench = {.store = store, .options = options};
    const struct store_info *info = store_info(store);
    const int target = store_find_target(info), all = info->taps - (target >= 0);
    int result = -1;
    *measured = (struct measured){0};
    if (open_bench(&bench, error) < 0 ||
        array_alloc(&measured->measure, (size_t)all * (size_t)options->count, error) < 0)
        goto done;
    warn_few(&bench);
    progress_start(&bench.progress, "bench", "records",
                   bench.records * (uint64_t)all * (uint64_t)options->count);
    result = 0;
    for (int tap = 0; tap < info->taps && result == 0; tap++)
        if (tap != target)
            result = measure_tap(&bench, tap, measured->measure + measured->taps++ * options->count, error);
    progress_finish(&bench.progress);
    measured->records = bench.records;
done:
    if (result < 0) {
        free(measured->measure);
        measured->measure = NULL;
    }
    close_bench(&bench);
    return result;
}
