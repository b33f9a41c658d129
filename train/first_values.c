#include "train/first_values.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/head/draft.h"
#include "train/draft_ridge.h"
#include "train/draft_tokens.h"
#include "train/regressions.h"

static int initialise(const struct member *member, const struct first_values_setting *setting,
                      struct error *error)
{
    const struct head_source source = stores_head_source(setting->stores);
    return head_initialise(member->trial->head, member->config->init, setting->seed, &source, error) < 0
               ? error_prefix(error, "trial %s", member->config->id)
               : 0;
}

/* What drafts begin with: read for the first one, and kept for the others. */
struct draft_start {
    struct draft_counts counts;
    struct draft_regression regression;
};

/* The tokens of a draft, and its regression; without a solution the draft fails. */
static int begin_draft(struct member *member, const struct first_values_setting *setting,
                       struct draft_start *start, struct error *error)
{
    const struct head_source source = stores_head_source(setting->stores);
    const struct draft_ridge_setting ridge = {setting->stores, setting->backend, setting->threads,
                                              setting->seed};
    const int count = member->config->spec.draft_vocab;
    int32_t *tokens;
    if (!start->counts.vocab &&
        draft_tokens_count(setting->stores, setting->threads, &start->counts, error) < 0)
        return -1;
    if (array_alloc(&tokens, count, error) < 0)
        return -1;
    int result = draft_tokens_choose(&start->counts, count, tokens, error);
    if (result == 0)
        result = draft_set_tokens(member->trial->head, tokens, &source, error);
    free(tokens);
    if (result == 0 && member->config->init == INIT_RIDGE)
        result = draft_ridge_fit(&start->regression, member->trial, &ridge, error);
    if (result == 0 && member->config->init == INIT_RIDGE)
        result = start->regression.solved ? draft_ridge_use(&start->regression, member->trial, &ridge, error)
                                          : member_fail(member, &start->regression.reason, error);
    return result < 0 ? error_prefix(error, "trial %s", member->config->id) : 0;
}

int members_set_first_values(struct members *members, const struct first_values_setting *setting,
                             struct error *error)
{
    struct draft_start start = {0};
    int result = 0;
    for (int i = 0; i < members->count && result == 0; i++) {
        struct member *member = &members->member[i];
        if (member->state != MEMBER_TRAINING || member->saved >= 0)
            continue;
        if (cli_interrupted())
            result = error_set_kind(error, ERROR_INTERRUPTED,
                                    "stopped before all first values were there; the same command goes on");
        else
            result = initialise(member, setting, error);
        if (result == 0 && trial_is_draft(member->trial))
            result = begin_draft(member, setting, &start, error);
    }
    draft_counts_free(&start.counts);
    draft_regression_free(&start.regression);
    return result;
}

/* ---- ridge regressions ---- */

static bool needs_ridge(const struct member *member)
{
    return member->state == MEMBER_WAITING && member->saved < 0 && member->config->init == INIT_RIDGE &&
           !head_kind_is_draft(member->config->spec.kind);
}

/* A regression that was solved; or that was not, for a reason. */
struct solution {
    const struct regressions *regressions;
    int pair;
    bool solved;
    struct error reason;
    float *a, *b; /* [H, H], [H] */
};

static int write_named(struct trial *trial, const char *name, const float *values, struct error *error)
{
    for (int p = 0; p < head_parameter_count(trial->head); p++) {
        const struct head_parameter *parameter = head_parameter(trial->head, p);
        if (!strcmp(parameter->name, name))
            op_write(trial->queue, parameter->value, values);
    }
    return queue_wait(trial->queue, error);
}

/* Puts the best map of the head's rank into it. */
static int use_lower(struct trial *trial, const struct solution *solution, struct error *error)
{
    const int64_t hidden = head_get_config(trial->head)->hidden;
    const int rank = trial->config.spec.rank;
    float *u = NULL, *v = NULL, *c = NULL;
    int result = -1;
    if (array_alloc(&u, hidden * rank, error) == 0 && array_alloc(&v, rank * hidden, error) == 0 &&
        array_alloc(&c, hidden, error) == 0 &&
        regressions_lower(solution->regressions, solution->pair, solution->a, solution->b, rank, u, v, c,
                          error) == 0 &&
        write_named(trial, "u", u, error) == 0 && write_named(trial, "v", v, error) == 0)
        result = write_named(trial, "b", c, error);
    free(u);
    free(v);
    free(c);
    return result;
}

