#include "common/store/runs.h"

#include <math.h>

#define DOUBLINGS 4 /* of the first run */

/* A run with what belongs to it: one training sequence, a gap, the run, a gap, the other training sequences. */
struct period {
    uint64_t run, train;
};

static struct period period_of(unsigned doublings, double share)
{
    const uint64_t run = (uint64_t)1 << doublings;
    const double train = round((double)run * (1 - share) / share);
    return (struct period){run, train < 1 ? 1 : train > 1e18 ? (uint64_t)1e18 : (uint64_t)train};
}

static uint64_t length_of(struct period period)
{
    return period.run + period.train + 2;
}

/* The period that a sequence lies in; *number becomes its number there, `before` the sequences of each split in
 * the periods before. */
static struct period find_period(uint64_t *number, double share, uint64_t before[SPLIT_COUNT])
{
    unsigned doublings = 0;
    struct period period = period_of(0, share);
    before[SPLIT_TRAIN] = before[SPLIT_HELD_OUT] = 0;
    while (doublings < DOUBLINGS && *number >= length_of(period)) {
        *number -= length_of(period);
        before[SPLIT_TRAIN] += period.train;
        before[SPLIT_HELD_OUT] += period.run;
        period = period_of(++doublings, share);
    }
    const uint64_t whole = *number / length_of(period);
    *number %= length_of(period);
    before[SPLIT_TRAIN] += whole * period.train;
    before[SPLIT_HELD_OUT] += whole * period.run;
    return period;
}

enum split runs_split(uint64_t number, double share)
{
    uint64_t before[SPLIT_COUNT];
    const struct period period = find_period(&number, share, before);
    if (number == 1 || number == period.run + 2)
        return RUNS_GAP;
    return number >= 2 && number < period.run + 2 ? SPLIT_HELD_OUT : SPLIT_TRAIN;
}

void runs_count(uint64_t count, double share, uint64_t sequences[SPLIT_COUNT])
{
    const struct period period = find_period(&count, share, sequences);
    const uint64_t behind = count > period.run + 3 ? count - period.run - 3 : 0;
    const uint64_t run = count > 2 ? count - 2 : 0;
    sequences[SPLIT_TRAIN] += (count > 0) + behind;
    sequences[SPLIT_HELD_OUT] += run < period.run ? run : period.run;
}
