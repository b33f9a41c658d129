#include "train/results.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/head/policy.h"
#include "train/cost_table.h"
#include "train/gate_results.h"
#include "train/gates.h"
#include "train/html_report.h"
#include "train/leaderboard.h"
#include "train/members.h"
#include "train/parts.h"
#include "train/policy_table.h"
#include "train/wish.h"

/* The kept heads of the trials that could be exits. */
static int open_heads(const struct results_setting *setting, const struct leaderboard_row *const *rows,
                      int count, struct trial **trials, struct error *error)
{
    const struct stores *stores = setting->evaluation->stores;
    for (int i = 0; i < count; i++) {
        char *path = run_folder_trial_path(setting->run, rows[i]->config->id, "head.safetensors", error);
        int result = path ? trial_open_head(rows[i]->config, path, &stores->config, stores->fingerprint,
                                            setting->evaluation->batch->backend, &trials[i], error)
                          : -1;
        free(path);
        if (result < 0)
            return -1;
    }
    return 0;
}

static int fill_policy_folder(const struct results_setting *setting, const struct leaderboard_row *const *rows,
                              int count, const char *folder, struct error *error)
{
    struct trial **trials;
    bool complete = true;
    if (array_alloc(&trials, count, error) < 0)
        return -1;
    int result = open_heads(setting, rows, count, trials, error);
    if (result == 0)
        result = policy_table_write(setting->evaluation, setting->seen, trials, count, setting->wish, folder,
                                    &complete, error);
    if (result == 0 && !complete)
        result = error_set_kind(error, ERROR_INTERRUPTED,
                                "stopped before the policy was written; the same command goes on from there");
    for (int i = 0; i < count; i++)
        trial_destroy(trials[i]);
    free(trials);
    return result;
}

/* RUN/policy is made beside the old one, then takes its name. */
static int write_policy_folder(const struct results_setting *setting, const struct leaderboard *board,
                               struct error *error)
{
    const struct leaderboard_row **rows = NULL;
    char *folder = run_folder_path(setting->run, error, "policy");
    char *made = run_folder_path(setting->run, error, "policy.tmp%ld", (long)getpid());
    int result = -1;
    if (folder && made && array_alloc(&rows, board->count, error) == 0) {
        const int count = policy_choose(board, setting->evaluation->stores->config.layers, setting->wish, rows);
        result = fill_policy_folder(setting, rows, count, made, error);
        struct error ignored;
        if (result == 0)
            result = directory_replace(made, folder, error);
        else
            directory_delete(made, &ignored);
    }
    free(folder);
    free(made);
    free(rows);
    return result;
}

static int read_policy_folder(const struct run_folder *run, struct policy *policy, struct error *error)
{
    *policy = (struct policy){0};
    char *folder = run_folder_path(run, error, "policy");
    if (!folder)
        return -1;
    int result = policy_read(folder, policy, error);
    free(folder);
    return result;
}

/* run.json's "policy" before anything is made of it: whoever is killed from here on leaves a wish that is
 * pending, and the next command makes the policy again, whatever lies there. */
