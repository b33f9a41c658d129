/* What an exit costs against how close it is to the full model. */
#include <math.h>
#include <stdio.h>

#include "train/report.h"
#include "train/report_page.h"

static double cost_of(const struct leaderboard *board, int index)
{
    return leaderboard_cost(board, &board->row[index]);
}

/* Whether no head is at least as cheap and at least as close, and better in one of the two. Of equals the first in rank
 * stands for all. */
bool report_front_has(const struct leaderboard *board, int index)
{
    const struct leaderboard_row *row = &board->row[index];
    for (int i = 0; i < board->exits; i++) {
        const struct leaderboard_row *other = &board->row[i];
        const bool as_good = other->finished && cost_of(board, i) <= cost_of(board, index) &&
                             other->held_out.kl <= row->held_out.kl;
        const bool equal = cost_of(board, i) == cost_of(board, index) && other->held_out.kl == row->held_out.kl;
        if (i != index && as_good && (!equal || i < index))
            return false;
    }
    return row->finished;
}

/* The next dearer one on the front; -1: there is none. */
static int next_on_front(const struct leaderboard *board, double cost)
{
    int next = -1;
    for (int i = 0; i < board->exits; i++) {
        if (report_front_has(board, i) && cost_of(board, i) > cost &&
            (next < 0 || cost_of(board, i) < cost_of(board, next)))
            next = i;
    }
    return next;
}

static int front_size(const struct leaderboard *board)
{
    int count = 0;
    for (int i = 0; i < board->exits; i++)
        count += report_front_has(board, i);
    return count;
}

bool report_front_applies(const struct report *report)
{
    return front_size(report->board) > 0;
}

static double full_cost(const struct report *report)
{
    return report->model->layers + report->board->output;
}

static void draw_front(const struct report *report, struct svg_chart *chart, bool agreement)
{
    const struct leaderboard *board = report->board;
    struct svg_point last = {NAN, NAN};
    for (int i = -1; (i = next_on_front(board, i < 0 ? -1 : cost_of(board, i))) >= 0;) {
        const struct leaderboard_row *row = &board->row[i];
        const struct svg_point pair[] = {
            last, {cost_of(board, i), agreement ? row->held_out.agreement : row->held_out.kl}};
        svg_line(chart, pair, 2, "var(--ink)", NULL);
        last = pair[1];
    }
}

static void draw_heads(const struct leaderboard *board, struct svg_chart *chart, bool agreement)
{
    for (int i = board->exits - 1; i >= 0; i--) {
        const struct leaderboard_row *row = &board->row[i];
        const struct report_look look = report_kind_look(head_kind_name(row->config->spec.kind));
        const bool front = report_front_has(board, i);
        const struct svg_point point = {cost_of(board, i),
                                        agreement ? row->held_out.agreement : row->held_out.kl};
        char hint[TRIAL_ID_SIZE + 96];
        if (!row->finished)
            continue;
        snprintf(hint, sizeof hint, "%s: %.2f layers, KL %.4f, %.1f %% agree", row->config->id,
                 cost_of(board, i), row->held_out.kl, 100 * row->held_out.agreement);
        svg_mark(chart, point, look.shape, front ? look.colour : report_colour(-1), hint);
        if (front)
            svg_note(chart, point, row->config->tap);
    }
}

static void write_chart(const struct report *report, struct string *out, bool agreement)
{
    const struct leaderboard *board = report->board;
    struct svg_chart chart =
        report_chart(out, "cost of the exit, in layers", agreement ? "share of tokens" : "nats per token");
    char summary[160];
    chart.y.log = !agreement;
    chart.y.percent = agreement;
    chart.room = 30;
    report_stretch(&chart.x, full_cost(report));
    if (agreement)
        report_stretch(&chart.y, 1);
    for (int i = 0; i < board->exits; i++) {
        const struct leaderboard_row *row = &board->row[i];
        if (!row->finished)
            continue;
        report_stretch(&chart.x, cost_of(board, i));
        report_stretch(&chart.y, agreement ? row->held_out.agreement : row->held_out.kl);
    }
    snprintf(summary, sizeof summary, "%d of the heads are on the front; the table below has their numbers.",
             front_size(board));
    report_chart_begin(&chart, agreement ? "Agreement against cost" : "KL against cost", summary);
    svg_rule(&chart, SVG_DOWN, full_cost(report), "full model");
    draw_front(report, &chart, agreement);
    draw_heads(board, &chart, agreement);
    report_chart_end(&chart);
}

static void write_table(const struct report *report, struct string *out)
{
    const struct leaderboard *board = report->board;
    struct report_table table = {
        .out = out,
        .caption = "Heads on the front",
        .head =
            "<th class=\"text\">trial</th><th class=\"minor\">layers run</th><th class=\"minor\">head</th>"
            "<th class=\"minor\">output</th><th>cost, layers</th><th class=\"minor\">of the full model's</th>"
            "<th>KL</th><th>agreement</th>",
        .count = front_size(board)};
    report_table_begin(&table);
    for (int i = -1; (i = next_on_front(board, i < 0 ? -1 : cost_of(board, i))) >= 0;) {
        const struct leaderboard_row *row = &board->row[i];
        report_table_row(&table, NULL);
        string_print(out, "<th scope=\"row\">");
        html_escape(out, row->config->id);
        string_print(out,
                     "</th><td class=\"minor\">%.2f</td><td class=\"minor\">%.2f</td><td "
                     "class=\"minor\">%.2f</td><td>%.2f</td><td class=\"minor\">%.1f %%</td>"
                     "<td>%.4f</td><td>%.1f %%</td></tr>\n",
                     row->exit.depth, row->exit.head, board->output, cost_of(board, i),
                     100 * cost_of(board, i) / full_cost(report), row->held_out.kl,
                     100 * row->held_out.agreement);
    }
    report_table_end(&table);
}

void report_front(const struct report *report, struct string *out)
{
    string_print(out,
                 "<p>The cost is that of a token which leaves there: the layers down to the tap, the head, and "
                 "its product "
                 "with the output weight. A head on the black line (the Pareto front) is the closest to the "
                 "full model for "
                 "its cost; grey ones are beaten in both by another. The full model costs %.2f layers.</p>\n"
                 "<div class=\"charts\">\n",
                 full_cost(report));
    write_chart(report, out, false);
    write_chart(report, out, true);
    string_print(out, "</div>\n");
    report_kind_legend(report->board, out);
    write_table(report, out);
}
