#include "train/feed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "train/ahead.h"
#include "train/read_order.h"

/* Room for a batch. It is filled in parts: of each sequence its labels, each tap, and the target where it is
 * wanted. */
struct slot {
    struct feed_batch batch;
    float **states; /* [taps][M, H] what the batch's views are of; NULL where they are of the map */
    float *u; /* likewise */
    int left; /* parts that are not filled in yet */
    int failed_part; /* the first one, whatever the order they ran in; -1: none */
    struct error error;
};

/* One thread and what it reads with. */
struct decoder {
    struct feed *feed;
    struct shards_reader *reader;
    int32_t *ids; /* [rows + 1] */
    pthread_t thread;
};

struct feed {
    const struct stores *stores;
    struct feed_plan plan;
    struct read_order order;
    int *column; /* [taps]: their numbers in the stores */
    struct ahead *ahead;
    struct decoder *decoder; /* [decoders] */
    int decoders;
    double waiting; /* the reader's */
    uint64_t batches; /* in all */
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t ready, room; /* a batch has been filled; one was given back */
    struct slot slot[FEED_BATCHES]; /* batch b is in slot b % FEED_BATCHES */
    uint64_t next_batch; /* of the part to be filled next */
    int next_part;
    uint64_t given; /* batches that the reader has had; it holds the last one */
    bool holding, stopping;
};

/* ---- filling a batch ---- */

static int fill_labels(struct feed *feed, struct shards_reader *reader, struct sequence sequence, int32_t *ids,
                       int32_t *labels, struct error *error)
{
    if (shards_reader_tokens(reader, sequence, ids, error) < 0)
        return -1;
    memcpy(labels, ids + 1, (size_t)feed->stores->rows * sizeof *ids);
    return 0;
}

static bool reads_target(const struct feed_plan *plan)
{
    return plan->values || plan->u || plan->best;
}

/* Of a sequence. */
static int part_count(const struct feed_plan *plan)
{
    return 1 + plan->taps + reads_target(plan);
}

static float *rows_from(float *states, int64_t row, int64_t hidden)
{
    return states ? states + row * hidden : NULL;
}

static int fill_target(struct decoder *decoder, struct slot *slot, int index, struct sequence sequence,
                       struct error *error)
{
    const struct stores *stores = decoder->feed->stores;
    struct feed_batch *batch = &slot->batch;
    const int64_t row = index * stores->rows;
    if (shards_reader_target_view(decoder->reader, sequence, batch->values + row,
                                  rows_from(slot->u, row, stores->config.hidden),
                                  batch->u ? &batch->u[index] : NULL, error) < 0)
        return -1;
    for (int64_t r = row; batch->best && r < row + stores->rows; r++)
        memcpy(batch->best + r * batch->best_count, batch->values[r].best,
               (size_t)batch->best_count * sizeof *batch->best);
    return 0;
}

/* Fills part `part` of a batch, counted sequence by sequence. */
static int fill_part(struct decoder *decoder, struct slot *slot, int part, struct error *error)
{
    struct feed *feed = decoder->feed;
    struct feed_batch *batch = &slot->batch;
    const int parts = part_count(&feed->plan), index = part / parts, tap = part % parts - 1;
    const struct sequence sequence = read_order_at(&feed->order, batch->first + (uint64_t)index);
    const int64_t hidden = feed->stores->config.hidden, row = index * feed->stores->rows;
    if (tap < 0)
        return fill_labels(feed, decoder->reader, sequence, decoder->ids, batch->labels + row, error);
    if (tap < feed->plan.taps)
        return shards_reader_view(decoder->reader, feed->column[tap], sequence,
                                  rows_from(slot->states[tap], row, hidden), &batch->states[tap][index], error);
    return fill_target(decoder, slot, index, sequence, error);
}

/* Batch `number` begins in its slot, which is empty. */
static void begin_batch(struct feed *feed, struct slot *slot, uint64_t number)
{
    struct feed_batch *batch = &slot->batch;
    batch->first = feed->plan.first + number * (uint64_t)feed->plan.sequences;
    const uint64_t left = feed->plan.end - batch->first;
    batch->sequences = left < (uint64_t)feed->plan.sequences ? (int)left : feed->plan.sequences;
    batch->rows = (int64_t)batch->sequences * feed->stores->rows;
    slot->left = batch->sequences * part_count(&feed->plan);
    slot->failed_part = -1;
}