static int use_solution(struct trial *trial, const struct solution *solution, struct error *error)
{
    if (trial->config.spec.rank > 0)
        return use_lower(trial, solution, error);
    return write_named(trial, "a", solution->a, error) < 0 ? -1 : write_named(trial, "b", solution->b, error);
}

/* Opens the member, gives it the solution, or marks it failed, and puts it away. */
static int begin(const struct members *members, struct member *member, const struct solution *solution,
                 const struct first_values_setting *setting, struct error *error)
{
    if (members_resume(members, member, setting->resume, error) < 0)
        return -1;
    if (member->state != MEMBER_TRAINING)
        return 0;
    if (!solution->solved)
        return member_fail(member, &solution->reason, error);
    if (initialise(member, setting, error) < 0)
        return -1;
    if (use_solution(member->trial, solution, error) < 0) { /* it may have none of the head's rank */
        const struct error reason = *error;
        return error_is_machines(error) ? -1 : member_fail(member, &reason, error);
    }
    return member_park(member, error);
}

/* Solves the regression number `index`, which is of `pair`, for the trials that begin with it. */
static int solve(struct members *members, const struct first_values_setting *setting,
                 const struct regressions *regressions, int index, struct regression pair, struct error *error)
{
    const int64_t hidden = setting->stores->config.hidden;
    struct solution solution = {.regressions = regressions, .pair = index};
    int result = -1;
    if (array_alloc(&solution.a, hidden * hidden, error) < 0 || array_alloc(&solution.b, hidden, error) < 0)
        goto done;
    solution.solved = regressions_solve(regressions, index, solution.a, solution.b, &solution.reason) == 0;
    result = 0;
    if (!solution.solved && error_is_machines(&solution.reason)) { /* not the fault of the states */
        *error = solution.reason;
        result = error_prefix(error, "the regression at a tap");
    }
    for (int i = 0; i < members->count && result == 0; i++) {
        struct member *member = &members->member[i];
        if (needs_ridge(member) &&
            regression_same(regression_of(&member->config->spec, &setting->stores->config), pair))
            result = begin(members, member, &solution, setting, error);
    }
done:
    free(solution.a);
    free(solution.b);
    return result;
}

/* The pairs of the members that begin with a regression, each once, into pairs (room for all members). */
static int list_pairs(const struct members *members, const struct stores *stores, struct regression *pairs)
{
    int count = 0;
    for (int i = 0; i < members->count; i++) {
        const struct member *member = &members->member[i];
        if (needs_ridge(member))
            count = regressions_list(pairs, count, regression_of(&member->config->spec, &stores->config));
    }
    return count;
}

/* They share what the read has taken. */
static void charge(struct members *members, double seconds)
{
    int count = 0;
    for (int i = 0; i < members->count; i++)
        count += needs_ridge(&members->member[i]);
    for (int i = 0; i < members->count; i++) {
        if (needs_ridge(&members->member[i]))
            members->member[i].cost.shared += seconds / count;
    }
}

int members_regress(struct members *members, const struct first_values_setting *setting, struct error *error)
{
    const struct stores *stores = setting->stores;
    struct regression *pairs;
    struct regressions *regressions = NULL;
    int result = 0;
    if (array_alloc(&pairs, members->count, error) < 0)
        return -1;
    const double started = clock_seconds();
    const int count = list_pairs(members, stores, pairs);
    if (count > 0)
        result =
            regressions_read(stores, setting->backend, setting->threads, pairs, count, &regressions, error);
    charge(members, clock_seconds() - started);
    for (int t = 0; t < count && result == 0; t++)
        result = cli_interrupted() ? error_set_kind(error, ERROR_INTERRUPTED, "interrupted")
                                   : solve(members, setting, regressions, t, pairs[t], error);
    if (result < 0 && error->kind == ERROR_INTERRUPTED)
        error_set_kind(error, ERROR_INTERRUPTED,
                       "stopped before the first step; the same command begins again");
    regressions_free(regressions);
    free(pairs);
    return result;
}
