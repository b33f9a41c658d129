/* channel.h: a bounded first-in first-out line of pointers between the stages of a pipeline.
 *
 * A full channel blocks the sender, an empty one blocks the receiver. The seconds are added to the stage that
 * waited, so that one can see which stage is too slow.
 *
 *     producer: if (!channel_send(channel, item, &stage)) stop;     // false: cancelled
 *     consumer: while ((item = channel_receive(channel, &stage))) ...   // NULL: closed and empty
 */
#ifndef OFFRAMP_BASE_CHANNEL_H
#define OFFRAMP_BASE_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"

/* Seconds a stage has worked and waited; one thread writes it. */
struct stage {
    const char *name;
    double busy, waiting;
};

struct channel;

int channel_create(size_t capacity, struct channel **channel, struct error *error);
void channel_destroy(struct channel *channel); /* NULL is fine; nobody may be inside */

/* False when the channel was cancelled: the item stays the caller's. `stage` may be NULL. */
bool channel_send(struct channel *channel, void *item, struct stage *stage);

/* Waits until channel_receive does not have to wait, or until clock_seconds is `until` (INFINITY: for ever).
 * False when the time came first. */
bool channel_await(struct channel *channel, double until, struct stage *stage);

/* The oldest item; NULL when the channel is closed and empty, or cancelled. */
void *channel_receive(struct channel *channel, struct stage *stage);

/* No more sends will come; what is inside is still delivered. */
void channel_close(struct channel *channel);

/* Wakes all threads that wait; their calls return false or NULL. `drop`, which may be NULL, is called for each
 * item inside. */
void channel_cancel(struct channel *channel, void (*drop)(void *item));

#endif
