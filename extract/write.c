#include "extract/write.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/memory.h"

#define COMMIT_SECONDS 0.25
#define NOTE           "bytes"

struct writer {
    struct store *store;
    int taps;
    struct order order;
    uint64_t *next; /* [taps] the index in that order that is stored next */
    uint64_t *bytes; /* [taps] of records */
    struct job *early; /* those whose predecessors have not come */
    bool open; /* a transaction */
    double began; /* clock_seconds of it */
};

/* ---- what is stored ---- */

int records_bytes(struct store *store, uint64_t *bytes, struct error *error)
{
    const size_t expected = (size_t)store_info(store)->taps * sizeof *bytes;
    void *note;
    size_t size;
    memset(bytes, 0, expected);
    if (store_get_note(store, NOTE, &note, &size, error) < 0)
        return -1;
    if (note && size == expected)
        memcpy(bytes, note, expected);
    free(note);
    return 0;
}

int records_put_bytes(struct store *store, const uint64_t *bytes, struct error *error)
{
    return store_put_note(store, NOTE, bytes, (size_t)store_info(store)->taps * sizeof *bytes, error);
}

static int forget_record(struct reader *reader, int tap, struct sequence sequence, uint64_t *bytes,
                         struct error *error)
{
    const void *record;
    size_t size;
    if (reader_record(reader, tap, sequence, &record, &size, error) < 0)
        return -1;
    *bytes -= size < *bytes ? size : *bytes;
    return 0;
}

int records_bytes_of(struct store *store, const uint64_t sequences[SPLIT_COUNT], uint64_t *bytes,
                     struct error *error)
{
    const struct store_info *info = store_info(store);
    struct reader *reader;
    if (records_bytes(store, bytes, error) < 0 || reader_open(store, &reader, error) < 0)
        return -1;
    int result = 0;
    for (int tap = 0; tap < info->taps; tap++)
        for (enum split split = 0; split < SPLIT_COUNT; split++)
            for (uint64_t i = sequences[split]; result == 0 && i < store_progress(store, tap, split); i++)
                result = forget_record(reader, tap, store_sequence(info, split, i), &bytes[tap], error);
    reader_close(reader);
    return result;
}

/* ---- writing ---- */

int writer_create(struct store *store, const struct order *order, struct writer **result, struct error *error)
{
    struct writer *writer = memory_alloc(1, sizeof *writer, error);
    *result = NULL;
    if (!writer)
        return -1;
    writer->store = store;
    writer->taps = store_info(store)->taps;
    writer->order = *order;
    if (array_alloc(&writer->next, writer->taps, error) < 0 ||
        array_alloc(&writer->bytes, writer->taps, error) < 0 ||
        records_bytes(store, writer->bytes, error) < 0) {
        writer_destroy(writer);
        return -1;
    }
    for (int tap = 0; tap < writer->taps; tap++)
        writer->next[tap] = order_stored(&writer->order, store, tap);
    *result = writer;
    return 0;
}

void writer_destroy(struct writer *writer)
{
    if (!writer)
        return;
    free(writer->next);
    free(writer->bytes);
    free(writer);
}

static int commit(struct writer *writer, struct error *error)
{
    struct store *store = writer->store;
    for (int tap = 0; tap < writer->taps; tap++)
        if (order_set_progress(&writer->order, store, tap, writer->next[tap], error) < 0)
            return -1;
    if (records_put_bytes(store, writer->bytes, error) < 0)
        return -1;
    writer->open = false;
    return store_commit(store, error);
}

static int put_record(struct writer *writer, const struct job *job, struct error *error)
{
    if (!writer->open) {
        if (store_begin(writer->store, error) < 0)
            return -1;
        writer->open = true;
        writer->began = clock_seconds();
    }
    if (store_put_record(writer->store, job->tap, order_at(&writer->order, job->index), job->record.bytes,
                         job->record.size, error) < 0)
        return -1;
    writer->next[job->tap]++;
    writer->bytes[job->tap] += job->record.size;
    return 0;
}

/* Takes out of the early jobs one whose turn it is, or returns NULL. */
static struct job *take_next(struct writer *writer)
{
    for (struct job **link = &writer->early; *link; link = &(*link)->next) {
        struct job *job = *link;
        if (job->index == writer->next[job->tap]) {
            *link = job->next;
            return job;
        }
    }
    return NULL;
}

int writer_put(struct writer *writer, struct job *job, struct job **done, struct error *error)
{
    job->next = writer->early;
    writer->early = job;
    while ((job = take_next(writer))) {
        int result = put_record(writer, job, error);
        job->next = *done;
        *done = job;
        if (result < 0)
            return -1;
    }
    if (writer->open && (store_commit_due(writer->store) || clock_seconds() >= writer_due(writer)))
        return commit(writer, error);
    return 0;
}

double writer_due(const struct writer *writer)
{
    return writer->open ? writer->began + COMMIT_SECONDS : INFINITY;
}

int writer_finish(struct writer *writer, struct error *error)
{
    return writer->open ? commit(writer, error) : 0;
}
