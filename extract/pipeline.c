#include "extract/pipeline.h"

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

/* Encoders take what the model's threads leave, or all there is while the model waits for a job: one of its threads
 * put aside for coding would keep the others waiting. */
#define ENCODER_NICE 10

/* What a record may take, and lose, of what the pilot did. */
#define DRIFT_BITS 1.2
#define DRIFT_LOSS 1.5

struct encoder {
    struct pipeline *pipeline;
    pthread_t thread;
    struct codec_worker *worker;
    struct stage stage;
};

struct pipeline {
    const struct store_info *info;
    const struct coder **coder; /* [taps] the store's */
    atomic_bool *warned; /* [taps] that a text is unlike the pilot's */
    struct order order; /* the store itself belongs to the writer's thread */
    struct writer *writer;
    struct job *jobs; /* [job_count] */
    int job_count;
    struct channel *unused, *filled, *coded; /* jobs */
    struct encoder *encoders; /* [encoder_count], those whose thread has started */
    int encoder_count;
    bool writing; /* the writer's thread has started */
    pthread_t write_thread;
    struct stage write_stage;
    pthread_mutex_t mutex; /* of what follows */
    bool failed;
    struct error error;
    uint64_t written;
};

void pipeline_fail(struct pipeline *pipeline, const struct error *error)
{
    pthread_mutex_lock(&pipeline->mutex);
    if (!pipeline->failed)
        pipeline->error = *error;
    pipeline->failed = true;
    pthread_mutex_unlock(&pipeline->mutex);
    channel_cancel(pipeline->unused, NULL);
    channel_cancel(pipeline->filled, NULL);
    channel_cancel(pipeline->coded, NULL);
}

uint64_t pipeline_written(struct pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->mutex);
    uint64_t written = pipeline->written;
    pthread_mutex_unlock(&pipeline->mutex);
    return written;
}

/* ---- encoders ---- */

/* A state that is infinite or no number would be stored without complaint and spoil every head. (Transformed ones codecs
 * look at.) */
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

/* A text that is unlike the pilot's costs bits, or where the step is coarse precision: said once for a tap. */
static void check_drift(struct pipeline *pipeline, const struct job *job, struct sequence sequence)
{
    const struct store_info *info = pipeline->info;
    const struct codec_setting setting = coder_setting(pipeline->coder[job->tap]);
    const size_t columns = job->tap == store_find_target(info) ? columns_bytes(&info->columns, info->rows) : 0;
    const double bits = 8 * (double)(job->record.size - columns) / ((double)info->rows * info->hidden);
    const double loss = job->record.loss;
    char name[TAP_NAME_SIZE];
    if (setting.bits <= 0 || (bits <= DRIFT_BITS * setting.bits && loss <= DRIFT_LOSS * setting.loss) ||
        atomic_exchange(&pipeline->warned[job->tap], true))
        return;
    tap_name(info->tap[job->tap], info->layers, name);
    cli_say("warning: tap %s, %s sequence %llu: takes %.2f bits a value and loses %.2g of its size, "
            "where the pilot took %.2f and lost %.2g: the text is unlike that which %s was fitted to",
            name, split_name(sequence.split), (unsigned long long)sequence.index, bits, sqrt(loss),
            setting.bits, sqrt(setting.loss), info->codec[job->tap].name);
}

static int encode_states(struct encoder *encoder, struct job *job, struct sequence sequence,
                         struct error *error)
{
    const struct pipeline *pipeline = encoder->pipeline;
    const struct record_key key = record_key(pipeline->info, pipeline->coder[job->tap], job->tap, sequence);
    const struct record_states states = {job->states, job->transformed, job->values, NULL};
    return record_encode(encoder->worker, &key, &states, &job->record, error);
}

