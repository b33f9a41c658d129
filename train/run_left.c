#include "train/run_left.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/head/policy.h"
#include "common/model/safetensors.h"
#include "train/gates.h"
#include "train/leaderboard.h"
#include "train/member.h"
#include "train/metrics.h"

/* Whether there is a file with something in it. Frees the path, which may be NULL: there is none. */
static bool has_content(char *path)
{
    struct stat status;
    const bool there = path && stat(path, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
    free(path);
    return there;
}

/* Of a head that was cut, or is something else, no trial goes on. Takes the path. */
static bool has_head(char *path)
{
    struct error ignored;
    struct safetensors *head = NULL;
    const bool there = path && safetensors_open(path, &head, &ignored) == 0;
    safetensors_close(head);
    free(path);
    return there;
}

bool run_trial_is_there(const struct run_folder *run, const char *id)
{
    struct error ignored;
    struct metrics metrics;
    if (!has_content(run_folder_trial_path(run, id, "metrics.jsonl", &ignored)) ||
        !has_content(run_folder_trial_path(run, id, "config.json", &ignored)))
        return false;
    char *path = run_folder_trial_path(run, id, "metrics.jsonl", &ignored);
    bool there = path && metrics_read(path, &metrics, &ignored) == 0;
    if (there) {
        const bool over = member_end_step(run, &metrics) >= (int64_t)run_folder_number(run, "steps");
        there = metrics.failed[0] || ((over || metrics.stopped[0]) &&
                                      has_head(run_folder_trial_path(run, id, "head.safetensors", &ignored)));
        metrics_free(&metrics);
    }
    free(path);
    return there;
}

bool run_is_finished(const struct run_folder *run, const struct sweep *sweep)
{
    const json_t *trials = json_object_get(json_object_get(run->facts, "result"), "trials");
    if (json_array_size(trials) != (size_t)sweep->trials)
        return false;
    for (int i = 0; i < sweep->trials; i++) {
        const char *id = json_string_value(json_array_get(trials, (size_t)i));
        if (!id || strcmp(id, sweep->trial[i].id) != 0 || !run_trial_is_there(run, id))
            return false;
    }
    return true;
}

bool run_has_gates(const struct run_folder *run, const struct sweep *sweep, const struct model_config *model)
{
    struct error ignored;
    struct leaderboard board = {0};
    const bool there = sweep->gates.count == 0 || (leaderboard_read(run, sweep, model, &board, &ignored) == 0 &&
                                                   gates_are_there(run, &board, model->layers, &sweep->gates));
    leaderboard_free(&board);
    return there;
}

bool run_has_results(const struct run_folder *run)
{
    struct error ignored;
    struct policy policy = {0};
    char *path = run_folder_path(run, &ignored, "policy");
    const bool usable = path && policy_read(path, &policy, &ignored) == 0;
    policy_free(&policy);
    free(path);
    return usable && has_content(run_folder_path(run, &ignored, "leaderboard.tsv")) &&
           has_content(run_folder_path(run, &ignored, "report.html"));
}
