#include "train/resume.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "train/checkpoint.h"

/* config.json, written once; a trial of the same name with other settings is refused. */
static int keep_config(const struct member *member, struct error *error)
{
    const struct trial_config *config = member->config;
    char *path = path_join(member->folder, "config.json", error);
    json_t *wanted = path ? trial_config_to_json(config, error) : NULL, *kept = NULL;
    int result = -1;
    if (!wanted)
        goto done;
    if (json_object_set_new(wanted, "trained", json_integer(member->trial->trained)) < 0) {
        error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", path);
        goto done;
    }
    if (!file_exists(path)) {
        result = json_write(path, wanted, error);
        goto done;
    }
    if (!(kept = json_read(path, error))) {
        error_prefix(error,
                     "trial %s has no configuration that can be read; remove its folder to train it again",
                     config->id);
        goto done;
    }
    result = 0;
    const char *key;
    json_t *value;
    json_object_foreach(wanted, key, value)
    {
        const json_t *before = json_object_get(kept, key);
        if (!before && strcmp(key, "vocabulary") == 0) /* run_identity_keep_vocabulary */
            continue;
        const bool same = json_is_number(value) ? json_number_value(before) == json_number_value(value)
                                                : json_equal(before, value);
        if (!same && strcmp(key, "trained") != 0)
            result = error_set_kind(
                error, ERROR_USAGE,
                "%s: \"%s\" differs from what the sweep says; name another folder for the run", path, key);
    }
done:
    json_decref(wanted);
    json_decref(kept);
    free(path);
    return result;
}

/* A trial before its first step instead of the one that is there. */
static int make_trial(struct member *member, const struct resume_setting *setting, struct error *error)
{
    trial_destroy(member->trial);
    member->trial = NULL;
    member->saved = -1;
    member_forget(member);
    if (trial_create(member->config, setting->model, setting->backend, &member->trial, error) < 0)
        return error_prefix(error, "trial %s", member->config->id);
    return 0;
}

/* Of what is left of it no trial can go on. */
static int begin_anew(struct member *member, const struct resume_setting *setting, struct error *error)
{
    if (file_remove(member->checkpoint, error) < 0 || file_remove(member->head, error) < 0)
        return error_prefix(error, "trial %s", member->config->id);
    return make_trial(member, setting, error);
}

/* The trial from its checkpoint. Its best head must be there, too, or be made of it; `gone`: what is
 * missing. */
static int resume_checkpoint(struct member *member, struct metrics *metrics, const char **gone,
                             struct error *error)
{
    if (checkpoint_read(member->trial, member->checkpoint, member->fingerprint, error) < 0)
        return -1;
    member->saved = member->trial->step;
    metrics_cut(metrics, member->saved);
    const struct metrics_point *best = metrics_best_evaluation(metrics);
    if (!best) {
        *gone = member->saved > 0 ? "metrics.jsonl" : "";
        return 0;
    }
    member->best = best->held_out;
    member->best_step = best->step;
    member->evaluated = metrics_last_evaluation(metrics)->step;
    if (file_exists(member->head))
        return 0;
    if (best->step == member->saved)
        return member_keep_head(member, error);
    *gone = "head.safetensors";
    return 0;
}

/* A trial that has ended, from its kept head: left as it is, or after the head's step when there are more to
 * come. `gone`: that the head is of no use. */
static int resume_head(struct member *member, const struct resume_setting *setting,
                       const struct metrics *metrics, const char **gone, struct error *error)
{
    const struct trial_config *config = member->config;
    const struct metrics_point *best = metrics_best_evaluation(metrics);
    trial_destroy(member->trial);
    member->trial = NULL;
    if (trial_restart(config, member->head, setting->model, member->fingerprint, best->step, setting->backend,
                      &member->trial, error) < 0) {
        if (error_is_machines(error))
            return error_prefix(error, "trial %s", config->id);
        *gone = "readable head.safetensors";
        return 0;
    }
    member->best = best->held_out;
    member->best_step = best->step;
    if (member_end_step(setting->run, metrics) >= setting->steps) { /* its head can be read: all it takes */
        trial_destroy(member->trial);
        member->trial = NULL;
        member->state = MEMBER_DONE;
        return file_remove(member->checkpoint, error);
    }
    cli_say("%s goes on from its kept head, which is of step %" PRId64, config->id, best->step);
    member->evaluated = best->step;
    /* Before its metrics are cut, which say that there is a head to go on from. */
    if (checkpoint_write(member->trial, member->checkpoint, member->fingerprint, error) < 0)
        return -1;
    member->saved = best->step;
    return 0;
}

/* By its metrics. */
static int resume_trial(struct member *member, const struct resume_setting *setting, struct metrics *metrics,
                        struct error *error)
{
    const int64_t end = member_end_step(setting->run, metrics);
    const char *gone = "";
    int result = 0;
    member->state = MEMBER_TRAINING;
    if (file_exists(member->checkpoint) && end < setting->steps)
        result = resume_checkpoint(member, metrics, &gone, error);
    else if (end >= 0 && file_exists(member->head))
        result = resume_head(member, setting, metrics, &gone, error);
    else {
        const bool begun = file_exists(member->head); /* no head is kept before there are metrics */
        gone = end >= 0             ? "head.safetensors"
               : metrics->count > 0 ? "last.ckpt"
               : begun              ? "whole metrics.jsonl"
                                    : "";
    }
    if (*gone)
        cli_say("%s has no %s any more: it is trained from the start", member->config->id, gone);
    return result == 0 && *gone ? begin_anew(member, setting, error) : result;
}

/* Its metrics up to where it goes on; without a checkpoint not even the evaluation before the first step is
 * kept. */
static int open_metrics(struct member *member, int64_t steps, struct error *error)
{
    if (member->state == MEMBER_DONE) /* they stay as they are */
        return 0;
    if (member->saved > steps)
        return error_set(error,
                         "%s: is a checkpoint of step %" PRId64 ", but the run has only %" PRId64 " steps",
                         member->checkpoint, member->saved, steps);
    return metrics_continue(member->metrics_path, member->saved, &member->metrics, error);
}

int member_resume(struct member *member, const struct resume_setting *setting, struct error *error)
{
    struct metrics metrics;
    int result = -1;
    if (metrics_read(member->metrics_path, &metrics, error) < 0)
        return -1;
    if (metrics.failed[0]) {
        cli_say("%s failed before and is left out; remove %s to try it again", member->config->id,
                member->folder);
        member->state = MEMBER_FAILED;
        result = 0;
    } else if (make_trial(member, setting, error) == 0 && keep_config(member, error) == 0 &&
               resume_trial(member, setting, &metrics, error) == 0)
        result = open_metrics(member, setting->steps, error);
    metrics_free(&metrics);
    return result;
}