static int note_wish(const struct results_setting *setting, struct error *error)
{
    json_t *wish = wish_to_json(setting->wish, setting->evaluation->stores->config.layers);
    if (run_folder_note(setting->run, "policy", wish, error) < 0)
        return -1;
    if (json_object_set_new(wish, "pending", json_true()) < 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    return run_folder_save(setting->run, error);
}

/* run.json's "result": that the run is over, and with which trials. */
static int note_result(const struct results_setting *setting, struct error *error)
{
    json_t *trials = json_array();
    for (int i = 0; trials && i < setting->sweep->trials; i++)
        json_array_append_new(trials, json_string(setting->sweep->trial[i].id));
    if (run_folder_note(setting->run, "result", json_pack("{so}", "trials", trials), error) < 0 ||
        run_folder_note(setting->run, "policy",
                        wish_to_json(setting->wish, setting->evaluation->stores->config.layers), error) < 0)
        return -1;
    parts_dissolve(setting->run);
    return run_folder_save(setting->run, error);
}

static int write_gates(const struct results_setting *setting, const struct leaderboard *board,
                       struct error *error)
{
    const struct gates_setting gates = {setting->run, setting->evaluation, &setting->sweep->gates};
    return gates_write(&gates, board, error);
}

int results_add_gates(const struct results_setting *setting, struct error *error)
{
    struct leaderboard board = {0};
    struct policy policy = {0};
    int result = -1;
    const struct model_config *model = &setting->evaluation->stores->config;
    if (leaderboard_read(setting->run, setting->sweep, model, &board, error) == 0 &&
        write_gates(setting, &board, error) == 0 && cost_note(setting->cost, setting->run, error) == 0 &&
        read_policy_folder(setting->run, &policy, error) == 0)
        result = html_report_write(setting->run, setting->evaluation->stores, &board, &policy, error);
    leaderboard_free(&board);
    policy_free(&policy);
    return result;
}

int results_write(const struct results_setting *setting, struct error *error)
{
    struct leaderboard board = {0};
    struct policy policy = {0};
    int result = -1;
    if (leaderboard_read(setting->run, setting->sweep, &setting->evaluation->stores->config, &board, error) <
            0 ||
        note_wish(setting, error) < 0 || write_gates(setting, &board, error) < 0 ||
        write_policy_folder(setting, &board, error) < 0 || cost_note(setting->cost, setting->run, error) < 0 ||
        read_policy_folder(setting->run, &policy, error) < 0 ||
        leaderboard_write(setting->run, &board, error) < 0 ||
        cost_table_write(setting->run, &board, error) < 0 ||
        html_report_write(setting->run, setting->evaluation->stores, &board, &policy, error) < 0)
        goto done;
    /* From here on the run is done: the kept heads and the metrics are all that it is. */
    result = note_result(setting, error) < 0 || parts_remove(setting->run, error) < 0
                 ? -1
                 : members_remove_checkpoints(setting->run, setting->sweep, error);
done:
    leaderboard_free(&board);
    policy_free(&policy);
    return result;
}

/* ---- printing ---- */

/* Where there are any. */
static void print_gates(const struct run_folder *run)
{
    if (!json_array_size(json_object_get(run->facts, "gates")))
        return;
    json_t *results = gate_results_read(run);
    gate_results_print(results, stdout);
    json_decref(results);
    printf("\n");
}

static void print_text(const struct run_folder *run, const struct leaderboard *board,
                       const struct policy *policy)
{
    leaderboard_print(board, stdout);
    printf("\n");
    policy_table_print(policy, stdout);
    printf("\n");
    print_gates(run);
    cost_print(run, stdout);
    printf("Report: %s/report.html\n", run->path);
}

static int print_json(const struct run_folder *run, const struct leaderboard *board, struct error *error)
{
    json_t *object = json_copy(run->facts);
    if (!object || json_object_set_new(object, "trials", leaderboard_to_json(board)) < 0 ||
        json_object_del(object, "result") < 0) {
        json_decref(object);
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    }
    return json_print("the result", object, stdout, error);
}

int results_print(const struct run_folder *run, const struct sweep *sweep, const struct model_config *model,
                  bool json, struct error *error)
{
    struct leaderboard board = {0};
    struct policy policy = {0};
    int result = -1;
    if (leaderboard_read(run, sweep, model, &board, error) < 0 || read_policy_folder(run, &policy, error) < 0)
        goto done;
    result = 0;
    if (json)
        result = print_json(run, &board, error);
    else
        print_text(run, &board, &policy);
    int failed = 0;
    for (int i = 0; i < board.count; i++)
        failed += board.row[i].metrics.failed[0] != 0;
    if (result == 0 && failed == board.count)
        result = error_set(error, "every trial has failed");
done:
    leaderboard_free(&board);
    policy_free(&policy);
    return result;
}
