#include "train/policy_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/memory.h"

static const double thresholds[] = {0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99};
enum { THRESHOLDS = sizeof thresholds / sizeof thresholds[0] };

/* The policy's own threshold is the lowest one of the table that agrees so often. */
static const double wanted_agreement = 0.95;

/* ---- costs ---- */

static double attention_parameters(const struct model_config *config)
{
    const double query = (double)config->heads * config->head_size,
                 key = (double)config->kv_heads * config->head_size;
    return config->hidden * (2 * query + 2 * key);
}

double layer_parameters(const struct model_config *config)
{
    return attention_parameters(config) + 3.0 * config->hidden * config->intermediate;
}

double tap_depth(const struct model_config *config, struct tap tap)
{
    if (!tap.mid)
        return tap.layer;
    return tap.layer - 1 + attention_parameters(config) / layer_parameters(config);
}

static double head_parameters(const struct head *head)
{
    double count = 0;
    for (int i = 0; i < head_parameter_count(head); i++) {
        const struct head_parameter *parameter = head_parameter(head, i);
        if (strcmp(parameter->name, "output") != 0)
            count += (double)parameter->value.rows * (double)parameter->value.cols;
    }
    return count;
}

/* ---- counting ---- */

void policy_count(const struct policy_costs *costs, struct outcome *const *outcomes, uint64_t tokens,
                  double threshold, struct policy_row *row)
{
    double agreeing = 0, leaving = 0, depth = 0, cost = 0;
    row->threshold = threshold;
    for (int e = 0; e < costs->exits; e++)
        row->exit_rate[e] = 0;
    for (uint64_t t = 0; t < tokens; t++) {
        int e = 0;
        while (e < costs->exits && outcomes[e][t].confidence < threshold) {
            cost += costs->exit[e].head + costs->output;
            e++;
        }
        if (e < costs->exits) {
            row->exit_rate[e]++;
            leaving++;
            agreeing += outcomes[e][t].agrees;
            depth += costs->exit[e].depth;
            cost += costs->exit[e].depth + costs->exit[e].head + costs->output;
        } else {
            depth += costs->layers;
            cost += costs->layers + costs->output;
        }
    }
    for (int e = 0; e < costs->exits; e++)
        row->exit_rate[e] /= (double)tokens;
    row->agreement = leaving > 0 ? agreeing / leaving : NAN;
    row->depth = depth / (double)tokens;
    row->speedup = (double)tokens * (costs->layers + costs->output) / cost;
}

int policy_choose(struct trial *const *trials, int count, int layers, struct trial **best)
{
    int chosen = 0;
    for (int i = 0; i < count; i++) {
        const struct tap tap = trials[i]->config.spec.tap;
        int place = 0;
        if (trials[i]->failed || tap_compare(tap, (struct tap){.layer = layers}) == 0)
            continue;
        while (place < chosen && tap_compare(best[place]->config.spec.tap, tap) < 0)
            place++;
        if (place == chosen || tap_compare(best[place]->config.spec.tap, tap) != 0) {
            memmove(best + place + 1, best + place, (size_t)(chosen - place) * sizeof *best);
            best[place] = trials[i];
            chosen++;
        } else if (trials[i]->kl < best[place]->kl) {
            best[place] = trials[i];
        }
    }
    int kept = 0;
    for (int i = 0; i < chosen; i++) {
        if (kept == 0 || best[i]->kl < best[kept - 1]->kl)
            best[kept++] = best[i];
    }
    return kept;
}

/* ---- which exits ---- */

/* What the threshold does that the policy would have: the lowest one of the table that agrees often enough. */
static void count_own(const struct policy_costs *costs, struct outcome *const *outcomes, uint64_t tokens,
                      struct policy_row *row)
{
    for (int i = 0; i < THRESHOLDS; i++) {
        policy_count(costs, outcomes, tokens, thresholds[i], row);
        if (row->agreement >= wanted_agreement)
            return;
    }
}

static void remove_exit(struct policy_costs *costs, struct outcome **outcomes, int *kept, int place)
{
    const size_t behind = (size_t)(--costs->exits - place);
    memmove(costs->exit + place, costs->exit + place + 1, behind * sizeof *costs->exit);
    memmove(outcomes + place, outcomes + place + 1, behind * sizeof *outcomes);
    memmove(kept + place, kept + place + 1, behind * sizeof *kept);
}

