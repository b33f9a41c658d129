/* The first paragraph: which exits to deploy and why, or why none. */
#include <math.h>
#include <stdio.h>

#include "common/base/svg.h"
#include "train/report.h"
#include "train/report_page.h"

static const struct policy_row *row_at(const struct policy *policy, double threshold)
{
    const struct policy_row *row = &policy->row[policy->rows - 1];
    for (int i = 0; i < policy->rows; i++) {
        if (policy->row[i].threshold == threshold)
            row = &policy->row[i];
    }
    return row;
}

/* Of the rows that agree as often as was asked for; of all where none does. */
static const struct policy_row *fastest_row(const struct policy *policy)
{
    const struct policy_row *best = NULL;
    for (int wanted = 1; wanted >= 0 && !best; wanted--) {
        for (int i = 0; i < policy->rows; i++) {
            const struct policy_row *row = &policy->row[i];
            const bool agrees = isnan(policy->agreement) || row->agreement >= policy->agreement;
            if ((agrees || !wanted) && (!best || row->speedup > best->speedup))
                best = row;
        }
    }
    return best;
}

/* "the exit at layer 24", "the exits at layers 12, 18 and 24" */
static void name_exits(const struct report *report, struct string *out)
{
    const struct policy *policy = report->policy;
    const int count = policy_columns(policy);
    char name[TAP_NAME_SIZE];
    string_print(out, count == 1 ? "the exit at layer " : "the exits at layers ");
    for (int e = 0; e < count; e++) {
        tap_name(policy_column(policy, e), policy->layers, name);
        string_print(out, "%s%s", e == 0 ? "" : e + 1 == count ? " and " : ", ", name);
    }
}

static void tell_check(const struct report *report, struct string *out)
{
    string_print(out,
                 "A check costs as much as %.1f layers: %.1f for the head, and %.1f for its product with all "
                 "%d words of "
                 "the vocabulary",
                 report->policy->cost_head + report->policy->cost_output, report->policy->cost_head,
                 report->policy->cost_output, report->model->vocab);
}

static void tell_deployed(const struct report *report, struct string *out)
{
    const struct policy *policy = report->policy;
    const double threshold = policy->exit[0].rule.threshold;
    const struct policy_row *row = row_at(policy, threshold);
    const bool pays = row->speedup > 1;
    double leaving = 0;
    for (int e = 0; e < policy->exits; e++)
        leaving += row->exit_rate[e];
    string_print(out, "<div class=\"lead%s\"><p><b>%s", pays ? " good" : "",
                 pays ? "Deploy " : "Do not expect speed from ");
    name_exits(report, out);
    string_print(out,
                 ", with a threshold of %g.</b> A token leaves there when the head gives its likeliest word a "
                 "probability "
                 "of at least %g. That is %.1f %% of the held-out tokens",
                 threshold, threshold, 100 * leaving);
    if (leaving > 0)
        string_print(out, ", and %.1f %% of those get the word that the full model would have chosen",
                     100 * row->agreement);
    string_print(out, ". A token goes through %.1f of %d layers on average", row->depth, policy->layers);
    if (pays) {
        string_print(out,
                     ", so that text is predicted to come %.2f times as fast as from the full model.</p>\n",
                     row->speedup);
        return;
    }
    string_print(out, ", but text is predicted to come at %.2f times the full model's speed. ", row->speedup);
    tell_check(report, out);
    string_print(
        out,
        "; each token that does not leave has paid it in vain. The policy has %s because %s asked for.</p>\n",
        policy->exits == 1 ? "the exit" : "the exits", policy->exits == 1 ? "it was" : "they were");
}

static void tell_none(const struct report *report, struct string *out)
{
    const struct policy *policy = report->policy;
    const struct policy_row *row = fastest_row(policy);
    const double depth = tap_depth(report->model, policy_column(policy, policy_columns(policy) - 1));
    string_print(out, "<div class=\"lead\"><p><b>Deploy no exit: none is predicted to make the model "
                      "faster.</b> The nearest to it ");
    string_print(out, policy_columns(policy) == 1 ? "is " : "are ");
    name_exits(report, out);
    string_print(out, ", at %.2f times the full model's speed with a threshold of %g. ", row->speedup,
                 row->threshold);
    tell_check(report, out);
    string_print(out,
                 ". A token that leaves at layer %g saves %.1f layers by that; one that does not leave has "
                 "paid in vain. "
                 "The policy is the full model.</p>\n",
                 depth, report->model->layers - depth - policy->cost_head);
}

static const struct leaderboard_row *best_row(const struct leaderboard *board)
{
    return board->exits > 0 && board->row[0].finished ? &board->row[0] : NULL;
}

static void tell_best(const struct report *report, struct string *out)
{
    const struct leaderboard_row *best = best_row(report->board);
    if (!best)
        return;
    string_print(out, "<p>Closest to the full model comes the <b>");
    html_escape(out, head_kind_name(best->config->spec.kind));
    string_print(
        out,
        "</b> head at layer %s: its likeliest word is the full model's for %.1f %% of the held-out tokens, and "
        "its loss is %.3f where the full model's is %.3f.</p>\n",
        best->config->tap, 100 * best->held_out.agreement, best->held_out.loss, report->board->full_loss);
}

static void tell_ended(const struct report *report, struct string *out)
{
    int failed = 0, stopped = 0;
    for (int i = 0; i < report->board->count; i++) {
        failed += report->board->row[i].metrics.failed[0] != 0;
        stopped += report->board->row[i].metrics.stopped[0] && !report->board->row[i].finished;
    }
    if (failed + stopped == 0)
        return;
    string_print(out, "<p>Of %d trials ", report->board->count);
    if (failed > 0)
        string_print(out, "%d failed", failed);
    if (stopped > 0)
        string_print(out, "%s%d %s stopped early, because others were better", failed > 0 ? " and " : "",
                     stopped, stopped == 1 ? "was" : "were");
    string_print(out, ": <a href=\"#failures\">why</a>.</p>\n");
}

void report_verdict(const struct report *report, struct string *out)
{
    if (report->policy->rows == 0)
        string_print(out, "<div class=\"lead\"><p><b>There is nothing to deploy:</b> no head that could be an "
                          "exit was trained "
                          "to its end. The policy is the full model.</p>\n");
    else if (report->policy->exits > 0)
        tell_deployed(report, out);
    else
        tell_none(report, out);
    tell_best(report, out);
    report_drafts_in_short(report, out);
    report_gates_in_short(report, out);
    tell_ended(report, out);
    if (report->policy->exits > 0)
        string_print(out, "<p>To use it: <code>generate --model MODEL --policy RUN/policy</code>, with RUN the "
                          "folder that this "
                          "page is in.</p>\n");
    string_print(out, "</div>\n");
}
