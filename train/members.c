#include "train/members.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "train/checkpoint.h"
#include "train/regressions.h"

/* ---- failures and checkpoints ---- */

int member_fail(struct training *training, int index, const struct error *reason, struct error *error)
{
    struct member *member = &training->member[index];
    const int64_t step = member->trial ? member->trial->step : 0;
    cli_say("%s: failed: %s; the other trials go on", training->sweep->trial[index].id, reason->text);
    int result = metrics_write_failure(member->metrics, step, reason->text, error);
    if (result == 0)
        result = file_remove(member->head, error);
    trial_destroy(member->trial);
    member->trial = NULL;
    return result;
}

static int sync_metrics(const struct member *member, struct error *error)
{
    return !member->metrics || fsync(fileno(member->metrics)) == 0
               ? 0
               : error_system(error, "%s: cannot be synced", member->metrics_path);
}

static int save_member(const struct training *training, struct member *member, struct error *error)
{
    if (!member->trial || member->trial->failed || member->saved == member->trial->step)
        return 0;
    /* Lines first: a checkpoint must not count a step whose line could be lost. */
    if (sync_metrics(member, error) < 0 ||
        checkpoint_write(member->trial, member->checkpoint, training->stores.fingerprint, error) < 0)
        return -1;
    member->saved = member->trial->step;
    return 0;
}

int members_sync(const struct training *training, struct error *error)
{
    for (int i = 0; i < training->sweep->trials; i++) {
        if (sync_metrics(&training->member[i], error) < 0)
            return -1;
    }
    return 0;
}

int members_remove_checkpoints(const struct training *training, struct error *error)
{
    int result = 0;
    for (int i = 0; i < training->sweep->trials && result == 0; i++) {
        char *path =
            run_folder_path(&training->run, error, "trials/%s/last.ckpt", training->sweep->trial[i].id);
        result = !path ? -1 : file_exists(path) ? file_remove(path, error) : 0;
        free(path);
    }
    return result;
}

int members_save(struct training *training, struct error *error)
{
    for (int i = 0; i < training->sweep->trials; i++) {
        if (save_member(training, &training->member[i], error) < 0)
            return -1;
    }
    return 0;
}

int member_keep_head(struct training *training, int index, struct error *error)
{
    struct member *member = &training->member[index];
    /* No run goes on from before the head that it has kept: what is better then might not come again. */
    if (save_member(training, member, error) < 0)
        return -1;
    return head_save(member->trial->head, member->trial->queue, member->head, training->stores.fingerprint,
                     error);
}

/* ---- from disk ---- */

/* config.json, written once; a trial of the same name with other settings is refused. */
static int keep_config(const struct training *training, int index, const char *folder, struct error *error)
{
    const struct trial_config *config = &training->sweep->trial[index];
    const struct trial *trial = training->member[index].trial;
    char *path = path_join(folder, "config.json", error);
    json_t *wanted = path ? trial_config_to_json(config, error) : NULL, *kept = NULL;
    int result = -1;
    if (!wanted)
        goto done;
    if (json_object_set_new(wanted, "trained", json_integer(trial->trained)) < 0) {
        error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", path);
        goto done;
    }
    if (!file_exists(path)) {
        result = json_write(path, wanted, error);
        goto done;
    }
    if (!(kept = json_read(path, error))) {
        error_prefix(error, "trial %s has no configuration to go by; remove its folder to train it again",
                     config->id);
        goto done;
    }
    result = 0;
    const char *key;
    json_t *value;
    json_object_foreach(wanted, key, value)
    {
        const json_t *before = json_object_get(kept, key);
        const bool same = json_is_number(value) ? json_number_value(before) == json_number_value(value)
                                                : json_equal(before, value);
        if (!same && strcmp(key, "trained") != 0)
            result =
                error_set(error, "%s: \"%s\" differs from the sweep's; name another folder for RUN", path, key);
    }
done:
    json_decref(wanted);
    json_decref(kept);
    free(path);
    return result;
}

static int find_paths(struct member *member, const char *folder, struct error *error)
{
    member->saved = -1;
    member->checkpoint = path_join(folder, "last.ckpt", error);
    member->metrics_path = path_join(folder, "metrics.jsonl", error);
    member->head = path_join(folder, "head.safetensors", error);
    return member->checkpoint && member->metrics_path && member->head ? 0 : -1;
}

/* A new trial in the place of what is there, which cannot go on. */
static int begin_anew(struct training *training, int index, struct error *error)
{
    struct member *member = &training->member[index];
    const struct trial_config *config = &training->sweep->trial[index];
    const struct head_shape shape = stores_head_shape(&training->stores);
    trial_destroy(member->trial);
    member->trial = NULL;
    member->saved = -1;
    if (file_remove(member->checkpoint, error) < 0 || file_remove(member->head, error) < 0 ||
        trial_create(config, &shape, training->backend, &member->trial, error) < 0)
        return error_prefix(error, "trial %s", config->id);
    return 0;
}

