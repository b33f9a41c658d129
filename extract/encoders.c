#include "extract/encoders.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "extract/order.h"

/* Encoders take what the model's threads leave, or all there is while the model waits for a job: one of its
 * threads put aside for coding would keep the others waiting. */
#define ENCODER_NICE 10

/* What a record may take, and lose, of what the pilot did. */
#define DRIFT_BITS 1.2
#define DRIFT_LOSS 1.5

struct encoder {
    struct encoders *encoders;
    pthread_t thread;
    struct codec_worker *worker;
    struct stage stage;
};

struct encoders {
    const struct store_info *info;
    const struct coder **coder; /* [taps] the store's */
    atomic_bool *warned; /* [taps] that a text is unlike the pilot's */
    struct order order; /* the store itself belongs to the writer's thread */
    struct writer *writer;
    struct job *jobs; /* [job_count] */
    int job_count;
    struct channel *unused, *filled, *coded; /* jobs */
    struct encoder *encoder; /* [encoder_count], those whose thread has started */
    int encoder_count;
    bool writing; /* the writer's thread has started */
    pthread_t write_thread;
    struct stage write_stage;
    pthread_mutex_t mutex; /* of what follows */
    bool failed;
    struct error error;
    uint64_t written;
};

void encoders_fail(struct encoders *encoders, const struct error *error)
{
    pthread_mutex_lock(&encoders->mutex);
    if (!encoders->failed)
        encoders->error = *error;
    encoders->failed = true;
    pthread_mutex_unlock(&encoders->mutex);
    channel_cancel(encoders->unused, NULL);
    channel_cancel(encoders->filled, NULL);
    channel_cancel(encoders->coded, NULL);
}

uint64_t encoders_written(struct encoders *encoders)
{
    pthread_mutex_lock(&encoders->mutex);
    uint64_t written = encoders->written;
    pthread_mutex_unlock(&encoders->mutex);
    return written;
}

/* ---- encoders ---- */

/* A state that is infinite or not a number would be stored without complaint and spoil every head. (Transformed
 * ones codecs look at.) */
static int check_finite(const struct job *job, const struct store_info *info, struct error *error)
{
    const size_t count = (size_t)info->rows * (size_t)info->hidden;
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &job->states[i], sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    if (largest < 0x7f800000)
        return 0;
    return error_set(error, "a state is not a finite number: the model's weights are damaged, or --math is too "
                            "coarse for it");
}

/* A text that is unlike the pilot's costs bits, or where the spacing is coarse precision: said once for a
 * tap. */
static void check_drift(struct encoders *encoders, const struct job *job, struct sequence sequence)
{
    const struct store_info *info = encoders->info;
    const struct codec_setting setting = coder_setting(encoders->coder[job->tap]);
    const size_t columns = job->tap == store_find_target(info) ? columns_bytes(&info->columns, info->rows) : 0;
    const double bits = 8 * (double)(job->record.size - columns) / ((double)info->rows * info->hidden);
    const double loss = job->record.loss;
    char name[TAP_NAME_SIZE];
    if (setting.bits <= 0 || (bits <= DRIFT_BITS * setting.bits && loss <= DRIFT_LOSS * setting.loss) ||
        atomic_exchange(&encoders->warned[job->tap], true))
        return;
    tap_name(info->tap[job->tap], info->layers, name);
    cli_say(
        "warning: tap %s, %s sequence %llu: takes %.2f bits a value and loses %.2g of its size; the pilot took "
        "%.2f and lost %.2g: this text is unlike the text that %s was fitted to",
        name, split_name(sequence.split), (unsigned long long)sequence.index, bits, sqrt(loss), setting.bits,
        sqrt(setting.loss), info->codec[job->tap].name);
}

static int encode_states(struct encoder *encoder, struct job *job, struct sequence sequence,
                         struct error *error)
{
    const struct encoders *encoders = encoder->encoders;
    const struct record_key key = record_key(encoders->info, encoders->coder[job->tap], job->tap, sequence);
    const struct record_states states = {job->states, job->transformed, job->values, NULL};
    return record_encode(encoder->worker, &key, &states, &job->record, error);
}

