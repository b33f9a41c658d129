#include "train/schedule.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/memory.h"

#define LEAST_SHARE 16 /* what is seen of a trial before a T / 16 says too little */

/* ---- rungs ---- */

struct schedule schedule_create(int64_t steps, int halving, int most)
{
    struct schedule schedule = {.steps = steps, .halving = halving, .most = most > 0 ? most : 1};
    int64_t power = 1;
    int rungs = 0;
    while (halving > 1 && rungs < RUNGS_MAX && (rungs == 0 || power * halving <= LEAST_SHARE)) {
        power *= halving;
        rungs++;
    }
    for (; rungs > 0; rungs--, power /= halving) {
        const int64_t step = (steps + power - 1) / power;
        const int64_t before = schedule.rungs > 0 ? schedule.rung[schedule.rungs - 1] : 0;
        if (step > before && step < steps)
            schedule.rung[schedule.rungs++] = step;
    }
    return schedule;
}

bool schedule_is_rung(const struct schedule *schedule, int64_t step)
{
    for (int r = 0; r < schedule->rungs; r++) {
        if (schedule->rung[r] == step)
            return true;
    }
    return false;
}

/* ---- at a rung ---- */

struct field {
    const struct schedule *schedule;
    const struct standing *standings; /* [count] */
    int count;
};

static bool is_below(const struct field *field, const struct standing *standing, int rung)
{
    const int64_t step = field->schedule->rung[rung];
    return standing->state == STANDING_OPEN &&
           (standing->step < step || (standing->step == step && isnan(standing->kl[rung])));
}

/* Its turn to be ranked there has come. */
static bool is_at(const struct field *field, const struct standing *standing, int rung)
{
    return standing->state == STANDING_OPEN && standing->step == field->schedule->rung[rung] &&
           !isnan(standing->kl[rung]);
}

/* It has failed on its way from the rung before this one. */
static bool failed_below(const struct standing *standing, int rung)
{
    return standing->state == STANDING_FAILED && isnan(standing->kl[rung]) &&
           (rung == 0 || !isnan(standing->kl[rung - 1]));
}

/* Where a trial is among those of its tap at a rung. */
struct rank {
    bool early; /* some are on their way still */
    int better; /* trials that rank before it */
    int count; /* of all; it is among them */
};

static struct rank rank_at(const struct field *field, int index, int rung)
{
    const struct standing *one = &field->standings[index];
    struct rank rank = {0};
    for (int i = 0; i < field->count && !rank.early; i++) {
        const struct standing *other = &field->standings[i];
        if (tap_compare(other->tap, one->tap) != 0 || other->draft != one->draft)
            continue;
        const double kl = other->kl[rung];
        rank.early = is_below(field, other, rung);
        rank.count += !isnan(kl) || failed_below(other, rung);
        rank.better += kl < one->kl[rung] || (kl == one->kl[rung] && i < index);
    }
    return rank;
}

static int kept_of(const struct schedule *schedule, int count)
{
    return (count + schedule->halving - 1) / schedule->halving;
}

static void stop(const struct field *field, int index, int rung, struct rank rank, struct verdict *verdict)
{
    const int kept = kept_of(field->schedule, rank.count);
    verdict->kind = VERDICT_STOP;
    snprintf(verdict->reason, sizeof verdict->reason,
             "halving: after step %" PRId64
             " its KL is %.6f, number %d of the %d trials at its tap; the best %d go%s on",
             field->schedule->rung[rung], field->standings[index].kl[rung], rank.better + 1, rank.count, kept,
             kept == 1 ? "es" : "");
}

/* The step that a trial goes to next; -1: none, or it has to wait. Fills in the verdict of one that stops. */
static int64_t find_goal(const struct field *field, int index, struct verdict *verdict)
{
    const struct standing *standing = &field->standings[index];
    const struct schedule *schedule = field->schedule;
    if (standing->state != STANDING_OPEN)
        return -1;
    for (int r = 0; r < schedule->rungs; r++) {
        if (is_below(field, standing, r))
            return schedule->rung[r];
        if (!is_at(field, standing, r))
            continue;
        const struct rank rank = rank_at(field, index, r);
        if (rank.early)
            return -1;
        if (rank.better >= kept_of(schedule, rank.count)) {
            stop(field, index, r, rank, verdict);
            return -1;
        }
    }
    return schedule->steps;
}

/* ---- waves ---- */

/* A trial that has the wave's goal. */
struct candidate {
    const struct standing *standing;
    int index;
};

static int compare_candidates(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    const int taps = tap_compare(a->standing->tap, b->standing->tap);
    if (a->standing->step != b->standing->step)
        return a->standing->step > b->standing->step ? -1 : 1;
    return taps ? taps : a->index - b->index;
}

int schedule_next(const struct schedule *schedule, const struct standing *standings, int count,
                  struct verdict *verdicts, struct wave *wave, struct error *error)
{
    const struct field field = {.schedule = schedule, .standings = standings, .count = count};
    struct candidate *candidates;
    int found = 0;
    *wave = (struct wave){0};
    if (array_alloc(&candidates, count, error) < 0)
        return -1;
    for (int i = 0; i < count; i++) {
        verdicts[i] = (struct verdict){.kind = VERDICT_WAIT};
        const int64_t goal = find_goal(&field, i, &verdicts[i]);
        if (goal < 0 || (found > 0 && goal > wave->step))
            continue;
        if (found > 0 && goal < wave->step)
            found = 0;
        wave->step = goal;
        candidates[found++] = (struct candidate){.standing = &standings[i], .index = i};
    }
    qsort(candidates, (size_t)found, sizeof *candidates, compare_candidates);
    wave->count = found < schedule->most ? found : schedule->most;
    for (int i = 0; i < wave->count; i++)
        verdicts[candidates[i].index].kind = VERDICT_LIVE;
    free(candidates);
    return 0;
}
