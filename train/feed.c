#include "train/feed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/memory.h"
#include "common/base/pool.h"
#include "common/base/random.h"
#include "train/ahead.h"

/* One is with the reader of the feed, one being filled, one ready. */
#define BATCHES 3

struct slot {
    struct feed_batch batch;
    bool failed;
    int failed_piece; /* the first one, whatever the order they ran in */
    struct error error;
};

struct feed {
    const struct stores *stores;
    struct feed_plan plan;
    int *place; /* [taps]: in the stores */
    struct slot slot[BATCHES];
    struct slot *given; /* to the reader */
    struct channel *empty, *full;
    struct stage reading; /* the reader's waiting time */
    struct ahead *ahead;
    struct pool *pool;
    struct shards_reader **reader; /* [threads] */
    int32_t *ids; /* [threads, rows + 1] */
    pthread_mutex_t lock; /* of failures */
    pthread_t thread;
    bool started;
};

uint64_t feed_sequence(const struct feed_plan *plan, uint64_t count, uint64_t place)
{
    const uint64_t pass = place / count, index = place % count;
    return plan->shuffled ? random_permute(index, count, hash_bytes(&pass, sizeof pass, plan->seed)) : index;
}

/* ---- filling a batch ---- */

static void note_failure(struct feed *feed, struct slot *slot, int piece, const struct error *error)
{
    pthread_mutex_lock(&feed->lock);
    if (!slot->failed || piece < slot->failed_piece) {
        slot->failed = true;
        slot->failed_piece = piece;
        slot->error = *error;
    }
    pthread_mutex_unlock(&feed->lock);
}

struct fill {
    struct feed *feed;
    struct slot *slot;
};

static int fill_labels(struct feed *feed, struct shards_reader *reader, struct sequence sequence, int32_t *ids,
                       int32_t *labels, struct error *error)
{
    if (shards_reader_tokens(reader, sequence, ids, error) < 0)
        return -1;
    memcpy(labels, ids + 1, (size_t)feed->stores->rows * sizeof *ids);
    return 0;
}

/* Of each sequence: its labels, each tap, and the target where it is wanted. */
static int piece_count(const struct feed_plan *plan)
{
    return 1 + plan->taps + (plan->values || plan->u);
}

/* Pieces of a batch: sequence by sequence. */
static void fill_piece(void *context, int piece, int worker)
{
    const struct fill *fill = context;
    struct feed *feed = fill->feed;
    struct feed_batch *batch = &fill->slot->batch;
    const int sequence = piece / piece_count(&feed->plan), column = piece % piece_count(&feed->plan) - 1;
    const uint64_t count = feed->stores->sequences[feed->plan.split];
    const struct sequence which = {feed->plan.split,
                                   feed_sequence(&feed->plan, count, batch->first + (uint64_t)sequence)};
    struct shards_reader *reader = feed->reader[worker];
    const int64_t rows = feed->stores->rows, hidden = feed->stores->config.hidden;
    const int64_t row = sequence * rows;
    struct error error;
    int result;
    if (column < 0)
        result = fill_labels(feed, reader, which, feed->ids + worker * (rows + 1), batch->labels + row, &error);
    else if (column < feed->plan.taps)
        result = shards_reader_states(reader, feed->place[column], which, batch->states[column] + row * hidden,
                                      &error);
    else
        result = shards_reader_target(reader, which, batch->values + row,
                                      batch->u ? batch->u + row * hidden : NULL, &error);
    if (result < 0)
        note_failure(feed, fill->slot, piece, &error);
}

static void *fill_batches(void *context)
{
    struct feed *feed = context;
    for (uint64_t place = feed->plan.first; place < feed->plan.end;) {
        struct slot *slot = channel_receive(feed->empty, NULL);
        if (!slot)
            return NULL;
        const uint64_t left = feed->plan.end - place;
        struct feed_batch *batch = &slot->batch;
        batch->first = place;
        batch->sequences = left < (uint64_t)feed->plan.sequences ? (int)left : feed->plan.sequences;
        batch->rows = (int64_t)batch->sequences * feed->stores->rows;
        slot->failed = false;
        pool_run(feed->pool, batch->sequences * piece_count(&feed->plan), fill_piece,
                 &(struct fill){feed, slot});
        place += (uint64_t)batch->sequences;
        ahead_move(feed->ahead, place);
        if (!channel_send(feed->full, slot, NULL))
            return NULL;
    }
    channel_close(feed->full);
    return NULL;
}

/* ---- life ---- */

