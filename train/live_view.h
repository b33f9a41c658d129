/* live_view.h: what is seen of a run while it trains. On a terminal these are some lines that are drawn over four
 * times a second: how far the run is, how long it will take, what its trials are doing, and the ten best so far.
 *
 *     train [###########...................]  37 %  812 tokens/s  4 min 05 s left
 *     16 trials: 8 live, 4 waiting, 3 stopped, 1 failed; step 120 of 500
 *           KL  agreement    step  tap    head   trial
 *       0.5690     67.7 %     100  24     affine 24-affine-ridge-distillation-0.001
 *
 * Elsewhere it is a plain line every 10 seconds, with the best one.
 *
 * Tokens are those that each trial takes its steps on and those that it is evaluated on, added up over trials. Those
 * of a trial that has rungs before it (schedule.h) count by the share of trials that will go on.
 *
 *     live_view_start(&view, &members, &schedule, &work);
 *     live_view_update(&view);
 *     live_view_finish(&view);
 */
#ifndef OFFRAMP_TRAIN_LIVE_VIEW_H
#define OFFRAMP_TRAIN_LIVE_VIEW_H

#include "common/base/progress.h"
#include "train/members.h"
#include "train/schedule.h"

#define LIVE_VIEW_BEST 10

/* What there is to do, in tokens. */
struct live_work {
    int64_t step;
    int64_t every; /* steps between evaluations; 0: the first and the last only */
    int64_t sample; /* an evaluation before the end */
    int64_t end; /* what more is read at the end */
};

struct live_view {
    struct progress progress;
    const struct members *members; /* which must outlive it, as must: */
    const struct schedule *schedule;
    struct live_work work;
};

/* Of members of which is known what they have done. */
void live_view_start(struct live_view *view, const struct members *members, const struct schedule *schedule,
                     const struct live_work *work);
/* May be called as often as you like. */
void live_view_update(struct live_view *view);
/* Leaves the bar, without the lines below it. */
void live_view_finish(struct live_view *view);

#endif
