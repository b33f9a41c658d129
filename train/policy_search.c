#include "train/policy_search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"

static const double thresholds[] = {0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99};
enum { THRESHOLDS = sizeof thresholds / sizeof thresholds[0] };
_Static_assert(POLICY_THRESHOLDS == THRESHOLDS + 1, "one more may be asked for");

/* ---- one table row ---- */

int policy_thresholds(const struct policy_wish *wish, double list[POLICY_THRESHOLDS])
{
    int count = 0;
    for (int i = 0; i <= THRESHOLDS; i++) {
        const double next = i < THRESHOLDS ? thresholds[i] : INFINITY;
        const bool own = wish->threshold < next && (count == 0 || list[count - 1] < wish->threshold);
        if (own)
            list[count++] = wish->threshold;
        if (i < THRESHOLDS)
            list[count++] = next;
    }
    return count;
}

void policy_count(const struct policy_costs *costs, const struct observed *observed, uint64_t tokens,
                  double threshold, struct policy_row *row)
{
    const struct exit_rule rule = {threshold};
    double agreeing = 0, leaving = 0, depth = 0, cost = 0;
    row->threshold = threshold;
    for (int e = 0; e < costs->exits; e++)
        row->exit_rate[e] = 0;
    for (uint64_t t = 0; t < tokens; t++) {
        int e = 0;
        while (e < costs->exits && !rule_lets_leave(&rule, EVIDENCE_CONFIDENCE, &observed[e].evidence[t])) {
            cost += costs->exit[e].head + costs->output;
            e++;
        }
        if (e < costs->exits) {
            row->exit_rate[e]++;
            leaving++;
            agreeing += observed[e].agrees[t];
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

/* ---- the threshold ---- */

static struct policy_choice make_choice(const struct policy_row *row, bool agrees)
{
    return (struct policy_choice){agrees, row->threshold, row->agreement, row->speedup};
}

/* A choice that agrees often enough is better than one that does not. Of two that agree, the faster one is
 * better, and of two that do not, the one that agrees more. NaN is the worst. */
static bool is_better(const struct policy_choice *a, const struct policy_choice *b)
{
    if (a->agrees != b->agrees)
        return a->agrees;
    if (a->agrees)
        return a->speedup > b->speedup;
    return a->agreement > b->agreement || (isnan(b->agreement) && !isnan(a->agreement));
}

int policy_threshold(const struct policy_costs *costs, const struct observed *observed, uint64_t tokens,
                     const struct policy_wish *wish, struct policy_choice *choice, struct error *error)
{
    struct policy_row row = {0};
    if (array_alloc(&row.exit_rate, costs->exits, error) < 0)
        return -1;
    if (!isnan(wish->threshold)) {
        policy_count(costs, observed, tokens, wish->threshold, &row);
        *choice = make_choice(&row, true);
    }
    /* Begins with the highest one, so that of two equal choices the more careful one wins. */
    for (int i = THRESHOLDS - 1; i >= 0 && isnan(wish->threshold); i--) {
        policy_count(costs, observed, tokens, thresholds[i], &row);
        const struct policy_choice found = make_choice(&row, row.agreement >= wish->agreement);
        if (i == THRESHOLDS - 1 || is_better(&found, choice))
            *choice = found;
    }
    free(row.exit_rate);
    return 0;
}

/* ---- which exits ---- */

/* Some of the exits, with the numbers that they have among all. */
struct selection {
    struct exit_cost *exit; /* [count] */
    struct observed *observed; /* [count] */
    int *number; /* [count] */
    int count;
};

static void selection_remove(struct selection *selection, int index)
{
    const size_t behind = (size_t)(--selection->count - index);
    memmove(selection->exit + index, selection->exit + index + 1, behind * sizeof *selection->exit);
    memmove(selection->observed + index, selection->observed + index + 1, behind * sizeof *selection->observed);
    memmove(selection->number + index, selection->number + index + 1, behind * sizeof *selection->number);
}

static void selection_insert(struct selection *selection, int index, struct exit_cost exit,
                             struct observed observed, int number)
{
    const size_t behind = (size_t)(selection->count++ - index);
    memmove(selection->exit + index + 1, selection->exit + index, behind * sizeof *selection->exit);
    memmove(selection->observed + index + 1, selection->observed + index, behind * sizeof *selection->observed);
    memmove(selection->number + index + 1, selection->number + index, behind * sizeof *selection->number);
    selection->exit[index] = exit;
    selection->observed[index] = observed;
    selection->number[index] = number;
}

static int judge_selection(const struct policy_costs *costs, const struct selection *selection, uint64_t tokens,
                           const struct policy_wish *wish, struct policy_choice *choice, struct error *error)
{
    struct policy_costs own = *costs;
    own.exit = selection->exit;
    own.exits = selection->count;
    return policy_threshold(&own, selection->observed, tokens, wish, choice, error);
}

/* Leaves out the exit without which the others do best. *choice says what they do. */
static int leave_one_out(const struct policy_costs *costs, struct selection *selection, uint64_t tokens,
                         const struct policy_wish *wish, struct policy_choice *choice, struct error *error)
{
    int burden = -1;
    for (int without = 0; without < selection->count; without++) {
        const struct exit_cost exit = selection->exit[without];
        const struct observed observed = selection->observed[without];
        const int number = selection->number[without];
        struct policy_choice found;
        selection_remove(selection, without);
        const int result = judge_selection(costs, selection, tokens, wish, &found, error);
        selection_insert(selection, without, exit, observed, number);
        if (result < 0)
            return -1;
        if (burden < 0 || is_better(&found, choice)) {
            burden = without;
            *choice = found;
        }
    }
    selection_remove(selection, burden);
    return 0;
}

static void keep_selection(const struct selection *selection, struct policy_costs *costs,
                           struct observed *observed, int *kept)
{
    costs->exits = selection->count;
    for (int e = 0; e < selection->count; e++) {
        costs->exit[e] = selection->exit[e];
        observed[e] = selection->observed[e];
        kept[e] = selection->number[e];
    }
}

int policy_thin(struct policy_costs *costs, struct observed *observed, uint64_t tokens,
                const struct policy_wish *wish, int *kept, struct policy_choice *choice, struct error *error)
{
    const int exits = costs->exits;
    struct selection selection = {.count = 0};
    struct policy_choice found;
    int result = -1;
    if (array_alloc(&selection.exit, exits, error) < 0 || array_alloc(&selection.observed, exits, error) < 0 ||
        array_alloc(&selection.number, exits, error) < 0)
        goto done;
    for (int e = 0; e < exits; e++)
        selection_insert(&selection, e, costs->exit[e], observed[e], e);
    result = judge_selection(costs, &selection, tokens, wish, choice, error);
    keep_selection(&selection, costs, observed, kept);
    while (selection.count > 1 && result == 0) {
        if ((result = leave_one_out(costs, &selection, tokens, wish, &found, error)) < 0 ||
            is_better(choice, &found))
            continue;
        *choice = found;
        keep_selection(&selection, costs, observed, kept);
    }
done:
    free(selection.exit);
    free(selection.observed);
    free(selection.number);
    return result;
}