static int allocate_slots(struct feed *feed, struct error *error)
{
    size_t rows, values;
    if (!size_multiply((size_t)feed->plan.sequences, (size_t)feed->stores->rows, &rows) ||
        !size_multiply(rows, (size_t)feed->stores->config.hidden, &values))
        return error_set(error, "%d sequences are too many for a batch", feed->plan.sequences);
    for (int i = 0; i < BATCHES; i++) {
        struct feed_batch *batch = &feed->slot[i].batch;
        if (array_alloc(&batch->labels, rows, error) < 0 ||
            array_alloc(&batch->states, feed->plan.taps, error) < 0)
            return -1;
        for (int t = 0; t < feed->plan.taps; t++) {
            if (array_alloc(&batch->states[t], values, error) < 0)
                return -1;
        }
        if ((feed->plan.values || feed->plan.u) && array_alloc(&batch->values, rows, error) < 0)
            return -1;
        if (feed->plan.u && array_alloc(&batch->u, values, error) < 0)
            return -1;
    }
    return 0;
}

static int find_taps(struct feed *feed, struct error *error)
{
    if (array_alloc(&feed->place, feed->plan.taps, error) < 0)
        return -1;
    for (int t = 0; t < feed->plan.taps; t++) {
        feed->place[t] = shards_find_tap(feed->stores->shards, feed->plan.tap[t], error);
        if (feed->place[t] < 0)
            return -1;
    }
    return 0;
}

static int open_readers(struct feed *feed, int threads, struct error *error)
{
    if (array_alloc(&feed->reader, threads, error) < 0 ||
        array_alloc(&feed->ids, (size_t)threads * ((size_t)feed->stores->rows + 1), error) < 0)
        return -1;
    for (int i = 0; i < threads; i++) {
        if (shards_reader_open(feed->stores->shards, &feed->reader[i], error) < 0)
            return -1;
    }
    return 0;
}

/* What pieces are made of. */
static int open_ahead(struct feed *feed, struct error *error)
{
    int *columns, count = 0;
    if (array_alloc(&columns, piece_count(&feed->plan), error) < 0)
        return -1;
    columns[count++] = STORE_TOKENS;
    for (int t = 0; t < feed->plan.taps; t++)
        columns[count++] = feed->place[t];
    if (count < piece_count(&feed->plan))
        columns[count++] = store_find_target(shards_info(feed->stores->shards));
    int result = ahead_open(feed->stores, &feed->plan, columns, count, &feed->ahead, error);
    free(columns);
    return result;
}

static int start(struct feed *feed, struct error *error)
{
    if (channel_create(BATCHES, &feed->empty, error) < 0 || channel_create(BATCHES, &feed->full, error) < 0)
        return -1;
    for (int i = 0; i < BATCHES; i++)
        channel_send(feed->empty, &feed->slot[i], NULL);
    if (pthread_create(&feed->thread, NULL, fill_batches, feed) != 0)
        return error_set(error, "a thread to read the store cannot be started");
    feed->started = true;
    return 0;
}

int feed_open(const struct stores *stores, const struct feed_plan *plan, int threads, struct feed **feed,
              struct error *error)
{
    struct feed *opened;
    *feed = NULL;
    if (array_alloc(&opened, 1, error) < 0)
        return -1;
    opened->stores = stores;
    opened->plan = *plan;
    pthread_mutex_init(&opened->lock, NULL);
    if (pool_create(threads, &opened->pool, error) < 0 || find_taps(opened, error) < 0 ||
        allocate_slots(opened, error) < 0 || open_readers(opened, pool_threads(opened->pool), error) < 0 ||
        open_ahead(opened, error) < 0 || start(opened, error) < 0) {
        feed_close(opened);
        return -1;
    }
    *feed = opened;
    return 0;
}

int feed_next(struct feed *feed, const struct feed_batch **batch, struct error *error)
{
    *batch = NULL;
    if (feed->given)
        channel_send(feed->empty, feed->given, NULL);
    feed->given = channel_receive(feed->full, &feed->reading);
    if (!feed->given)
        return 0;
    if (feed->given->failed)
        return error_set(error, "%s (\"cache verify\" finds all that is damaged, \"cache repair\" mends it)",
                         feed->given->error.text);
    *batch = &feed->given->batch;
    return 0;
}

double feed_waiting(const struct feed *feed)
{
    return feed->reading.waiting;
}

void feed_close(struct feed *feed)
{
    if (!feed)
        return;
    if (feed->started) {
        channel_cancel(feed->empty, NULL);
        channel_cancel(feed->full, NULL);
        pthread_join(feed->thread, NULL);
    }
    ahead_close(feed->ahead);
    channel_destroy(feed->empty);
    channel_destroy(feed->full);
    if (feed->reader) {
        for (int i = 0; i < pool_threads(feed->pool); i++)
            shards_reader_close(feed->reader[i]);
    }
    for (int i = 0; i < BATCHES; i++) {
        struct feed_batch *batch = &feed->slot[i].batch;
        for (int t = 0; batch->states && t < feed->plan.taps; t++)
            free(batch->states[t]);
        free(batch->states);
        free(batch->labels);
        free(batch->values);
        free(batch->u);
    }
    pool_destroy(feed->pool);
    pthread_mutex_destroy(&feed->lock);
    free(feed->reader);
    free(feed->ids);
    free(feed->place);
    free(feed);
}
