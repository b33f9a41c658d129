#include "train/policy_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/memory.h"

/* ---- which trials ---- */

static bool is_wanted(const struct policy_wish *wish, struct tap tap)
{
    for (int e = 0; e < wish->exits; e++)
        if (tap_compare(wish->exit[e], tap) == 0)
            return true;
    return wish->exits == 0;
}

static double row_kl(const struct leaderboard_row *row)
{
    return row->held_out.kl;
}

int policy_choose(const struct leaderboard *board, int layers, const struct policy_wish *wish,
                  const struct leaderboard_row **best)
{
    int chosen = 0;
    for (int i = 0; i < board->count; i++) {
        const struct leaderboard_row *row = &board->row[i];
        const struct tap tap = row->config->spec.tap;
        int index = 0;
        if (!row->finished || row->draft || tap_compare(tap, (struct tap){.layer = layers}) == 0 ||
            !is_wanted(wish, tap))
            continue;
        while (index < chosen && tap_compare(best[index]->config->spec.tap, tap) < 0)
            index++;
        if (index == chosen || tap_compare(best[index]->config->spec.tap, tap) != 0) {
            memmove(best + index + 1, best + index, (size_t)(chosen - index) * sizeof *best);
            best[index] = row;
            chosen++;
        } else if (row_kl(row) < row_kl(best[index])) {
            best[index] = row;
        }
    }
    int kept = 0;
    for (int i = 0; i < chosen; i++) {
        if (kept == 0 || wish->exits > 0 || row_kl(best[i]) < row_kl(best[kept - 1]))
            best[kept++] = best[i];
    }
    return kept;
}

/* ---- the table ---- */

static uint64_t held_out_tokens(const struct evaluation_setting *setting)
{
    return setting->stores->sequences[SPLIT_HELD_OUT] * (uint64_t)setting->stores->rows;
}

static int make_costs(const struct model_config *config, struct trial *const *best, int count,
                      struct policy_costs *costs, struct error *error)
{
    *costs = (struct policy_costs){.layers = config->layers, .output = output_cost(config), .exits = count};
    if (array_alloc(&costs->exit, count, error) < 0)
        return -1;
    for (int e = 0; e < count; e++)
        costs->exit[e] = exit_cost(&best[e]->config.spec, config);
    return 0;
}

static int count_table(const struct policy_costs *costs, const struct observed *observed, uint64_t tokens,
                       const struct policy_wish *wish, struct policy *policy, struct error *error)
{
    double list[POLICY_THRESHOLDS];
    const int count = policy_thresholds(wish, list);
    if (array_alloc(&policy->row, count, error) < 0)
        return -1;
    for (int e = 0; e < costs->exits; e++)
        policy->cost_head += costs->exit[e].head / costs->exits;
    policy->cost_output = costs->output;
    for (; policy->rows < count; policy->rows++) {
        struct policy_row *row = &policy->row[policy->rows];
        if (array_alloc(&row->exit_rate, costs->exits, error) < 0)
            return -1;
        policy_count(costs, observed, tokens, list[policy->rows], row);
    }
    return 0;
}

static int save_exit(const struct trial *trial, const char *folder, const struct stores *stores,
                     struct policy_exit *exit, struct error *error)
{
    struct policy_head *head = &exit->head;
    snprintf(head->kind, sizeof head->kind, "%s", head_kind_name(trial->config.spec.kind));
    snprintf(head->output, sizeof head->output, "%s", head_output_name(trial->config.spec.output));
    snprintf(head->file, sizeof head->file, "%s.safetensors", trial->config.tap);
    exit->tap = trial->config.spec.tap;
    char *path = path_join(folder, head->file, error);
    int result = path ? head_save(trial->head, trial->queue, path, stores->fingerprint, error) : -1;
    if (result == 0)
        result = policy_hash_file(path, head->hash, error);
    free(path);
    return result;
}