/* The exit without which the policy is predicted fastest, and how fast; -1: all are needed. */
static int find_burden(const struct policy_costs *costs, struct outcome *const *outcomes, uint64_t tokens,
                       struct exit_cost *exit, struct outcome **others, struct policy_row *row)
{
    struct policy_costs fewer = *costs;
    int burden = -1;
    fewer.exit = exit;
    fewer.exits = costs->exits - 1;
    count_own(costs, outcomes, tokens, row);
    double fastest = row->speedup;
    for (int without = 0; without < costs->exits && fewer.exits > 0; without++) {
        for (int e = 0; e < fewer.exits; e++) {
            exit[e] = costs->exit[e + (e >= without)];
            others[e] = outcomes[e + (e >= without)];
        }
        count_own(&fewer, others, tokens, row);
        if (row->speedup > fastest) {
            fastest = row->speedup;
            burden = without;
        }
    }
    return burden;
}

int policy_thin(struct policy_costs *costs, struct outcome **outcomes, uint64_t tokens, int *kept,
                struct error *error)
{
    struct exit_cost *exit = NULL;
    struct outcome **others = NULL;
    struct policy_row row = {0};
    int burden, result = -1;
    for (int e = 0; e < costs->exits; e++)
        kept[e] = e;
    if (array_alloc(&exit, costs->exits, error) < 0 || array_alloc(&others, costs->exits, error) < 0 ||
        array_alloc(&row.exit_rate, costs->exits, error) < 0)
        goto done;
    while ((burden = find_burden(costs, outcomes, tokens, exit, others, &row)) >= 0)
        remove_exit(costs, outcomes, kept, burden);
    result = 0;
done:
    free(exit);
    free(others);
    free(row.exit_rate);
    return result;
}

/* ---- the table ---- */

static int make_costs(const struct model_config *config, struct trial *const *best, int count,
                      struct policy_costs *costs, struct error *error)
{
    const double layer = layer_parameters(config);
    *costs = (struct policy_costs){
        .layers = config->layers, .output = (double)config->vocab * config->hidden / layer, .exits = count};
    if (array_alloc(&costs->exit, count, error) < 0)
        return -1;
    for (int e = 0; e < count; e++) {
        costs->exit[e].depth = tap_depth(config, best[e]->config.spec.tap);
        costs->exit[e].head = head_parameters(best[e]->head) / layer;
    }
    return 0;
}

static int count_table(const struct policy_costs *costs, struct outcome *const *outcomes, uint64_t tokens,
                       struct policy *policy, struct error *error)
{
    if (array_alloc(&policy->row, THRESHOLDS, error) < 0)
        return -1;
    for (int e = 0; e < costs->exits; e++)
        policy->cost_head += costs->exit[e].head / costs->exits;
    policy->cost_output = costs->output;
    for (; policy->rows < THRESHOLDS; policy->rows++) {
        struct policy_row *row = &policy->row[policy->rows];
        if (array_alloc(&row->exit_rate, costs->exits, error) < 0)
            return -1;
        policy_count(costs, outcomes, tokens, thresholds[policy->rows], row);
    }
    return 0;
}

static double choose_threshold(const struct policy *policy)
{
    for (int i = 0; i < policy->rows; i++) {
        if (policy->row[i].agreement >= wanted_agreement)
            return policy->row[i].threshold;
    }
    return policy->row[policy->rows - 1].threshold;
}

static int save_exit(const struct trial *trial, const char *folder, const struct stores *stores,
                     struct policy_exit *exit, struct error *error)
{
    snprintf(exit->kind, sizeof exit->kind, "%s", head_kind_name(trial->config.spec.kind));
    snprintf(exit->output, sizeof exit->output, "%s", head_output_name(trial->config.spec.output));
    snprintf(exit->file, sizeof exit->file, "%s.safetensors", trial->config.tap);
    exit->tap = trial->config.spec.tap;
    char *path = path_join(folder, exit->file, error);
    int result = path ? head_save(trial->head, trial->queue, path, stores->fingerprint, error) : -1;
    if (result == 0)
        result = policy_hash_file(path, exit->hash, error);
    free(path);
    return result;
}