/* The trial from its checkpoint. Its best head must be there, too, or be made of it; `gone`: what is missing. */
static int resume_checkpoint(struct training *training, int index, struct metrics *metrics, const char **gone,
                             struct error *error)
{
    struct member *member = &training->member[index];
    struct trial *trial = member->trial;
    if (checkpoint_read(trial, member->checkpoint, training->stores.fingerprint, error) < 0)
        return -1;
    member->saved = trial->step;
    metrics_cut(metrics, member->saved);
    const struct metrics_point *best = metrics_best_evaluation(metrics);
    if (!best) {
        *gone = member->saved > 0 ? "metrics.jsonl" : "";
        return 0;
    }
    trial->best = best->held_out.kl;
    trial->evaluated = metrics_last_evaluation(metrics)->step;
    if (file_exists(member->head))
        return 0;
    if (best->step == member->saved)
        return member_keep_head(training, index, error);
    *gone = "head.safetensors";
    return 0;
}

bool member_has_ended(const struct training *training, const struct metrics *metrics)
{
    const json_t *list = json_object_get(training->run.facts, "steps_before");
    const struct metrics_point *last = metrics->count > 0 ? &metrics->point[metrics->count - 1] : NULL;
    if (!last || !last->evaluated)
        return false;
    bool ended = last->step == training->steps;
    for (size_t i = 0; i < json_array_size(list) && !ended; i++)
        ended = json_integer_value(json_array_get(list, i)) == last->step;
    return ended;
}

/* A trial that has ended, from its kept head: left as it is, or after the head's step when there are more to come.
 * `gone`: that the head is of no use. */
static int resume_head(struct training *training, int index, const struct metrics *metrics, const char **gone,
                       struct error *error)
{
    struct member *member = &training->member[index];
    const struct trial_config *config = &training->sweep->trial[index];
    const struct metrics_point *best = metrics_best_evaluation(metrics);
    const bool more = metrics_last_evaluation(metrics)->step < training->steps;
    trial_destroy(member->trial);
    member->trial = NULL;
    if (trial_restart(config, member->head, training->stores.fingerprint, best->step, training->backend,
                      &member->trial, error) < 0) {
        if (error->kind != ERROR_INPUT)
            return error_prefix(error, "trial %s", config->id);
        *gone = "readable head.safetensors";
        return 0;
    }
    if (!more) { /* its head can be read: that is all it takes */
        trial_destroy(member->trial);
        member->trial = NULL;
        return 0;
    }
    cli_say("%s goes on from its kept head, which is of step %" PRId64, config->id, best->step);
    member->trial->best = best->held_out.kl;
    member->trial->evaluated = best->step;
    /* Before its metrics are cut, which say that there is a head to go on from. */
    if (checkpoint_write(member->trial, member->checkpoint, training->stores.fingerprint, error) < 0)
        return -1;
    member->saved = best->step;
    return 0;
}

/* The trial to where it was, if it has been anywhere. */
static int resume(struct training *training, int index, struct error *error)
{
    struct member *member = &training->member[index];
    const char *gone = "";
    struct metrics metrics = {0};
    int result = -1;
    if (metrics_read(member->metrics_path, &metrics, error) < 0)
        return -1;
    const bool ended = member_has_ended(training, &metrics);
    if (file_exists(member->checkpoint))
        result = resume_checkpoint(training, index, &metrics, &gone, error);
    else if (ended && file_exists(member->head))
        result = resume_head(training, index, &metrics, &gone, error);
    else {
        const bool begun = file_exists(member->head); /* no head is kept before there are metrics */
        gone = ended               ? "head.safetensors"
               : metrics.count > 0 ? "last.ckpt"
               : begun             ? "whole metrics.jsonl"
                                   : "";
        result = 0;
    }
    metrics_free(&metrics);
    if (*gone)
        cli_say("%s has no %s any more: it is trained from the start", training->sweep->trial[index].id, gone);
    return result == 0 && *gone ? begin_anew(training, index, error) : result;
}

/* Its metrics up to where it goes on; without a checkpoint not even the evaluation before the first step is kept. */
static int open_metrics(struct training *training, int index, struct error *error)
{
    struct member *member = &training->member[index];
    if (!member->trial) /* they stay as they are */
        return 0;
    if (member->saved > training->steps)
        return error_set(error, "%s: is of step %" PRId64 ", but the run has %" PRId64, member->checkpoint,
                         member->saved, training->steps);
    return metrics_continue(member->metrics_path, member->saved, &member->metrics, error);
}

/* True when an earlier process saw the trial fail. */
static int has_failed(const struct member *member, bool *failed, struct error *error)
{
    struct metrics metrics;
    if (metrics_read(member->metrics_path, &metrics, error) < 0)
        return -1;
    *failed = metrics.failed[0] != 0;
    metrics_free(&metrics);
    return 0;
}