static int encode_job(struct encoder *encoder, struct job *job, struct error *error)
{
    const struct store_info *info = encoder->pipeline->info;
    const struct sequence sequence = order_at(&encoder->pipeline->order, job->index);
    if ((!job->transformed && check_finite(job, info, error) < 0) ||
        encode_states(encoder, job, sequence, error) < 0) {
        char name[TAP_NAME_SIZE];
        tap_name(info->tap[job->tap], info->layers, name);
        return error_prefix(error, "tap %s, %s sequence %llu", name, split_name(sequence.split),
                            (unsigned long long)sequence.index);
    }
    check_drift(encoder->pipeline, job, sequence);
    return 0;
}

static void *encoder_run(void *context)
{
    struct encoder *encoder = context;
    struct pipeline *pipeline = encoder->pipeline;
    const double started = clock_seconds();
    struct error error;
    struct job *job;
    setpriority(PRIO_PROCESS, 0, ENCODER_NICE); /* of this thread alone, on Linux */
    while ((job = channel_receive(pipeline->filled, &encoder->stage))) {
        if (encode_job(encoder, job, &error) < 0) {
            pipeline_fail(pipeline, &error);
            break;
        }
        if (!channel_send(pipeline->coded, job, &encoder->stage))
            break;
    }
    encoder->stage.busy = clock_seconds() - started - encoder->stage.waiting;
    return NULL;
}

/* ---- writer ---- */

static bool return_jobs(struct pipeline *pipeline, struct job *done)
{
    while (done) {
        struct job *next = done->next;
        pthread_mutex_lock(&pipeline->mutex);
        pipeline->written++;
        pthread_mutex_unlock(&pipeline->mutex);
        if (!channel_send(pipeline->unused, done, NULL))
            return false;
        done = next;
    }
    return true;
}

static void *writer_run(void *context)
{
    struct pipeline *pipeline = context;
    const double started = clock_seconds();
    struct error error;
    for (;;) {
        struct job *done = NULL, *job;
        if (!channel_await(pipeline->coded, writer_due(pipeline->writer), &pipeline->write_stage)) {
            if (writer_finish(pipeline->writer, &error) == 0)
                continue;
            pipeline_fail(pipeline, &error);
            break;
        }
        if (!(job = channel_receive(pipeline->coded, &pipeline->write_stage)))
            break;
        if (writer_put(pipeline->writer, job, &done, &error) < 0) {
            pipeline_fail(pipeline, &error);
            break;
        }
        if (!return_jobs(pipeline, done))
            break;
    }
    pthread_mutex_lock(&pipeline->mutex);
    bool failed = pipeline->failed;
    pthread_mutex_unlock(&pipeline->mutex);
    if (!failed && writer_finish(pipeline->writer, &error) < 0)
        pipeline_fail(pipeline, &error);
    pipeline->write_stage.busy = clock_seconds() - started - pipeline->write_stage.waiting;
    return NULL;
}

/* ---- life ---- */

static int start_threads(struct pipeline *pipeline, int encoders, struct error *error)
{
    if (pthread_create(&pipeline->write_thread, NULL, writer_run, pipeline) != 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "a thread could not be started");
    pipeline->writing = true;
    while (pipeline->encoder_count < encoders) {
        struct encoder *encoder = &pipeline->encoders[pipeline->encoder_count];
        encoder->pipeline = pipeline;
        if (codec_worker_create(&encoder->worker, error) < 0)
            return -1;
        if (pthread_create(&encoder->thread, NULL, encoder_run, encoder) != 0) {
            codec_worker_destroy(encoder->worker);
            return error_set_kind(error, ERROR_NO_MEMORY, "a thread could not be started");
        }
        pipeline->encoder_count++;
    }
    return 0;
}

static int find_coders(struct pipeline *pipeline, struct store *store, struct error *error)
{
    const int taps = pipeline->info->taps;
    int result = array_alloc(&pipeline->coder, taps, error);
    if (result == 0)
        result = array_alloc(&pipeline->warned, taps, error);
    for (int tap = 0; tap < taps && result == 0; tap++)
        result = store_coder(store, tap, &pipeline->coder[tap], error);
    return result;
}

