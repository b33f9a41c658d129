#include "common/base/channel.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/memory.h"

struct channel {
    pthread_mutex_t mutex;
    pthread_cond_t filled, emptied;
    bool closed, cancelled;
    size_t capacity, count, first;
    void **item; /* [capacity], a ring */
};

int channel_create(size_t capacity, struct channel **result, struct error *error)
{
    struct channel *channel = memory_alloc(1, sizeof *channel, error);
    *result = NULL;
    if (!channel)
        return -1;
    channel->capacity = capacity > 0 ? capacity : 1;
    if (array_alloc(&channel->item, channel->capacity, error) < 0) {
        free(channel);
        return -1;
    }
    pthread_mutex_init(&channel->mutex, NULL);
    pthread_cond_init(&channel->filled, NULL);
    pthread_cond_init(&channel->emptied, NULL);
    *result = channel;
    return 0;
}

void channel_destroy(struct channel *channel)
{
    if (!channel)
        return;
    pthread_cond_destroy(&channel->filled);
    pthread_cond_destroy(&channel->emptied);
    pthread_mutex_destroy(&channel->mutex);
    free(channel->item);
    free(channel);
}

static void add_waiting(struct stage *stage, double since)
{
    if (stage && since > 0)
        stage->waiting += clock_seconds() - since;
}

bool channel_send(struct channel *channel, void *item, struct stage *stage)
{
    pthread_mutex_lock(&channel->mutex);
    double since = channel->count == channel->capacity ? clock_seconds() : 0;
    while (channel->count == channel->capacity && !channel->cancelled)
        pthread_cond_wait(&channel->emptied, &channel->mutex);
    bool sent = !channel->cancelled;
    if (sent) {
        channel->item[(channel->first + channel->count++) % channel->capacity] = item;
        pthread_cond_signal(&channel->filled);
    }
    pthread_mutex_unlock(&channel->mutex);
    add_waiting(stage, since);
    return sent;
}

bool channel_await(struct channel *channel, double until, struct stage *stage)
{
    const bool ever = !(until < 1e9); /* seconds since the machine was started */
    const struct timespec time = {ever ? 0 : (time_t)until, ever ? 0 : (long)(1e9 * (until - floor(until)))};
    bool in_time = true;
    pthread_mutex_lock(&channel->mutex);
    const double since = channel->count == 0 ? clock_seconds() : 0;
    while (channel->count == 0 && !channel->closed && !channel->cancelled && in_time) {
        if (ever)
            pthread_cond_wait(&channel->filled, &channel->mutex);
        else
            in_time = pthread_cond_clockwait(&channel->filled, &channel->mutex, CLOCK_MONOTONIC, &time) == 0;
    }
    const bool ready = channel->count > 0 || channel->closed || channel->cancelled;
    pthread_mutex_unlock(&channel->mutex);
    add_waiting(stage, since);
    return ready;
}

void *channel_receive(struct channel *channel, struct stage *stage)
{
    void *item = NULL;
    pthread_mutex_lock(&channel->mutex);
    double since = channel->count == 0 ? clock_seconds() : 0;
    while (channel->count == 0 && !channel->closed && !channel->cancelled)
        pthread_cond_wait(&channel->filled, &channel->mutex);
    if (channel->count > 0 && !channel->cancelled) {
        item = channel->item[channel->first];
        channel->first = (channel->first + 1) % channel->capacity;
        channel->count--;
        pthread_cond_signal(&channel->emptied);
    }
    pthread_mutex_unlock(&channel->mutex);
    add_waiting(stage, since);
    return item;
}

void channel_close(struct channel *channel)
{
    pthread_mutex_lock(&channel->mutex);
    channel->closed = true;
    pthread_cond_broadcast(&channel->filled);
    pthread_mutex_unlock(&channel->mutex);
}

void channel_cancel(struct channel *channel, void (*drop)(void *item))
{
    pthread_mutex_lock(&channel->mutex);
    channel->cancelled = true;
    while (channel->count > 0) {
        void *item = channel->item[channel->first];
        channel->first = (channel->first + 1) % channel->capacity;
        channel->count--;
        if (drop)
            drop(item);
    }
    pthread_cond_broadcast(&channel->filled);
    pthread_cond_broadcast(&channel->emptied);
    pthread_mutex_unlock(&channel->mutex);
}