static int prepare_member(struct training *training, int index, struct error *error)
{
    struct member *member = &training->member[index];
    const struct trial_config *config = &training->sweep->trial[index];
    const struct head_shape shape = stores_head_shape(&training->stores);
    bool failed = false;
    char *folder = run_folder_path(&training->run, error, "trials/%s", config->id);
    int result = -1;
    if (!folder || directory_create(folder, error) < 0 || find_paths(member, folder, error) < 0)
        goto done;
    remove_leftovers(folder);
    if (has_failed(member, &failed, error) < 0)
        goto done;
    if (failed) {
        cli_say("%s failed before and is left out; remove %s to try it again", config->id, folder);
        result = 0;
        goto done;
    }
    if (trial_create(config, &shape, training->backend, &member->trial, error) < 0)
        error_prefix(error, "trial %s", config->id);
    else if (keep_config(training, index, folder, error) == 0 && resume(training, index, error) == 0)
        result = open_metrics(training, index, error);
done:
    free(folder);
    return result;
}

/* ---- from the beginning ---- */

/* The trials without a checkpoint whose head begins with a regression. */
static bool needs_ridge(const struct training *training, int index)
{
    const struct member *member = &training->member[index];
    return member->trial && member->saved < 0 && training->sweep->trial[index].init == INIT_RIDGE;
}

static int initialise(struct training *training, struct error *error)
{
    const struct head_source source = stores_head_source(&training->stores);
    for (int i = 0; i < training->sweep->trials; i++) {
        const struct member *member = &training->member[i];
        const struct trial_config *config = &training->sweep->trial[i];
        if (!member->trial || member->saved >= 0)
            continue;
        if (head_initialise(member->trial->head, config->init, training->sweep->seed, &source, error) < 0)
            return error_prefix(error, "trial %s", config->id);
    }
    return 0;
}

/* Puts a tap's regression into the trials that begin with it. */
static int use_solution(struct training *training, const struct regressions *regressions, int index,
                        struct tap tap, struct error *error)
{
    const int64_t hidden = training->stores.config.hidden;
    float *a = NULL, *b = NULL;
    struct error reason;
    int result = -1;
    if (array_alloc(&a, hidden * hidden, error) < 0 || array_alloc(&b, hidden, error) < 0)
        goto done;
    const bool solved = regressions_solve(regressions, index, a, b, &reason) == 0;
    result = 0;
    if (!solved && reason.kind != ERROR_INPUT) { /* the machine's fault, not the states' */
        *error = reason;
        result = error_prefix(error, "the regression at a tap");
    }
    for (int i = 0; i < training->sweep->trials && result == 0; i++) {
        struct trial *trial = training->member[i].trial;
        if (!needs_ridge(training, i) || tap_compare(training->sweep->trial[i].spec.tap, tap) != 0)
            continue;
        if (!solved) {
            result = member_fail(training, i, &reason, error);
            continue;
        }
        for (int p = 0; p < head_parameter_count(trial->head); p++) {
            const struct head_parameter *parameter = head_parameter(trial->head, p);
            if (!strcmp(parameter->name, "a"))
                op_write(trial->queue, parameter->value, a);
            if (!strcmp(parameter->name, "b"))
                op_write(trial->queue, parameter->value, b);
        }
        result = queue_wait(trial->queue, error);
    }
done:
    free(a);
    free(b);
    return result;
}

static int initialise_ridge(struct training *training, struct error *error)
{
    struct tap *taps;
    struct regressions *regressions = NULL;
    int count = 0, result = 0;
    if (array_alloc(&taps, training->sweep->trials, error) < 0)
        return -1;
    for (int i = 0; i < training->sweep->trials; i++) {
        const struct tap tap = training->sweep->trial[i].spec.tap;
        int place = 0;
        while (place < count && tap_compare(taps[place], tap) != 0)
            place++;
        if (needs_ridge(training, i) && place == count)
            taps[count++] = tap;
    }
    if (count > 0)
        result = regressions_read(&training->stores, training->backend, training->threads, taps, count,
                                  &regressions, error);
    for (int t = 0; t < count && result == 0; t++)
        result = cli_interrupted() ? error_set_kind(error, ERROR_INTERRUPTED, "interrupted")
                                   : use_solution(training, regressions, t, taps[t], error);
    if (result < 0 && error->kind == ERROR_INTERRUPTED)
        error_set_kind(error, ERROR_INTERRUPTED,
                       "stopped before the first step; the same command begins again");
    regressions_free(regressions);
    free(taps);
    return result;
}

int members_prepare(struct training *training, struct error *error)
{
    for (int i = 0; i < training->sweep->trials; i++) {
        if (prepare_member(training, i, error) < 0)
            return -1;
    }
    if (initialise(training, error) < 0 || initialise_ridge(training, error) < 0)
        return -1;
    return members_save(training, error);
}
