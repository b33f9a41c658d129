#include "train/member.h"

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "train/checkpoint.h"
#include "train/run_identity.h"

void member_forget(struct member *member)
{
    member->evaluated = member->best_step = -1;
    member->best = (struct evaluation){.kl = INFINITY};
    member->scores = 0;
}

static int add_score(struct member *member, int64_t step, double kl, struct error *error)
{
    if (array_grow(&member->score, &member->scores_capacity, member->scores + 1, error) < 0)
        return -1;
    member->score[member->scores++] = (struct member_score){step, kl};
    return 0;
}

int member_remember(struct member *member, const struct metrics *metrics, struct error *error)
{
    for (size_t i = 0; i < metrics->count; i++) {
        const struct metrics_point *point = &metrics->point[i];
        if (!point->evaluated)
            continue;
        if (add_score(member, point->step, point->held_out.kl, error) < 0)
            return -1;
        member->evaluated = point->step;
        if (point->held_out.kl < member->best.kl) {
            member->best = point->held_out;
            member->best_step = point->step;
        }
    }
    return 0;
}

int64_t member_step(const struct member *member)
{
    return member->trial ? member->trial->step : member->saved > 0 ? member->saved : 0;
}

bool member_is_at(const struct member *member, int64_t step)
{
    return member->state == MEMBER_TRAINING && !member->trial->starved &&
           (step < 0 || member->trial->step == step);
}

double member_kl_at(const struct member *member, int64_t step)
{
    for (size_t i = 0; i < member->scores; i++) {
        if (member->score[i].step == step)
            return member->score[i].kl;
    }
    return NAN;
}

bool member_has_stalled(const struct member *member, int patience)
{
    int since = 0;
    for (size_t i = member->scores; i > 0 && member->score[i - 1].step > member->best_step; i--)
        since++;
    return patience > 0 && since >= patience;
}

