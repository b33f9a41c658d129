/* schedule.h: which trials of a run are live next, how far they go, and which of them stop. It knows no files:
 * it decides by what is known of each trial, and by nothing else, so a run that goes on decides as one that was
 * never stopped.
 *
 * Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): a run of T steps has rungs at ceil(T / H^k),
 * k = 1, 2 ..., none of them before T / 16 but the last one. At a rung the trials of a tap are ranked by their
 * KL, and the best ceil(n / H) of those n that have come so far go on. They are compared at their own tap only:
 * a policy wants a head at each tap, and a later tap always comes closer to the full model, so that a comparison
 * across taps would keep nothing but the last tap. A trial that failed on its way to the rung counts among
 * the n, as the worst. Equal ones rank in the order of the sweep.
 *
 *     steps 0 .. 60, H = 4       rungs at 4 and 15
 *     a   ----|-----|------------------------------|
 *     b   ----|-----|                                 the third of four at its tap
 *     c   ----|
 *     d   ----|
 *
 * Trials that are added to a run when others have passed a rung are compared with all that have come to it
 * (ASHA, Li et al. 2018, arXiv 1810.05934). Those that have passed it are not called back, and those that have
 * stopped stay stopped. The same holds when the run gets more steps, and so other rungs: a trial that is behind
 * a rung, and was not evaluated there, has passed it and is not counted.
 *
 * Where not all may be live at a time, they go in waves. The lowest goal comes first; of those that have it,
 * the ones that have done more steps, then those of the same tap, so that a wave reads few taps.
 *
 *     for (;;) {
 *         schedule_next(&schedule, standings, count, verdicts, &wave);
 *         ... stop those of VERDICT_STOP ...
 *         if (wave.count == 0)
 *             break;
 *         ... those of VERDICT_LIVE to wave.step, and an evaluation there ...
 *     }
 */
#ifndef OFFRAMP_TRAIN_SCHEDULE_H
#define OFFRAMP_TRAIN_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/store/tap.h"

#define RUNGS_MAX 4

struct schedule {
    int64_t steps; /* of the run: T */
    int halving; /* H, at least 2; 0: no trial is stopped */
    int most; /* trials that may be live at a time; at least 1 */
    int64_t rung[RUNGS_MAX]; /* [rungs], ascending; by schedule_create */
    int rungs;
};

enum standing_state {
    STANDING_OPEN, /* it has more to do */
    STANDING_ENDED, /* it has done what it had to, perhaps before the last step */
    STANDING_STOPPED, /* at a rung */
    STANDING_FAILED
};

/* What is known of a trial. */
struct standing {
    enum standing_state state;
    struct tap tap;
    bool draft; /* it is compared with drafts, the others with exits */
    int64_t step; /* that it has done */
    double kl
        [RUNGS_MAX]; /* from its evaluation at each rung; NaN: there was none. Of one that ended before a rung:
                             its lowest one */
};

enum verdict_kind { VERDICT_WAIT, VERDICT_LIVE, VERDICT_STOP };

struct verdict {
    enum verdict_kind kind;
    char reason[160]; /* of VERDICT_STOP, with numbers */
};

/* Trials that go to a step together. */
struct wave {
    int count; /* 0: nothing is left to do */
    int64_t step; /* the rung, or the run's last step */
};

struct schedule schedule_create(int64_t steps, int halving, int most);

/* True for the steps after which all trials are evaluated, whatever else is asked for. */
bool schedule_is_rung(const struct schedule *schedule, int64_t step);

/* verdicts [count], one for each trial. All that stop are told at once, those that are live one wave at a time.
 * An error when memory is out. */
int schedule_next(const struct schedule *schedule, const struct standing *standings, int count,
                  struct verdict *verdicts, struct wave *wave, struct error *error);

#endif