static int encode_job(struct encoder *encoder, struct job *job, struct error *error)
{
    const struct store_info *info = encoder->encoders->info;
    const struct sequence sequence = order_at(&encoder->encoders->order, job->index);
    if ((!job->transformed && check_finite(job, info, error) < 0) ||
        encode_states(encoder, job, sequence, error) < 0) {
        char name[TAP_NAME_SIZE];
        tap_name(info->tap[job->tap], info->layers, name);
        return error_prefix(error, "tap %s, %s sequence %llu", name, split_name(sequence.split),
                            (unsigned long long)sequence.index);
    }
    check_drift(encoder->encoders, job, sequence);
    return 0;
}

static void *encoder_run(void *context)
{
    struct encoder *encoder = context;
    struct encoders *encoders = encoder->encoders;
    const double started = clock_seconds();
    struct error error;
    struct job *job;
    setpriority(PRIO_PROCESS, 0, ENCODER_NICE); /* of this thread alone, on Linux */
    while ((job = channel_receive(encoders->filled, &encoder->stage))) {
        if (encode_job(encoder, job, &error) < 0) {
            encoders_fail(encoders, &error);
            break;
        }
        if (!channel_send(encoders->coded, job, &encoder->stage))
            break;
    }
    encoder->stage.busy = clock_seconds() - started - encoder->stage.waiting;
    return NULL;
}

/* ---- writer ---- */

static bool return_jobs(struct encoders *encoders, struct job *done)
{
    while (done) {
        struct job *next = done->next;
        pthread_mutex_lock(&encoders->mutex);
        encoders->written++;
        pthread_mutex_unlock(&encoders->mutex);
        if (!channel_send(encoders->unused, done, NULL))
            return false;
        done = next;
    }
    return true;
}

static void *writer_run(void *context)
{
    struct encoders *encoders = context;
    const double started = clock_seconds();
    struct error error;
    for (;;) {
        struct job *done = NULL, *job;
        if (!channel_await(encoders->coded, writer_due(encoders->writer), &encoders->write_stage)) {
            if (writer_finish(encoders->writer, &error) == 0)
                continue;
            encoders_fail(encoders, &error);
            break;
        }
        if (!(job = channel_receive(encoders->coded, &encoders->write_stage)))
            break;
        if (writer_put(encoders->writer, job, &done, &error) < 0) {
            encoders_fail(encoders, &error);
            break;
        }
        if (!return_jobs(encoders, done))
            break;
    }
    pthread_mutex_lock(&encoders->mutex);
    bool failed = encoders->failed;
    pthread_mutex_unlock(&encoders->mutex);
    if (!failed && writer_finish(encoders->writer, &error) < 0)
        encoders_fail(encoders, &error);
    encoders->write_stage.busy = clock_seconds() - started - encoders->write_stage.waiting;
    return NULL;
}

/* ---- life ---- */

static int start_threads(struct encoders *encoders, int count, struct error *error)
{
    if (pthread_create(&encoders->write_thread, NULL, writer_run, encoders) != 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "a thread could not be started");
    encoders->writing = true;
    while (encoders->encoder_count < count) {
        struct encoder *encoder = &encoders->encoder[encoders->encoder_count];
        encoder->encoders = encoders;
        if (codec_worker_create(&encoder->worker, error) < 0)
            return -1;
        if (pthread_create(&encoder->thread, NULL, encoder_run, encoder) != 0) {
            codec_worker_destroy(encoder->worker);
            return error_set_kind(error, ERROR_NO_MEMORY, "a thread could not be started");
        }
        encoders->encoder_count++;
    }
    return 0;
}

