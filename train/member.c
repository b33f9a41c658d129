#include "train/member.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "train/checkpoint.h"
#include "train/run_identity.h"

int member_open(const struct run_folder *run, const struct trial_config *config, const char *fingerprint,
                struct member *member, struct error *error)
{
    *member = (struct member){.config = config, .fingerprint = fingerprint, .saved = -1};
    member->folder = run_folder_trial_path(run, config->id, NULL, error);
    member->checkpoint = run_folder_trial_path(run, config->id, "last.ckpt", error);
    member->metrics_path = run_folder_trial_path(run, config->id, "metrics.jsonl", error);
    member->head = run_folder_trial_path(run, config->id, "head.safetensors", error);
    if (!member->folder || !member->checkpoint || !member->metrics_path || !member->head ||
        directory_create(member->folder, error) < 0)
        return -1;
    remove_leftovers(member->folder);
    return 0;
}

static void drop_trial(struct member *member)
{
    trial_destroy(member->trial);
    member->trial = NULL;
}

void member_close(struct member *member)
{
    drop_trial(member);
    if (member->metrics)
        fclose(member->metrics);
    free(member->folder);
    free(member->checkpoint);
    free(member->metrics_path);
    free(member->head);
    *member = (struct member){0};
}

int member_keep_step(struct member *member, const struct trial_result *result, int64_t tokens, int64_t read,
                     struct error *error)
{
    const double started = clock_seconds();
    if (metrics_write_step(member->metrics, member->trial->step, tokens, result, &member->cost, read, error) <
        0)
        return -1;
    member->cost = (struct trial_cost){.own = clock_seconds() - started};
    return 0;
}

int member_keep_evaluation(struct member *member, const struct evaluation *held_out, int64_t tokens,
                           int64_t read, struct error *error)
{
    struct trial *trial = member->trial;
    if (held_out->kl < trial->best && member_keep_head(member, error) < 0)
        return -1;
    trial->best = fmin(trial->best, held_out->kl);
    trial->evaluated = trial->step;
    const double started = clock_seconds();
    if (metrics_write_evaluation(member->metrics, trial->step, tokens, held_out, &member->cost, read, error) <
        0)
        return -1;
    member->cost = (struct trial_cost){.own = clock_seconds() - started};
    return 0;
}

int member_keep_head(struct member *member, struct error *error)
{
    /* No run goes on from before the head that it has kept: what is better then might not come again. */
    if (member_save(member, error) < 0)
        return -1;
    const double started = clock_seconds();
    const int result =
        head_save(member->trial->head, member->trial->queue, member->head, member->fingerprint, error);
    member->cost.own += clock_seconds() - started;
    return result;
}

int member_sync(const struct member *member, struct error *error)
{
    return !member->metrics || fsync(fileno(member->metrics)) == 0
               ? 0
               : error_system(error, "%s: cannot be synced", member->metrics_path);
}

int member_save(struct member *member, struct error *error)
{
    const struct trial *trial = member->trial;
    const double started = clock_seconds();
    if (member->state != MEMBER_TRAINING || trial->failed || member->saved == trial->step)
        return 0;
    /* Lines first: a checkpoint must not count a step whose line could be lost. */
    if (member_sync(member, error) < 0 ||
        checkpoint_write(trial, member->checkpoint, member->fingerprint, error) < 0)
        return -1;
    member->saved = trial->step;
    member->cost.own += clock_seconds() - started;
    return 0;
}

int member_fail(struct member *member, const struct error *reason, struct error *error)
{
    cli_say("%s: failed: %s; the other trials go on", member->config->id, reason->text);
    int result = metrics_write_failure(member->metrics, member->trial->step, reason->text, error);
    if (result == 0)
        result = file_remove(member->head, error);
    drop_trial(member);
    member->state = MEMBER_FAILED;
    return result;
}

bool member_has_ended(const struct run_folder *run, const struct metrics *metrics)
{
    const struct metrics_point *last = metrics->count > 0 ? &metrics->point[metrics->count - 1] : NULL;
    return last && last->evaluated && run_identity_ends_at(run, last->step);
}