int member_open(const struct run_folder *run, const struct trial_config *config, const char *fingerprint,
                struct member *member, struct error *error)
{
    *member = (struct member){.config = config, .fingerprint = fingerprint, .saved = -1};
    member_forget(member);
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

static void close_metrics(struct member *member)
{
    if (member->metrics)
        fclose(member->metrics);
    member->metrics = NULL;
}

void member_close(struct member *member)
{
    drop_trial(member);
    close_metrics(member);
    free(member->score);
    string_free(&member->lines);
    free(member->folder);
    free(member->checkpoint);
    free(member->metrics_path);
    free(member->head);
    *member = (struct member){0};
}

/* ---- writing ---- */

/* What is to be done for a member's files, in this order. */
enum { TODO_SAVE = 1, TODO_HEAD = 2, TODO_LINES = 4, TODO_CLOSE = 8 };

static int save(struct member *member, struct error *error)
{
    const struct trial *trial = member->trial;
    if (member->saved == trial->step)
        return 0;
    /* Lines first: a checkpoint must not count a step whose line could be lost. */
    if (member_sync(member, error) < 0 ||
        checkpoint_write(trial, member->checkpoint, member->fingerprint, error) < 0)
        return -1;
    member->saved = trial->step;
    return 0;
}

/* It leaves the run, for `next`: its metrics are all that it is, or its checkpoint is. */
static int close_files(struct member *member, struct error *error)
{
    const bool waits = member->next == MEMBER_WAITING;
    if (member_sync(member, error) < 0 || (!waits && file_remove(member->checkpoint, error) < 0))
        return -1;
    close_metrics(member);
    drop_trial(member);
    member->saved = waits ? member->saved : -1;
    member->state = member->next;
    return 0;
}

static int work_off(struct member *member, struct error *error)
{
    if (member->todo & TODO_SAVE && save(member, error) < 0)
        return -1;
    member->todo &= ~(unsigned)TODO_SAVE;
    if (member->todo & TODO_HEAD &&
        head_save(member->trial->head, member->trial->queue, member->head, member->fingerprint, error) < 0)
        return -1;
    member->todo &= ~(unsigned)TODO_HEAD;
    if (member->todo & TODO_LINES && metrics_flush(member->metrics, &member->lines, error) < 0)
        return error_prefix(error, "%s", member->folder);
    member->todo &= ~(unsigned)TODO_LINES;
    if (member->todo & TODO_CLOSE && close_files(member, error) < 0)
        return -1;
    member->todo = 0;
    return 0;
}

bool member_may_fail_by(const struct error *error)
{
    return error->kind == ERROR_NO_SPACE || error->kind == ERROR_INPUT;
}

int member_retry(struct member *member, struct error *error)
{
    const double started = clock_seconds();
    const int result = work_off(member, error);
    member->cost.own += clock_seconds() - started;
    return result;
}

/* Puts off what only this member's files may be at fault for. */
static int attempt(struct member *member, unsigned todo, struct error *error)
{
    member->todo |= todo;
    return member_retry(member, error) == 0 || member_may_fail_by(error) ? 0 : -1;
}

int64_t member_file_bytes(const struct member *member)
{
    struct stat status;
    int64_t bytes = 1;
    if (stat(member->checkpoint, &status) == 0 || stat(member->head, &status) == 0)
        bytes = status.st_size;
    if (member->trial) { /* a checkpoint: values and Adam's moments, and what describes them */
        const int64_t values = member->trial->values;
        const int64_t checkpoint = 3 * values * (int64_t)sizeof(float) + (1 << 16);
        bytes = bytes > checkpoint ? bytes : checkpoint;
    }
    return bytes;
}

bool member_can_write(const struct member *member, int64_t bytes)
{
    static const char zeros[1 << 16];
    struct error ignored;
    struct file_writer *writer;
    int64_t size = member_file_bytes(member);
    size = size > bytes ? size : bytes;
    char *path = path_join(member->folder, "probe", &ignored);
    bool can = path && file_writer_open(path, &writer, &ignored) == 0;
    for (; can && size > 0; size -= (int64_t)sizeof zeros) {
        can = file_writer_append(writer, zeros, size < (int64_t)sizeof zeros ? (size_t)size : sizeof zeros,
                                 &ignored) == 0;
        if (!can)
            file_writer_abandon(writer);
    }
    can = can && file_writer_finish(writer, &ignored) == 0;
    if (can)
        unlink(path);
    free(path);
    return can;
}

/* ---- what is kept ---- */

int member_keep_step(struct member *member, const struct trial_result *result, int64_t tokens, int64_t read,
                     struct error *error)
{
    if (metrics_write_step(&member->lines, member->trial->step, tokens, result, &member->cost, read, error) < 0)
        return -1;
    member->cost = (struct trial_cost){0};
    return attempt(member, TODO_LINES, error);
}

int member_keep_evaluation(struct member *member, const struct evaluation *held_out, int64_t sequences,
                           int64_t tokens, int64_t read, struct error *error)
{
    const int64_t step = member->trial->step;
    /* What is compared must not depend on whether the process has gone on from its files. */
    const struct evaluation found = metrics_as_read(held_out);
    const bool better = found.kl < member->best.kl;
    if (add_score(member, step, found.kl, error) < 0 ||
        metrics_write_evaluation(&member->lines, step, tokens, held_out, sequences, &member->cost, read,
                                 error) < 0)
        return -1;
    member->cost = (struct trial_cost){0};
    if (better) {
        member->best = found;
        member->best_step = step;
    }
    member->evaluated = step;
    /* No run goes on from before the head that it has kept: what is better then might not come again. */
    return attempt(member, better ? TODO_SAVE | TODO_HEAD | TODO_LINES : TODO_LINES, error);
}

int member_restore_head(struct member *member, const struct model_config *model, struct backend *backend,
                        struct error *error)
{
    struct trial *kept;
    if (member_save(member, error) < 0 || /* what is interrupted now goes on from there */
        trial_open_head(member->config, member->head, model, member->fingerprint, backend, &kept, error) < 0)
        return -1;
    kept->step = member->trial->step; /* so that nothing is saved again */
    drop_trial(member);
    member->trial = kept;
    return 0;
}

int member_end(struct member *member, const struct evaluation *held_out, int64_t sequences, int64_t tokens,
               int64_t read, struct error *error)
{
    const struct metrics_whole whole = {.step = member->trial->step,
                                        .tokens = tokens,
                                        .of_step = member->best_step,
                                        .sequences = sequences,
                                        .held_out = *held_out};
    if (metrics_write_whole(&member->lines, &whole, &member->cost, read, error) < 0)
        return -1;
    member->next = MEMBER_DONE;
    return attempt(member, TODO_LINES | TODO_CLOSE, error);
}

int member_keep_head(struct member *member, struct error *error)
{
    return attempt(member, TODO_SAVE | TODO_HEAD, error);
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
    if (member->state != MEMBER_TRAINING || trial->failed || member->saved == trial->step)
        return 0;
    return attempt(member, TODO_SAVE, error);
}

int member_park(struct member *member, struct error *error)
{
    member->next = MEMBER_WAITING;
    return attempt(member, TODO_SAVE | TODO_CLOSE, error);
}

int member_stop(struct member *member, const char *reason, struct error *error)
{
    const int64_t step = member_step(member);
    cli_say("%s stops: %s", member->config->id, reason);
    if (!member->metrics && metrics_continue(member->metrics_path, step, &member->metrics, error) < 0)
        return -1;
    /* The line before the checkpoint goes: without both the trial would begin anew. */
    if (metrics_write_stop(&member->lines, step, reason, error) < 0)
        return -1;
    member->next = MEMBER_STOPPED;
    return attempt(member, TODO_LINES | TODO_CLOSE, error);
}

int member_fail(struct member *member, const struct error *reason, struct error *error)
{
    const int64_t step = member_step(member);
    cli_say("%s: failed: %s; the other trials go on", member->config->id, reason->text);
    /* Where that cannot be written, the next command tries the trial again. */
    if (metrics_write_failure(&member->lines, step, reason->text, error) < 0 ||
        (member->metrics && metrics_flush(member->metrics, &member->lines, error) < 0 &&
         !member_may_fail_by(error)) ||
        (file_remove(member->head, error) < 0 && !member_may_fail_by(error)))
        return -1;
    close_metrics(member);
    drop_trial(member);
    member->todo = 0;
    member->state = MEMBER_FAILED;
    return 0;
}

void member_leave_out(struct member *member, const struct error *reason)
{
    cli_say(
        "%s is left out: %s; the other trials go on. Once that is mended, the same command takes it up again",
        member->config->id, reason->text);
    close_metrics(member);
    drop_trial(member);
    member->todo = 0;
    member->state = MEMBER_FAILED;
}

int64_t member_end_step(const struct run_folder *run, const struct metrics *metrics)
{
    const struct metrics_point *last = metrics->count > 0 ? &metrics->point[metrics->count - 1] : NULL;
    int64_t step = -1;
    if (metrics->ended && metrics_best_evaluation(metrics) && run_folder_number(run, "patience") > 0 &&
        !run_identity_ends_at(run, metrics->whole.step))
        return (int64_t)run_folder_number(run, "steps");
    if (metrics->ended && metrics_best_evaluation(metrics))
        step = metrics->whole.step;
    else if (last && last->evaluated && last->sequences == 0) /* of a run of before samples */
        step = last->step;
    return run_identity_ends_at(run, step) ? step : -1;
}