static int find_coders(struct encoders *encoders, struct store *store, struct error *error)
{
    const int taps = encoders->info->taps;
    int result = array_alloc(&encoders->coder, taps, error);
    if (result == 0)
        result = array_alloc(&encoders->warned, taps, error);
    for (int tap = 0; tap < taps && result == 0; tap++)
        result = store_coder(store, tap, &encoders->coder[tap], error);
    return result;
}

static int make_jobs(struct encoders *encoders, int count, struct error *error)
{
    const struct store_info *info = encoders->info;
    if (array_alloc(&encoders->jobs, count, error) < 0)
        return -1;
    for (; encoders->job_count < count; encoders->job_count++) {
        struct job *job = &encoders->jobs[encoders->job_count];
        if (array_alloc(&job->states, (size_t)info->rows * (size_t)info->hidden, error) < 0)
            return -1;
        if (store_find_target(info) >= 0 && array_alloc(&job->values, info->rows, error) < 0)
            return -1;
        channel_send(encoders->unused, job, NULL);
    }
    return 0;
}

int encoders_open(struct store *store, const struct order *order, const struct plan *plan,
                  struct encoders **result, struct error *error)
{
    struct encoders *encoders = memory_alloc(1, sizeof *encoders, error);
    *result = NULL;
    if (!encoders)
        return -1;
    pthread_mutex_init(&encoders->mutex, NULL);
    encoders->info = store_info(store);
    encoders->order = *order;
    const size_t jobs = (size_t)plan->jobs;
    if (find_coders(encoders, store, error) < 0 || channel_create(jobs, &encoders->unused, error) < 0 ||
        channel_create(jobs, &encoders->filled, error) < 0 ||
        channel_create(jobs, &encoders->coded, error) < 0 || make_jobs(encoders, plan->jobs, error) < 0 ||
        writer_create(store, order, &encoders->writer, error) < 0 ||
        array_alloc(&encoders->encoder, plan->encoders, error) < 0 ||
        start_threads(encoders, plan->encoders, error) < 0) {
        struct error ignored;
        if (encoders->unused && encoders->filled && encoders->coded)
            encoders_fail(encoders, error);
        encoders_close(encoders, &(struct encoders_report){0}, &ignored);
        return -1;
    }
    *result = encoders;
    return 0;
}

struct job *encoders_job(struct encoders *encoders, struct stage *stage)
{
    return channel_receive(encoders->unused, stage);
}

void encoders_submit(struct encoders *encoders, struct job *job)
{
    channel_send(encoders->filled, job, NULL);
}

static void join_threads(struct encoders *encoders, struct encoders_report *report)
{
    *report = (struct encoders_report){.encode.name = "encode"};
    if (encoders->filled)
        channel_close(encoders->filled);
    for (int i = 0; i < encoders->encoder_count; i++) {
        struct encoder *encoder = &encoders->encoder[i];
        pthread_join(encoder->thread, NULL);
        codec_worker_destroy(encoder->worker);
        report->encode.busy += encoder->stage.busy;
        report->encode.waiting += encoder->stage.waiting;
    }
    if (encoders->coded)
        channel_close(encoders->coded);
    if (encoders->writing)
        pthread_join(encoders->write_thread, NULL);
    report->write = encoders->write_stage;
    report->write.name = "write";
    report->records = encoders->written;
}

int encoders_close(struct encoders *encoders, struct encoders_report *report, struct error *error)
{
    if (!encoders)
        return 0;
    join_threads(encoders, report);
    const int result = encoders->failed ? -1 : 0;
    if (result < 0)
        *error = encoders->error;
    for (int i = 0; i < encoders->job_count; i++) {
        free(encoders->jobs[i].states);
        free(encoders->jobs[i].values);
        free(encoders->jobs[i].record.bytes);
    }
    free(encoders->jobs);
    free(encoders->coder);
    free(encoders->warned);
    free(encoders->encoder);
    writer_destroy(encoders->writer);
    channel_destroy(encoders->unused);
    channel_destroy(encoders->filled);
    channel_destroy(encoders->coded);
    pthread_mutex_destroy(&encoders->mutex);
    free(encoders);
    return result;
}
