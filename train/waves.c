#include "train/waves.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/memory.h"
#include "common/head/draft.h"

int waves_open(const struct waves_setting *setting, struct waves *waves, struct error *error)
{
    const int count = setting->members->count;
    *waves = (struct waves){.setting = *setting};
    return array_alloc(&waves->standings, count, error) < 0 || array_alloc(&waves->verdicts, count, error) < 0
               ? -1
               : 0;
}

void waves_close(struct waves *waves)
{
    free(waves->standings);
    free(waves->verdicts);
    *waves = (struct waves){0};
}

/* One that has run out of patience ends where it is, before it is compared there: it is as if it were not evaluated
 * yet. */
static bool is_to_end(const struct waves_setting *setting, const struct member *member, int64_t step)
{
    return member->state == MEMBER_WAITING && member_step(member) == step &&
           member_has_stalled(member, setting->patience);
}

static double kl_at_rung(const struct waves_setting *setting, const struct member *member, int64_t step)
{
    if (member->state == MEMBER_DONE && member->evaluated < step)
        return member->best.kl;
    return is_to_end(setting, member, step) ? NAN : member_kl_at(member, step);
}

static struct standing stand(const struct waves_setting *setting, const struct member *member)
{
    const struct schedule *schedule = &setting->schedule;
    struct standing standing = {.tap = member->config->spec.tap,
                                .draft = head_kind_is_draft(member->config->spec.kind),
                                .step = member_step(member)};
    switch (member->state) {
    case MEMBER_DONE: standing.state = STANDING_ENDED; break;
    case MEMBER_FAILED: standing.state = STANDING_FAILED; break;
    case MEMBER_STOPPED: standing.state = STANDING_STOPPED; break;
    default: standing.state = STANDING_OPEN; break;
    }
    for (int r = 0; r < RUNGS_MAX; r++)
        standing.kl[r] = r < schedule->rungs ? kl_at_rung(setting, member, schedule->rung[r]) : NAN;
    return standing;
}

int waves_next(struct waves *waves, struct wave *wave, struct error *error)
{
    const struct waves_setting *setting = &waves->setting;
    struct members *members = setting->members;
    for (int i = 0; i < members->count; i++)
        waves->standings[i] = stand(setting, &members->member[i]);
    if (schedule_next(&setting->schedule, waves->standings, members->count, waves->verdicts, wave, error) < 0)
        return -1;
    /* Room first. */
    for (int i = 0; i < members->count; i++) {
        struct member *member = &members->member[i];
        const struct verdict *verdict = &waves->verdicts[i];
        if (verdict->kind == VERDICT_STOP && member_stop(member, verdict->reason, error) < 0)
            return -1;
        if (verdict->kind == VERDICT_WAIT && member->state == MEMBER_TRAINING && member_park(member, error) < 0)
            return -1;
    }
    if (members_settle(members, error) < 0)
        return -1;
    for (int i = 0; i < members->count; i++) {
        struct member *member = &members->member[i];
        if (waves->verdicts[i].kind == VERDICT_LIVE && member->state == MEMBER_WAITING &&
            members_resume(members, member, setting->resume, error) < 0)
            return -1;
    }
    return 0;
}