/* Fills the policy with those exits of `best` that pay, or with those that were asked for, and saves their
 * heads. Where none pays, the policy tells of those that came nearest. */
static int fill_policy(const struct evaluation_setting *setting, struct trial *const *best, int count,
                       const struct observed *observed, const struct policy_wish *wish, struct policy *policy,
                       const char *folder, struct error *error)
{
    const uint64_t tokens = held_out_tokens(setting);
    struct policy_costs costs = {0};
    struct policy_choice choice;
    struct observed *own = NULL;
    int *kept = NULL, result = -1;
    if (array_alloc(&kept, count, error) < 0 || array_alloc(&own, count, error) < 0 ||
        make_costs(&setting->stores->config, best, count, &costs, error) < 0)
        goto done;
    for (int e = 0; e < count; e++) {
        own[e] = observed[e];
        kept[e] = e;
    }
    result = wish->exits > 0 ? policy_threshold(&costs, own, tokens, wish, &choice, error)
                             : policy_thin(&costs, own, tokens, wish, kept, &choice, error);
    if (result < 0 || count_table(&costs, own, tokens, wish, policy, error) < 0) {
        result = -1;
        goto done;
    }
    const bool pays = wish->exits > 0 || (choice.agrees && choice.speedup > 1);
    for (int e = 0; e < costs.exits && result == 0; e++) {
        const struct trial *trial = best[kept[e]];
        if (!pays) {
            policy->tried_tap[policy->tried++] = trial->config.spec.tap;
            continue;
        }
        struct policy_exit *exit = &policy->exit[policy->exits++];
        exit->evidence.kind = EVIDENCE_CONFIDENCE;
        exit->rule.threshold = choice.threshold;
        result = save_exit(trial, folder, setting->stores, exit, error);
    }
done:
    free(costs.exit);
    free(own);
    free(kept);
    return result;
}

/* Looks at each of the held-out tokens through the heads of `best` that were not looked through yet. */
static int observe(const struct evaluation_setting *setting, const struct observations *seen,
                   struct trial *const *best, int count, struct observed *observed, bool *complete,
                   struct error *error)
{
    const uint64_t tokens = held_out_tokens(setting);
    struct trial **missing = NULL;
    struct observed *theirs = NULL;
    struct evaluation *results = NULL, full;
    int left = 0, result = -1;
    if (array_alloc(&missing, count, error) < 0 || array_alloc(&theirs, count, error) < 0 ||
        array_alloc(&results, count, error) < 0)
        goto done;
    for (int e = 0; e < count; e++) {
        const struct observed *found = observations_find(seen, best[e]->config.id);
        if (found) {
            memcpy(observed[e].evidence, found->evidence, tokens * sizeof *found->evidence);
            memcpy(observed[e].agrees, found->agrees, tokens * sizeof *found->agrees);
        } else {
            theirs[left] = observed[e];
            missing[left++] = best[e];
        }
    }
    result = left == 0 ? 0 : evaluate_trials(setting, missing, left, results, &full, theirs, complete, error);
    for (int e = 0; e < left && result == 0; e++) {
        if (missing[e]->failed)
            result = error_set_kind(error, missing[e]->reason.kind, "trial %s: %s", missing[e]->config.id,
                                    missing[e]->reason.text);
    }
done:
    free(missing);
    free(theirs);
    free(results);
    return result;
}

