#include "train/step_feed.h"

void step_feed_close(struct step_feed *feed)
{
    if (!feed->feed)
        return;
    feed->waited += feed_waiting(feed->feed);
    feed_close(feed->feed);
    feed->feed = NULL;
}

static int open_at(struct step_feed *feed, int64_t step, unsigned teach, struct error *error)
{
    const uint64_t sequences = (uint64_t)feed->sequences;
    struct feed_plan plan = {
        .split = SPLIT_TRAIN,
        .shuffled = true,
        .seed = feed->seed,
        .sequences = feed->sequences,
        .first = (uint64_t)step * sequences,
        .end = (uint64_t)feed->steps * sequences,
    };
    batch_plan(feed->batch, teach, &plan);
    feed->step = step;
    return feed_open(feed->stores, &plan, feed->threads, &feed->feed, error);
}

int step_feed_next(struct step_feed *feed, int64_t step, unsigned teach, const struct feed_batch **next,
                   struct error *error)
{
    if (feed->step != step)
        step_feed_close(feed);
    if (!feed->feed && open_at(feed, step, teach, error) < 0)
        return -1;
    feed->step++;
    return feed_next(feed->feed, next, error);
}

double step_feed_waited(const struct step_feed *feed)
{
    return feed->waited + (feed->feed ? feed_waiting(feed->feed) : 0);
}
