#include "train/members.h"

#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/memory.h"

/* As much as the troubled one has to write: a disk that is nearly full takes small files still. */
static bool others_can_write(const struct members *members, const struct member *troubled)
{
    const int64_t bytes = member_file_bytes(troubled);
    for (int i = 0; i < members->count; i++) {
        const struct member *other = &members->member[i];
        if (other != troubled && !other->todo && other->state != MEMBER_FAILED &&
            member_can_write(other, bytes))
            return true;
    }
    return false;
}

/* ---- files that cannot be used when a run goes on ---- */

/* Whether an error may be of one trial's files alone. */
static bool may_be_left_out(const struct error *error)
{
    return member_may_fail_by(error) || error->kind == ERROR_DAMAGED;
}

/* The members that are in trouble have failed, each for its reason; it is their own fault when another one is served. */
static int leave_out(const struct members *members, struct member *member, const struct error *reason,
                     struct error *error)
{
    if (!others_can_write(members, member)) {
        *error = *reason;
        return error_prefix(error, "trial %s", member->config->id);
    }
    member_leave_out(member, reason);
    return 0;
}

int members_open(const struct resume_setting *setting, const struct sweep *sweep, const char *fingerprint,
                 struct members *members, struct error *error)
{
    struct error *reasons = NULL;
    int result = 0;
    *members = (struct members){0};
    if (array_alloc(&reasons, sweep->trials, error) < 0 ||
        array_alloc(&members->member, sweep->trials, error) < 0)
        result = -1;
    while (members->count < sweep->trials && result == 0) {
        const struct trial_config *config = &sweep->trial[members->count];
        struct error *reason = &reasons[members->count];
        struct member *member = &members->member[members->count++];
        if (member_open(setting->run, config, fingerprint, member, reason) == 0 &&
            member_look(member, setting, reason) == 0) {
            reason->text[0] = 0;
            continue;
        }
        member->state = MEMBER_FAILED; /* so that nobody asks it whether the machine still serves */
        if (!may_be_left_out(reason)) {
            *error = *reason;
            result = -1;
        }
    }
    for (int i = 0; i < members->count && result == 0; i++)
        if (reasons[i].text[0])
            result = leave_out(members, &members->member[i], &reasons[i], error);
    free(reasons);
    if (result < 0)
        members_close(members);
    return result;
}

int members_resume(const struct members *members, struct member *member, const struct resume_setting *setting,
                   struct error *error)
{
    struct error reason;
    if (member_resume(member, setting, &reason) == 0)
        return 0;
    if (may_be_left_out(&reason))
        return leave_out(members, member, &reason, error);
    *error = reason;
    return -1;
}

void members_close(struct members *members)
{
    for (int i = 0; i < members->count; i++)
        member_close(&members->member[i]);
    free(members->member);
    *members = (struct members){0};
}

int64_t members_step(const struct members *members)
{
    int64_t least = -1;
    for (int i = 0; i < members->count; i++) {
        const struct member *member = &members->member[i];
        if (member->state == MEMBER_TRAINING && (least < 0 || member->trial->step < least))
            least = member->trial->step;
    }
    return least;
}

int members_trials(const struct members *members, struct trial **trials)
{
    int count = 0;
    for (int i = 0; i < members->count; i++) {
        if (members->member[i].state == MEMBER_TRAINING)
            trials[count++] = members->member[i].trial;
    }
    return count;
}

unsigned members_teaching(const struct members *members, int64_t step)
{
    unsigned teach = TEACH_NOTHING;
    for (int i = 0; i < members->count; i++) {
        if (member_is_at(&members->member[i], step))
            teach |= trial_teaching(members->member[i].config);
    }
    return teach;
}

void members_charge(struct members *members, int64_t step, double seconds, double stalled)
{
    int count = 0;
    for (int i = 0; i < members->count; i++)
        count += member_is_at(&members->member[i], step);
    for (int i = 0; i < members->count; i++) {
        struct member *member = &members->member[i];
        if (!member_is_at(member, step))
            continue;
        member->cost.shared += seconds / count;
        member->cost.stalled += stalled / count;
    }
}

int members_settle(const struct members *members, struct error *error)
{
    for (int i = 0; i < members->count; i++) {
        struct member *member = &members->member[i];
        struct error reason;
        if (!member->todo || member_retry(member, &reason) == 0)
            continue;
        if (!member_may_fail_by(&reason) || !others_can_write(members, member)) {
            *error = reason;
            return error_prefix(error, "trial %s", member->config->id);
        }
        if (member_fail(member, &reason, error) < 0)
            return -1;
    }
    return 0;
}

int members_save(struct members *members, struct error *error)
{
    int result = 0;
    for (int i = 0; i < members->count; i++) {
        struct error reason;
        if (member_save(&members->member[i], &reason) == 0)
            continue;
        *error = reason;
        result = -1;
        if (reason.kind != ERROR_INTERRUPTED) /* it took too long; another's may not */
            return -1;
    }
    return result < 0 ? -1 : members_settle(members, error);
}

int members_sync(const struct members *members, struct error *error)
{
    for (int i = 0; i < members->count; i++) {
        if (member_sync(&members->member[i], error) < 0)
            return -1;
    }
    return 0;
}

int members_remove_checkpoints(const struct run_folder *run, const struct sweep *sweep, struct error *error)
{
    int result = 0;
    for (int i = 0; i < sweep->trials && result == 0; i++) {
        char *path = run_folder_trial_path(run, sweep->trial[i].id, "last.ckpt", error);
        result = !path ? -1 : file_exists(path) ? file_remove(path, error) : 0;
        if (result < 0 && path && member_may_fail_by(error)) { /* it is of no use, and does no harm */
            cli_say("%s; it is of no use any more", error->text);
            result = 0;
        }
        free(path);
    }
    return result;
}
