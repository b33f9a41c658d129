/* step_feed.h: the batch of each step of a run, from the stores.
 *
 * Step s reads the places from s times `sequences` on (read_order.h), so its batch depends on the seed and s
 * only. Steps that follow each other come from one feed, which reads ahead. A step that does not follow opens
 * another feed there: so a run goes on where it was, and leaves out the steps that no trial takes any more.
 *
 *     struct step_feed feed = {.stores = &stores, .batch = batch, .sequences = 8, .steps = 100, .threads = 2};
 *     step_feed_next(&feed, step, teach, &next, error);       // then batch_load(batch, next, ...)
 *     step_feed_close(&feed);
 */
#ifndef OFFRAMP_TRAIN_STEP_FEED_H
#define OFFRAMP_TRAIN_STEP_FEED_H

#include "common/base/error.h"
#include "train/batch.h"
#include "train/feed.h"
#include "train/stores.h"

struct step_feed {
    /* Given. */
    const struct stores *stores;
    const struct batch *batch; /* whose taps are read */
    uint64_t seed;
    int sequences; /* of a step */
    int64_t steps; /* of the run */
    int threads; /* that decode */

    /* Its own; zeros at first. */
    struct feed *feed; /* NULL: none is open */
    int64_t step; /* whose batch is the feed's next one */
    double waited; /* seconds, for feeds that are closed */
};

/* The batch of step `step` (from 0), until the next call. teach: what this step and those after it are taught
 * by; it is read when a feed is opened. */
int step_feed_next(struct step_feed *feed, int64_t step, unsigned teach, const struct feed_batch **next,
                   struct error *error);
/* Seconds that step_feed_next has waited for the stores, in all. */
double step_feed_waited(const struct step_feed *feed);
void step_feed_close(struct step_feed *feed); /* a zeroed one is fine */

#endif
