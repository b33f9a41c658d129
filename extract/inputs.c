#include "extract/inputs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/memory.h"
#include "extract/write.h"

#define AHEAD 3 /* calls in memory */

struct inputs {
    struct store *store;
    struct order order;
    uint64_t length; /* of the order */
    const struct kept *kept;
    int batch, rows;
    struct input batches[AHEAD];
    int32_t *sequence; /* [rows + 1] */
    struct channel *unused, *filled;
    pthread_t thread;
    bool started;
    struct stage stage;
    bool failed; /* of the thread; read after it has ended */
    struct error error;
};

static int read_tokens(struct inputs *inputs, struct reader *reader, struct sequence sequence,
                       struct input *batch)
{
    const size_t rows = (size_t)inputs->rows, first = (size_t)batch->sequences * rows;
    if (reader_tokens(reader, sequence, inputs->sequence, &inputs->error) < 0)
        return -1;
    memcpy(batch->ids + first, inputs->sequence, rows * sizeof *inputs->sequence);
    memcpy(batch->labels + first, inputs->sequence + 1, rows * sizeof *inputs->sequence);
    batch->sequences++;
    return 0;
}

/* A reader of its own each time: while one is open, the writer can use no page again that was freed since. */
static int fill_batch(struct inputs *inputs, struct input *batch, uint64_t index)
{
    struct reader *reader;
    int result = 0;
    if (reader_open(inputs->store, &reader, &inputs->error) < 0)
        return -1;
    batch->index = index;
    batch->sequences = 0;
    for (batch->span = 0; result == 0 && index + batch->span < inputs->length; batch->span++) {
        const struct sequence sequence = order_at(&inputs->order, index + batch->span);
        if (kept_has(inputs->kept, sequence))
            continue;
        if (batch->sequences == inputs->batch)
            break;
        result = read_tokens(inputs, reader, sequence, batch);
    }
    reader_close(reader);
    return result;
}

static void *inputs_run(void *context)
{
    struct inputs *inputs = context;
    const double started = clock_seconds();
    for (uint64_t index = 0, next; index < inputs->length; index = next) {
        struct input *batch = channel_receive(inputs->unused, &inputs->stage);
        if (!batch)
            break;
        if (fill_batch(inputs, batch, index) < 0) {
            inputs->failed = true;
            break;
        }
        next = index + batch->span;
        if (!channel_send(inputs->filled, batch, &inputs->stage))
            break;
    }
    channel_close(inputs->filled);
    inputs->stage.busy = clock_seconds() - started - inputs->stage.waiting;
    return NULL;
}

int inputs_open(struct store *store, const struct order *order, int batch, const struct kept *kept,
                struct inputs **result, struct error *error)
{
    struct error ignored;
    struct inputs *inputs = memory_alloc(1, sizeof *inputs, error);
    *result = NULL;
    if (!inputs)
        return -1;
    inputs->store = store;
    inputs->order = *order;
    inputs->length = order_length(order);
    inputs->batch = batch;
    inputs->kept = kept;
    inputs->rows = store_info(store)->rows;
    if (channel_create(AHEAD, &inputs->unused, error) < 0 ||
        channel_create(AHEAD, &inputs->filled, error) < 0 ||
        array_alloc(&inputs->sequence, inputs->rows + 1, error) < 0)
        goto fail;
    for (int i = 0; i < AHEAD; i++) {
        const size_t rows = (size_t)batch * (size_t)inputs->rows;
        if (array_alloc(&inputs->batches[i].ids, rows, error) < 0 ||
            array_alloc(&inputs->batches[i].labels, rows, error) < 0)
            goto fail;
        channel_send(inputs->unused, &inputs->batches[i], NULL);
    }
    if (pthread_create(&inputs->thread, NULL, inputs_run, inputs) != 0) {
        error_set_kind(error, ERROR_NO_MEMORY, "a thread could not be started");
        goto fail;
    }
    inputs->started = true;
    *result = inputs;
    return 0;
fail:
    inputs_close(inputs, &(struct stage){0}, &ignored);
    return -1;
}

struct input *inputs_next(struct inputs *inputs, struct stage *stage)
{
    return channel_receive(inputs->filled, stage);
}

void inputs_return(struct inputs *inputs, struct input *batch)
{
    channel_send(inputs->unused, batch, NULL);
}

int inputs_close(struct inputs *inputs, struct stage *report, struct error *error)
{
    if (!inputs)
        return 0;
    if (inputs->started) {
        channel_cancel(inputs->unused, NULL);
        channel_cancel(inputs->filled, NULL);
        pthread_join(inputs->thread, NULL);
    }
    *report = inputs->stage;
    report->name = "read";
    const int result = inputs->failed ? -1 : 0;
    if (result < 0)
        *error = inputs->error;
    for (int i = 0; i < AHEAD; i++) {
        free(inputs->batches[i].ids);
        free(inputs->batches[i].labels);
    }
    free(inputs->sequence);
    channel_destroy(inputs->unused);
    channel_destroy(inputs->filled);
    free(inputs);
    return result;
}