/* The next part, of the batch in *slot, when there is room for that; -1: there are no more. */
static int take_part(struct feed *feed, struct slot **slot)
{
    int part = -1;
    uint64_t first = 0;
    pthread_mutex_lock(&feed->mutex);
    while (!feed->stopping && feed->next_batch < feed->batches &&
           feed->next_batch >= feed->given - feed->holding + FEED_BATCHES)
        pthread_cond_wait(&feed->room, &feed->mutex);
    if (!feed->stopping && feed->next_batch < feed->batches) {
        *slot = &feed->slot[feed->next_batch % FEED_BATCHES];
        if (feed->next_part == 0)
            begin_batch(feed, *slot, feed->next_batch);
        first = (*slot)->batch.first;
        part = feed->next_part++;
        if (feed->next_part == (*slot)->batch.sequences * part_count(&feed->plan)) {
            feed->next_part = 0;
            feed->next_batch++;
        }
    }
    pthread_mutex_unlock(&feed->mutex);
    if (part == 0)
        ahead_move(feed->ahead, first);
    return part;
}

static void *decoder_run(void *context)
{
    struct decoder *decoder = context;
    struct feed *feed = decoder->feed;
    struct slot *slot;
    int part;
    while ((part = take_part(feed, &slot)) >= 0) {
        struct error error;
        const int result = cli_interrupted() ? error_set_kind(&error, ERROR_INTERRUPTED, "interrupted")
                                             : fill_part(decoder, slot, part, &error);
        pthread_mutex_lock(&feed->mutex);
        if (result < 0 && (slot->failed_part < 0 || part < slot->failed_part)) {
            slot->failed_part = part;
            slot->error = error;
        }
        const bool filled = --slot->left == 0;
        pthread_mutex_unlock(&feed->mutex);
        if (filled) /* whom it wakes wants the mutex */
            pthread_cond_signal(&feed->ready);
    }
    return NULL;
}

/* ---- life ---- */

/* Views of a column's states in a batch, and room for those that are decoded. */
static int allocate_states(const struct feed *feed, int column, size_t values, struct states_view **views,
                           float **states, struct error *error)
{
    const struct codec *codec = shards_info(feed->stores->shards)->codec[column].codec;
    if (array_alloc(views, feed->plan.sequences, error) < 0)
        return -1;
    return codec->check_plain ? 0 : array_alloc(states, values, error);
}

static int allocate_best(const struct feed *feed, struct feed_batch *batch, size_t rows, struct error *error)
{
    batch->best_count = target_best(&shards_info(feed->stores->shards)->columns);
    if (batch->best_count == 0)
        return error_set(error, "the store's target has no best tokens of the full model: extract it again");
    return array_alloc(&batch->best, rows * (size_t)batch->best_count, error);
}

static int allocate_slots(struct feed *feed, struct error *error)
{
    const int target = store_find_target(shards_info(feed->stores->shards));
    size_t rows, values;
    if (!size_multiply((size_t)feed->plan.sequences, (size_t)feed->stores->rows, &rows) ||
        !size_multiply(rows, (size_t)feed->stores->config.hidden, &values))
        return error_set(error, "%d sequences are too many for a batch", feed->plan.sequences);
    for (int i = 0; i < FEED_BATCHES; i++) {
        struct slot *slot = &feed->slot[i];
        struct feed_batch *batch = &slot->batch;
        if (array_alloc(&batch->labels, rows, error) < 0 ||
            array_alloc(&batch->states, feed->plan.taps, error) < 0 ||
            array_alloc(&slot->states, feed->plan.taps, error) < 0)
            return -1;
        for (int t = 0; t < feed->plan.taps; t++) {
            if (allocate_states(feed, feed->column[t], values, &batch->states[t], &slot->states[t], error) < 0)
                return -1;
        }
        if (reads_target(&feed->plan) && array_alloc(&batch->values, rows, error) < 0)
            return -1;
        if (feed->plan.best && allocate_best(feed, batch, rows, error) < 0)
            return -1;
        if (feed->plan.u && allocate_states(feed, target, values, &batch->u, &slot->u, error) < 0)
            return -1;
    }
    return 0;
}

static int find_taps(struct feed *feed, struct error *error)
{
    if (array_alloc(&feed->column, feed->plan.taps, error) < 0)
        return -1;
    for (int t = 0; t < feed->plan.taps; t++) {
        feed->column[t] = shards_find_tap(feed->stores->shards, feed->plan.tap[t], error);
        if (feed->column[t] < 0)
            return -1;
    }
    return 0;
}

static int open_ahead(struct feed *feed, struct error *error)
{
    const struct ahead_range range = {
        .order = feed->order, .first = feed->plan.first, .end = feed->plan.end, .batch = feed->plan.sequences};
    int *columns, count = 0;
    if (array_alloc(&columns, part_count(&feed->plan), error) < 0)
        return -1;
    columns[count++] = STORE_TOKENS;
    for (int t = 0; t < feed->plan.taps; t++)
        columns[count++] = feed->column[t];
    if (count < part_count(&feed->plan))
        columns[count++] = store_find_target(shards_info(feed->stores->shards));
    int result = ahead_open(feed->stores->shards, &range, columns, count, &feed->ahead, error);
    free(columns);
    return result;
}