int policy_table_write(const struct evaluation_setting *setting, const struct observations *seen,
                       struct trial *const *best, int count, const struct policy_wish *wish, const char *folder,
                       bool *complete, struct error *error)
{
    struct policy policy = {.layers = setting->stores->config.layers};
    struct observed *observed = NULL;
    int result = -1;
    policy.agreement = isnan(wish->threshold) ? wish->agreement : NAN;
    *complete = true;
    strcpy(policy.fingerprint, setting->stores->fingerprint);
    if (directory_create(folder, error) < 0 || array_alloc(&observed, count, error) < 0 ||
        array_alloc(&policy.exit, count, error) < 0 || array_alloc(&policy.tried_tap, count, error) < 0)
        goto done;
    for (int e = 0; e < count; e++) {
        if (observed_create(setting->stores, &observed[e], error) < 0)
            goto done;
    }
    result = count > 0 ? observe(setting, seen, best, count, observed, complete, error) : 0;
    if (result == 0 && count > 0 && *complete)
        result = fill_policy(setting, best, count, observed, wish, &policy, folder, error);
    if (result == 0 && *complete)
        result = policy_write(folder, &policy, error);
done:
    for (int e = 0; observed && e < count; e++)
        observed_free(&observed[e]);
    free(observed);
    policy_free(&policy);
    return result;
}

/* ---- for people ---- */

void policy_verdict(const struct policy *policy, char *text, size_t size)
{
    if (policy->exits == 0) {
        const int begun = snprintf(text, size, "The policy has no exits: ");
        policy_reason(policy, text + begun, size - (size_t)begun);
        return;
    }
    const double threshold = policy->exit[0].rule.threshold, check = policy->cost_head + policy->cost_output;
    const struct policy_row *row = &policy->row[policy->rows - 1];
    double leaving = 0;
    for (int i = 0; i < policy->rows; i++) {
        if (policy->row[i].threshold == threshold)
            row = &policy->row[i];
    }
    for (int e = 0; e < policy->exits; e++)
        leaving += row->exit_rate[e];
    int length = snprintf(text, size, "The policy's threshold is %g: %.1f %% of the tokens leave early",
                          threshold, 100 * leaving);
    if (leaving > 0)
        length += snprintf(text + length, size - (size_t)length, ", and %.1f %% of those are the full model's",
                           100 * row->agreement);
    if (row->speedup <= 1) {
        length +=
            snprintf(text + length, size - (size_t)length,
                     ". Predicted to be slower than the full model, at %.2f times its speed: a check that "
                     "lets a token go on costs %.1f layers",
                     row->speedup, check);
        if (policy->exits > 1)
            snprintf(text + length, size - (size_t)length, ", and there are up to %d of them.", policy->exits);
        else
            snprintf(text + length, size - (size_t)length, ".");
    } else
        snprintf(text + length, size - (size_t)length, ". Predicted speed: %.2f times the full model's.",
                 row->speedup);
}

void policy_table_print(const struct policy *policy, FILE *stream)
{
    char name[TAP_NAME_SIZE], verdict[512];
    policy_verdict(policy, verdict, sizeof verdict);
    if (policy->rows == 0) {
        fprintf(stream, "%s\n", verdict);
        return;
    }
    fprintf(stream, "threshold");
    for (int e = 0; e < policy_columns(policy); e++) {
        tap_name(policy_column(policy, e), policy->layers, name);
        fprintf(stream, "  %s %-6s", policy->exits > 0 ? "exit" : "try ", name);
    }
    fprintf(stream, "  agreement  mean depth  predicted speed-up\n");
    for (int i = 0; i < policy->rows; i++) {
        const struct policy_row *row = &policy->row[i];
        fprintf(stream, "%9.2f", row->threshold);
        for (int e = 0; e < policy_columns(policy); e++)
            fprintf(stream, "  %9.1f %%", 100 * row->exit_rate[e]);
        if (isnan(row->agreement))
            fprintf(stream, "          -");
        else
            fprintf(stream, "  %7.1f %%", 100 * row->agreement);
        fprintf(stream, "  %10.2f  %17.2fx\n", row->depth, row->speedup);
    }
    fprintf(
        stream,
        "%s%s\nSpeeds are predicted from parameter counts, decoding one token at a time: a check costs %.2f "
        "layers "
        "(%.2f the head, %.2f the output product).\n",
        verdict, policy->exits > 0 ? "" : ".", policy->cost_head + policy->cost_output, policy->cost_head,
        policy->cost_output);
}
