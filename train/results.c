#include "train/results.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/head/policy.h"
#include "train/html_report.h"
#include "train/leaderboard.h"
#include "train/members.h"
#include "train/policy_table.h"
#include "train/wish.h"

/* The kept heads of the trials that could be exits. */
static int open_heads(const struct training *training, const struct leaderboard_row *const *rows, int count,
                      struct trial **trials, struct error *error)
{
    for (int i = 0; i < count; i++) {
        char *path = run_folder_path(&training->run, error, "trials/%s/head.safetensors", rows[i]->config->id);
        int result = path ? trial_open_head(rows[i]->config, path, training->stores.fingerprint,
                                            training->backend, &trials[i], error)
                          : -1;
        free(path);
        if (result < 0)
            return -1;
    }
    return 0;
}

static int fill_policy_folder(const struct training *training, const struct leaderboard_row *const *rows,
                              int count, const char *folder, struct error *error)
{
    const struct evaluation_setting setting = training_evaluation(training);
    struct trial **trials;
    bool complete = true;
    if (array_alloc(&trials, count, error) < 0)
        return -1;
    int result = open_heads(training, rows, count, trials, error);
    if (result == 0)
        result = policy_table_write(&setting, trials, count, &training->wish, folder, &complete, error);
    if (result == 0 && !complete)
        result = error_set_kind(error, ERROR_INTERRUPTED,
                                "stopped before the policy was written; the same command goes on from there");
    for (int i = 0; i < count; i++)
        trial_destroy(trials[i]);
    free(trials);
    return result;
}

/* RUN/policy: made beside it, then put in its place. */
static int write_policy_folder(struct training *training, const struct leaderboard *board, struct error *error)
{
    const struct leaderboard_row **rows = NULL;
    char *folder = run_folder_path(&training->run, error, "policy");
    char *made = run_folder_path(&training->run, error, "policy.tmp%ld", (long)getpid());
    int result = -1;
    if (folder && made && array_alloc(&rows, board->count, error) == 0) {
        const int count = policy_choose(board, training->stores.config.layers, &training->wish, rows);
        result = fill_policy_folder(training, rows, count, made, error);
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

static int read_policy_folder(const struct training *training, struct policy *policy, struct error *error)
{
    *policy = (struct policy){0};
    char *folder = run_folder_path(&training->run, error, "policy");
    if (!folder)
        return -1;
    int result = policy_read(folder, policy, error);
    free(folder);
    return result;
}

/* run.json's "policy" before anything is made of it: whoever is killed from here on leaves a wish that is pending, and
 * the next command makes the policy again, whatever lies in its place. */
static int note_wish(struct training *training, struct error *error)
{
    json_t *wish = wish_to_json(&training->wish, training->stores.config.layers);
    if (run_folder_note(&training->run, "policy", wish, error) < 0)
        return -1;
    if (json_object_set_new(wish, "pending", json_true()) < 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    return run_folder_save(&training->run, error);
}

/* run.json's "result": that the run is over, and with which trials. */
static int note_result(struct training *training, struct error *error)
{
    json_t *trials = json_array();
    for (int i = 0; trials && i < training->sweep->trials; i++)
        json_array_append_new(trials, json_string(training->sweep->trial[i].id));
    if (run_folder_note(&training->run, "result", json_pack("{so}", "trials", trials), error) < 0 ||
        run_folder_note(&training->run, "policy", wish_to_json(&training->wish, training->stores.config.layers),
                        error) < 0)
        return -1;
    return run_folder_save(&training->run, error);
}

int results_write(struct training *training, struct error *error)
{
    struct leaderboard board = {0};
    struct policy policy = {0};
    int result = -1;
    if (leaderboard_read(&training->run, training->sweep, &board, error) < 0 ||
        note_wish(training, error) < 0 || write_policy_folder(training, &board, error) < 0 ||
        training_note_cost(training, error) < 0 || read_policy_folder(training, &policy, error) < 0 ||
        leaderboard_write(&training->run, &board, error) < 0 ||
        html_report_write(&training->run, &training->stores, &board, &policy, error) < 0)
        goto done;
    /* From here on the run is done: the kept heads and the metrics are all that it is. */
    result = note_result(training, error) < 0 ? -1 : members_remove_checkpoints(training, error);
done:
    leaderboard_free(&board);
    policy_free(&policy);
    return result;
}

/* ---- printing ---- */

static double fact(const struct run_folder *run, const char *name)
{
    return json_number_value(json_object_get(run->facts, name));
}

/* What the run took, and what it was bound by: the part at work for most of the time beside the others. */
static void print_cost(const struct run_folder *run)
{
    const double seconds = fact(run, "seconds"), stalled = fact(run, "stall_seconds");
    const double ops = fact(run, "device_compute_seconds"), in = fact(run, "device_in_seconds"),
                 out = fact(run, "device_out_seconds"), memory = fact(run, "device_memory");
    const struct {
        const char *name;
        double seconds;
    } parts[] = {{"computing", ops > 0 ? ops : seconds - stalled},
                 {"reading the store", stalled},
                 {"bringing to the device", in},
                 {"taking from the device", out}};
    int most = 0;
    char time[32], stall[32], bytes[32];
    for (int i = 1; i < (int)(sizeof parts / sizeof *parts); i++)
        most = parts[i].seconds > parts[most].seconds ? i : most;
    printf(
        "\nTime %s, of that %s waiting for the store: bound by %s; peak memory %s (pages of the mapped store "
        "included).\n",
        format_duration(seconds, time, sizeof time), format_duration(stalled, stall, sizeof stall),
        parts[most].name, format_bytes(fact(run, "peak_memory"), bytes, sizeof bytes));
    if (ops > 0)
        printf("The device computed %.1f s, took in for %.1f s, gave out for %.1f s.\n", ops, in, out);
    if (memory > 0)
        printf("Memory of the device %s.\n", format_bytes(memory, bytes, sizeof bytes));
}

static void print_text(const struct training *training, const struct leaderboard *board,
                       const struct policy *policy)
{
    leaderboard_print(board, stdout);
    printf("\n");
    policy_table_print(policy, stdout);
    print_cost(&training->run);
    printf("Report: %s/report.html\n", training->run.path);
}

static int print_json(const struct training *training, const struct leaderboard *board, struct error *error)
{
    json_t *object = json_copy(training->run.facts);
    if (!object || json_object_set_new(object, "trials", leaderboard_to_json(board)) < 0 ||
        json_object_del(object, "result") < 0) {
        json_decref(object);
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    }
    return json_print("the result", object, stdout, error);
}

int results_print(const struct training *training, bool json, struct error *error)
{
    struct leaderboard board = {0};
    struct policy policy = {0};
    int result = -1;
    if (leaderboard_read(&training->run, training->sweep, &board, error) < 0 ||
        read_policy_folder(training, &policy, error) < 0)
        goto done;
    result = 0;
    if (json)
        result = print_json(training, &board, error);
    else
        print_text(training, &board, &policy);
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