static int start_decoders(struct feed *feed, int threads, struct error *error)
{
    if (array_alloc(&feed->decoder, threads, error) < 0)
        return -1;
    for (; feed->decoders < threads; feed->decoders++) {
        struct decoder *decoder = &feed->decoder[feed->decoders];
        decoder->feed = feed;
        if (shards_reader_open(feed->stores->shards, &decoder->reader, error) < 0)
            return -1;
        if (array_alloc(&decoder->ids, feed->stores->rows + 1, error) < 0 ||
            pthread_create(&decoder->thread, NULL, decoder_run, decoder) != 0) {
            shards_reader_close(decoder->reader);
            free(decoder->ids);
            return error_set_kind(error, ERROR_NO_MEMORY, "no thread can be started to read the store");
        }
    }
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
    opened->order = (struct read_order){.split = plan->split,
                                        .count = stores->sequences[plan->split],
                                        .shuffled = plan->shuffled,
                                        .seed = plan->seed};
    const uint64_t places = plan->end - plan->first, sequences = (uint64_t)plan->sequences;
    opened->batches = places / sequences + (places % sequences > 0);
    pthread_mutex_init(&opened->mutex, NULL);
    pthread_cond_init(&opened->ready, NULL);
    pthread_cond_init(&opened->room, NULL);
    if (find_taps(opened, error) < 0 || allocate_slots(opened, error) < 0 || open_ahead(opened, error) < 0 ||
        start_decoders(opened, threads, error) < 0) {
        feed_close(opened);
        return -1;
    }
    *feed = opened;
    return 0;
}

/* A record that cannot be read is damaged, unless it is the machine that fails. */
static int refuse_record(const struct error *reason, struct error *error)
{
    *error = *reason;
    error_narrow(error, ERROR_DAMAGED);
    return store_advise(error);
}

int feed_next(struct feed *feed, const struct feed_batch **batch, struct error *error)
{
    *batch = NULL;
    pthread_mutex_lock(&feed->mutex);
    feed->holding = feed->given < feed->batches;
    const uint64_t number = feed->given;
    if (feed->holding)
        feed->given++;
    pthread_cond_broadcast(&feed->room);
    struct slot *slot = &feed->slot[number % FEED_BATCHES];
    const double started = clock_seconds();
    while (feed->holding && (feed->next_batch <= number || slot->left > 0))
        pthread_cond_wait(&feed->ready, &feed->mutex);
    feed->waiting += clock_seconds() - started;
    pthread_mutex_unlock(&feed->mutex);
    if (!feed->holding)
        return 0;
    if (slot->failed_part >= 0)
        return refuse_record(&slot->error, error);
    *batch = &slot->batch;
    return 0;
}

int feed_take_all(struct feed *feed,
                  int (*take)(void *context, const struct feed_batch *batch, struct error *error),
                  void *context, bool *complete, struct error *error)
{
    const struct feed_batch *batch;
    *complete = false;
    while (feed_next(feed, &batch, error) == 0) {
        *complete = !batch;
        if (!batch || cli_interrupted())
            return 0;
        if (take(context, batch, error) < 0)
            return -1;
    }
    return error->kind == ERROR_INTERRUPTED ? 0 : -1;
}

void feed_write(struct queue *queue, const struct states_view *states, int sequences, struct matrix matrix)
{
    const int64_t rows = matrix.rows / sequences;
    for (int s = 0; s < sequences; s++) {
        const struct matrix part = matrix_rows(matrix, s * rows, rows);
        if (states[s].type == DTYPE_BF16)
            op_write_bf16(queue, part, states[s].values);
        else
            op_write(queue, part, states[s].values);
    }
}

double feed_waiting(const struct feed *feed)
{
    return feed->waiting;
}

static void stop_decoders(struct feed *feed)
{
    pthread_mutex_lock(&feed->mutex);
    feed->stopping = true;
    pthread_cond_broadcast(&feed->room);
    pthread_mutex_unlock(&feed->mutex);
    for (int i = 0; i < feed->decoders; i++) {
        pthread_join(feed->decoder[i].thread, NULL);
        shards_reader_close(feed->decoder[i].reader);
        free(feed->decoder[i].ids);
    }
    free(feed->decoder);
}

void feed_close(struct feed *feed)
{
    if (!feed)
        return;
    stop_decoders(feed);
    ahead_close(feed->ahead);
    for (int i = 0; i < FEED_BATCHES; i++) {
        struct slot *slot = &feed->slot[i];
        struct feed_batch *batch = &slot->batch;
        for (int t = 0; batch->states && t < feed->plan.taps; t++)
            free(batch->states[t]);
        for (int t = 0; slot->states && t < feed->plan.taps; t++)
            free(slot->states[t]);
        free(batch->states);
        free(slot->states);
        free(slot->u);
        free(batch->labels);
        free(batch->values);
        free(batch->best);
        free(batch->u);
    }
    pthread_cond_destroy(&feed->ready);
    pthread_cond_destroy(&feed->room);
    pthread_mutex_destroy(&feed->mutex);
    free(feed->column);
    free(feed);
}
