#include "train/ahead.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"

#define AHEAD_BYTES (32u << 20)
/* Batches ahead at least. */
#define AHEAD_BATCHES 2

struct ahead {
    struct ahead_range range;
    int *columns; /* [count] */
    int count;
    struct shards_reader *reader;
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t moved;
    uint64_t place; /* the first that is not done with */
    uint64_t wanted; /* the place that the thread waits for */
    bool stopping;
};

/* Bytes of a sequence that were asked for. */
static size_t ask_for(struct ahead *ahead, uint64_t place)
{
    struct sequence sequence = read_order_at(&ahead->range.order, place);
    struct reader *reader = shards_reader_of(ahead->reader, &sequence);
    size_t bytes = 0;
    for (int i = 0; i < ahead->count; i++)
        bytes += reader_ahead(reader, ahead->columns[i], sequence);
    return bytes;
}

/* Waits, when `place` is `lead` ahead, until it is half of that: being woken takes a processor from a decoder.
 * False: it is over. */
static bool wait_for_turn(struct ahead *ahead, uint64_t place, uint64_t lead)
{
    pthread_mutex_lock(&ahead->mutex);
    if (place >= ahead->place + lead)
        ahead->wanted = place - lead / 2;
    while (!ahead->stopping && ahead->place < ahead->wanted)
        pthread_cond_wait(&ahead->moved, &ahead->mutex);
    const bool going = !ahead->stopping;
    pthread_mutex_unlock(&ahead->mutex);
    return going;
}

static void *run(void *context)
{
    struct ahead *ahead = context;
    const uint64_t least = AHEAD_BATCHES * (uint64_t)ahead->range.batch;
    uint64_t lead = least;
    for (uint64_t place = ahead->range.first; place < ahead->range.end; place++) {
        if (!wait_for_turn(ahead, place, lead))
            break;
        const size_t bytes = ask_for(ahead, place);
        if (bytes > 0)
            lead = AHEAD_BYTES / bytes > least ? AHEAD_BYTES / bytes : least;
    }
    return NULL;
}

int ahead_open(struct shards *shards, const struct ahead_range *range, const int *columns, int count,
               struct ahead **result, struct error *error)
{
    struct ahead *ahead;
    *result = NULL;
    if (array_alloc(&ahead, 1, error) < 0)
        return -1;
    ahead->range = *range;
    ahead->count = count;
    ahead->place = range->first;
    pthread_mutex_init(&ahead->mutex, NULL);
    pthread_cond_init(&ahead->moved, NULL);
    if (array_alloc(&ahead->columns, count, error) < 0 || shards_reader_open(shards, &ahead->reader, error) < 0)
        goto failed;
    memcpy(ahead->columns, columns, (size_t)count * sizeof *columns);
    if (pthread_create(&ahead->thread, NULL, run, ahead) != 0) {
        error_set_kind(error, ERROR_NO_MEMORY, "no thread can be started to read ahead");
        goto failed;
    }
    ahead->started = true;
    *result = ahead;
    return 0;
failed:
    ahead_close(ahead);
    return -1;
}

void ahead_move(struct ahead *ahead, uint64_t place)
{
    pthread_mutex_lock(&ahead->mutex);
    const bool reached = ahead->place < ahead->wanted && place >= ahead->wanted;
    if (place > ahead->place)
        ahead->place = place;
    pthread_mutex_unlock(&ahead->mutex);
    if (reached)
        pthread_cond_signal(&ahead->moved);
}

void ahead_close(struct ahead *ahead)
{
    if (!ahead)
        return;
    if (ahead->started) {
        pthread_mutex_lock(&ahead->mutex);
        ahead->stopping = true;
        pthread_cond_signal(&ahead->moved);
        pthread_mutex_unlock(&ahead->mutex);
        pthread_join(ahead->thread, NULL);
    }
    shards_reader_close(ahead->reader);
    pthread_cond_destroy(&ahead->moved);
    pthread_mutex_destroy(&ahead->mutex);
    free(ahead->columns);
    free(ahead);
}