static int make_jobs(struct pipeline *pipeline, int count, struct error *error)
{
    const struct store_info *info = pipeline->info;
    if (array_alloc(&pipeline->jobs, count, error) < 0)
        return -1;
    for (; pipeline->job_count < count; pipeline->job_count++) {
        struct job *job = &pipeline->jobs[pipeline->job_count];
        if (array_alloc(&job->states, (size_t)info->rows * (size_t)info->hidden, error) < 0)
            return -1;
        if (store_find_target(info) >= 0 && array_alloc(&job->values, info->rows, error) < 0)
            return -1;
        channel_send(pipeline->unused, job, NULL);
    }
    return 0;
}

int pipeline_open(struct store *store, const struct order *order, const struct plan *plan,
                  struct pipeline **result, struct error *error)
{
    struct pipeline *pipeline = memory_alloc(1, sizeof *pipeline, error);
    *result = NULL;
    if (!pipeline)
        return -1;
    pthread_mutex_init(&pipeline->mutex, NULL);
    pipeline->info = store_info(store);
    pipeline->order = *order;
    const size_t jobs = (size_t)plan->jobs;
    if (find_coders(pipeline, store, error) < 0 || channel_create(jobs, &pipeline->unused, error) < 0 ||
        channel_create(jobs, &pipeline->filled, error) < 0 ||
        channel_create(jobs, &pipeline->coded, error) < 0 || make_jobs(pipeline, plan->jobs, error) < 0 ||
        writer_create(store, order, &pipeline->writer, error) < 0 ||
        array_alloc(&pipeline->encoders, plan->encoders, error) < 0 ||
        start_threads(pipeline, plan->encoders, error) < 0) {
        struct error ignored;
        if (pipeline->unused && pipeline->filled && pipeline->coded)
            pipeline_fail(pipeline, error);
        pipeline_close(pipeline, &(struct pipeline_report){0}, &ignored);
        return -1;
    }
    *result = pipeline;
    return 0;
}

struct job *pipeline_job(struct pipeline *pipeline, struct stage *stage)
{
    return channel_receive(pipeline->unused, stage);
}

void pipeline_submit(struct pipeline *pipeline, struct job *job)
{
    channel_send(pipeline->filled, job, NULL);
}

static void join_threads(struct pipeline *pipeline, struct pipeline_report *report)
{
    *report = (struct pipeline_report){.encode.name = "encode"};
    if (pipeline->filled)
        channel_close(pipeline->filled);
    for (int i = 0; i < pipeline->encoder_count; i++) {
        struct encoder *encoder = &pipeline->encoders[i];
        pthread_join(encoder->thread, NULL);
        codec_worker_destroy(encoder->worker);
        report->encode.busy += encoder->stage.busy;
        report->encode.waiting += encoder->stage.waiting;
    }
    if (pipeline->coded)
        channel_close(pipeline->coded);
    if (pipeline->writing)
        pthread_join(pipeline->write_thread, NULL);
    report->write = pipeline->write_stage;
    report->write.name = "write";
    report->records = pipeline->written;
}

int pipeline_close(struct pipeline *pipeline, struct pipeline_report *report, struct error *error)
{
    if (!pipeline)
        return 0;
    join_threads(pipeline, report);
    const int result = pipeline->failed ? -1 : 0;
    if (result < 0)
        *error = pipeline->error;
    for (int i = 0; i < pipeline->job_count; i++) {
        free(pipeline->jobs[i].states);
        free(pipeline->jobs[i].values);
        free(pipeline->jobs[i].record.bytes);
    }
    free(pipeline->jobs);
    free(pipeline->coder);
    free(pipeline->warned);
    free(pipeline->encoders);
    writer_destroy(pipeline->writer);
    channel_destroy(pipeline->unused);
    channel_destroy(pipeline->filled);
    channel_destroy(pipeline->coded);
    pthread_mutex_destroy(&pipeline->mutex);
    free(pipeline);
    return result;
}
