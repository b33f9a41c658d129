#include "train/resume.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "train/checkpoint.h"

/* config.json, written once; a trial of the same name with other settings is refused. */
static int keep_config(const struct member *member, const struct model_config *model, struct error *error)
{
    const struct trial_config *config = member->config;
    char *path = path_join(member->folder, "config.json", error);
    json_t *wanted = path ? trial_config_to_json(config, error) : NULL, *kept = NULL;
    int result = -1;
    if (!wanted)
        goto done;
    if (json_object_set_new(wanted, "trained", json_integer(head_spec_values(&config->spec, model, true))) <
        0) {
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
        if (!before && trial_config_is_default(key, value))
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

/* A trial before its first step. */
static int make_trial(struct member *member, const struct resume_setting *setting, struct error *error)
{
    if (trial_create(member->config, setting->model, setting->backend, &member->trial, error) < 0)
        return error_prefix(error, "trial %s", member->config->id);
    return 0;
}

/* Of what is left of it no trial can go on. */
static int begin_anew(struct member *member, struct error *error)
{
    member->saved = -1;
    member_forget(member);
    if (file_remove(member->checkpoint, error) < 0 || file_remove(member->head, error) < 0)
        return error_prefix(error, "trial %s", member->config->id);
    return 0;
}

/* Its best head must be there, too, or be made of the checkpoint; `gone`: what is missing. */
static int look_at_checkpoint(struct member *member, const struct resume_setting *setting,
                              struct metrics *metrics, const char **gone, struct error *error)
{
    if (checkpoint_step(member->checkpoint, &member->saved, error) < 0)
        return -1;
    if (member->saved > setting->steps)
        return error_set(error,
                         "%s: is a checkpoint of step %" PRId64 ", but the run has only %" PRId64 " steps",
                         member->checkpoint, member->saved, setting->steps);
    metrics_cut(metrics, member->saved);
    if (member_remember(member, metrics, error) < 0)
        return -1;
    if (member->best_step < 0)
        *gone = member->saved > 0 ? "metrics.jsonl" : "";
    else if (!file_exists(member->head) && member->best_step < member->saved)
        *gone = "head.safetensors";
    else if (!file_exists(member->head)) /* it is made when the trial is opened */
        return member_resume(member, setting, error) < 0 ? -1 : member_park(member, error);
    return 0;
}

/* A trial that has ended, from its kept head: left as it is, or after the head's step when there are more to
 * come. `gone`: that the head is of no use. */
static int look_at_head(struct member *member, const struct resume_setting *setting, struct metrics *metrics,
                        const char **gone, struct error *error)
{
    const struct trial_config *config = member->config;
    const int64_t best = metrics_best_evaluation(metrics)->step;
    struct trial *trial;
    int result = 0;
    if (trial_restart(config, member->head, setting->model, member->fingerprint, best, setting->backend, &trial,
                      error) < 0) {
        if (error_is_machines(error))
            return error_prefix(error, "trial %s", config->id);
        *gone = "readable head.safetensors";
        return 0;
    }
    if (metrics->stopped[0] || member_end_step(setting->run, metrics) >= setting->steps) {
        member->state = metrics->stopped[0] ? MEMBER_STOPPED : MEMBER_DONE;
        result = file_remove(member->checkpoint, error);
    } else {
        cli_say("%s goes on from its kept head, which is of step %" PRId64, config->id, best);
        /* Before its metrics are cut, which say that there is a head to go on from. */
        result = checkpoint_write(trial, member->checkpoint, member->fingerprint, error);
        member->saved = best;
        metrics_cut(metrics, best);
    }
    trial_destroy(trial);
    return result < 0 ? -1 : member_remember(member, metrics, error);
}

/* By its metrics. */
static int look_at_trial(struct member *member, const struct resume_setting *setting, struct metrics *metrics,
                         struct error *error)
{
    const int64_t end = member_end_step(setting->run, metrics);
    const bool over = end >= 0 || (metrics->stopped[0] && metrics_best_evaluation(metrics));
    const bool goes_on = !metrics->stopped[0] && end < setting->steps;
    const char *gone = "";
    int result = 0;
    member->state = MEMBER_WAITING;
    if (file_exists(member->checkpoint) && goes_on)
        result = look_at_checkpoint(member, setting, metrics, &gone, error);
    else if (over && file_exists(member->head))
        result = look_at_head(member, setting, metrics, &gone, error);
    else {
        const bool begun = file_exists(member->head); /* no head is kept before there are metrics */
        gone = over                 ? "head.safetensors"
               : metrics->count > 0 ? "last.ckpt"
               : begun              ? "whole metrics.jsonl"
                                    : "";
    }
    if (*gone)
        cli_say("%s has no %s any more: it is trained from the start", member->config->id, gone);
    return result == 0 && *gone ? begin_anew(member, error) : result;
}

int member_look(struct member *member, const struct resume_setting *setting, struct error *error)
{
    struct metrics metrics;
    int result = -1;
    if (metrics_read(member->metrics_path, &metrics, error) < 0)
        return -1;
    if (metrics.failed[0]) {
        cli_say("%s failed before and is left out; remove %s to try it again", member->config->id,
                member->folder);
        member->state = MEMBER_FAILED;
        result = member_remember(member, &metrics, error);
    } else if (keep_config(member, setting->model, error) == 0)
        result = look_at_trial(member, setting, &metrics, error);
    metrics_free(&metrics);
    return result;
}

int member_resume(struct member *member, const struct resume_setting *setting, struct error *error)
{
    if (make_trial(member, setting, error) < 0 ||
        (member->saved >= 0 &&
         checkpoint_read(member->trial, member->checkpoint, member->fingerprint, error) < 0))
        return -1;
    member->state = MEMBER_TRAINING;
    if (member->best_step >= 0 && member->best_step == member->saved && !file_exists(member->head) &&
        member_keep_head(member, error) < 0)
        return -1;
    /* Without a checkpoint not even the evaluation before the first step is kept. */
    return metrics_continue(member->metrics_path, member->saved, &member->metrics, error);
}