/* Of `best` those exits that pay, their table and their heads. `outcomes` may be put in another order. */
static int write_policy(const struct evaluation_setting *setting, struct trial *const *best,
                        struct outcome **outcomes, uint64_t tokens, struct policy *policy, const char *folder,
                        struct error *error)
{
    struct policy_costs costs = {0};
    int *kept = NULL, result = -1;
    if (array_alloc(&kept, policy->exits, error) < 0 ||
        make_costs(&setting->stores->config, best, policy->exits, &costs, error) < 0 ||
        policy_thin(&costs, outcomes, tokens, kept, error) < 0)
        goto done;
    policy->exits = costs.exits;
    if (count_table(&costs, outcomes, tokens, policy, error) < 0 || directory_create(folder, error) < 0)
        goto done;
    for (int e = 0; e < policy->exits; e++) {
        policy->exit[e].threshold = choose_threshold(policy);
        if (save_exit(best[kept[e]], folder, setting->stores, &policy->exit[e], error) < 0)
            goto done;
    }
    result = policy_write(folder, policy, error);
done:
    free(costs.exit);
    free(kept);
    return result;
}

int policy_table_write(const struct evaluation_setting *setting, struct trial *const *best, int count,
                       const char *folder, bool *complete, struct error *error)
{
    const uint64_t tokens = setting->stores->sequences[SPLIT_HELD_OUT] * (uint64_t)setting->stores->rows;
    struct policy policy = {.layers = setting->stores->config.layers, .exits = count};
    struct outcome **outcomes = NULL, **paying = NULL;
    struct evaluation *results = NULL, full;
    int result = -1;
    strcpy(policy.fingerprint, setting->stores->fingerprint);
    if (array_alloc(&outcomes, count, error) < 0 || array_alloc(&paying, count, error) < 0 ||
        array_alloc(&results, count, error) < 0 || array_alloc(&policy.exit, count, error) < 0)
        goto done;
    for (int e = 0; e < count; e++) {
        if (array_alloc(&outcomes[e], tokens, error) < 0)
            goto done;
    }
    result = evaluate_trials(setting, best, count, results, &full, outcomes, complete, error);
    for (int e = 0; e < count && result == 0; e++) {
        if (best[e]->failed)
            result = error_set_kind(error, best[e]->reason.kind, "trial %s: %s", best[e]->config.id,
                                    best[e]->reason.text);
    }
    if (result == 0 && *complete) {
        memcpy(paying, outcomes, (size_t)count * sizeof *paying);
        result = write_policy(setting, best, paying, tokens, &policy, folder, error);
    }
done:
    for (int e = 0; outcomes && e < count; e++)
        free(outcomes[e]);
    free(outcomes);
    free(paying);
    free(results);
    policy_free(&policy);
    return result;
}

/* ---- for people ---- */

void policy_verdict(const struct policy *policy, char *text, size_t size)
{
    const double threshold = policy->exit[0].threshold, check = policy->cost_head + policy->cost_output;
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
    fprintf(stream, "threshold");
    for (int e = 0; e < policy->exits; e++) {
        tap_name(policy->exit[e].tap, policy->layers, name);
        fprintf(stream, "  exit %-6s", name);
    }
    fprintf(stream, "  agreement  mean depth  predicted speed-up\n");
    for (int i = 0; i < policy->rows; i++) {
        const struct policy_row *row = &policy->row[i];
        fprintf(stream, "%9.2f", row->threshold);
        for (int e = 0; e < policy->exits; e++)
            fprintf(stream, "  %9.1f %%", 100 * row->exit_rate[e]);
        if (isnan(row->agreement))
            fprintf(stream, "          -");
        else
            fprintf(stream, "  %7.1f %%", 100 * row->agreement);
        fprintf(stream, "  %10.2f  %17.2fx\n", row->depth, row->speedup);
    }
    policy_verdict(policy, verdict, sizeof verdict);
    fprintf(stream,
            "%s\nSpeeds are predicted from parameter counts, decoding one token at a time: a check costs %.2f "
            "layers "
            "(%.2f the head, %.2f the output product).\n",
            verdict, policy->cost_head + policy->cost_output, policy->cost_head, policy->cost_output);
}
