/* How far drafts are right, by step. */
#include <math.h>
#include <stdio.h>

#include "train/report.h"
#include "train/report_page.h"

bool report_drafts_apply(const struct report *report)
{
    return report->board->exits < report->board->count;
}

static const struct leaderboard_row *draft_at(const struct leaderboard *board, int index)
{
    return &board->row[board->exits + index];
}

static int draft_count(const struct leaderboard *board)
{
    return board->count - board->exits;
}

/* Drafts that are drawn: the best ones. */
static int drawn_count(const struct leaderboard *board)
{
    return draft_count(board) < REPORT_COLOURS ? draft_count(board) : REPORT_COLOURS;
}

/* ---- what a chain brings ---- */

/* Tokens that a pass of the full model brings, where `steps` tokens are drafted before each: its own one, and those that
 * it accepts. */
static double tokens_of_pass(const struct draft_hits *draft, int steps)
{
    double tokens = 1;
    for (int k = 0; k < steps; k++)
        tokens += draft->accepted[k];
    return tokens;
}

/* Over decoding with the full model alone. A pass over a few tokens reads the same weights as one over a single token. */
static double speed_of_chain(const struct report *report, const struct leaderboard_row *row, int steps)
{
    const double pass = report->model->layers + report->board->output;
    return tokens_of_pass(&row->held_out.draft, steps) * pass /
           (pass + steps * leaderboard_cost(report->board, row));
}

static int best_steps(const struct report *report, const struct leaderboard_row *row)
{
    int best = 0;
    for (int steps = 1; steps <= row->held_out.draft.steps; steps++) {
        if (speed_of_chain(report, row, steps) > speed_of_chain(report, row, best))
            best = steps;
    }
    return best;
}

/* ---- charts ---- */

static int most_steps(const struct leaderboard *board)
{
    int most = 1;
    for (int i = 0; i < draft_count(board); i++)
        most =
            draft_at(board, i)->held_out.draft.steps > most ? draft_at(board, i)->held_out.draft.steps : most;
    return most;
}

static void draw_shares(const struct leaderboard_row *row, int index, bool accepted, struct svg_chart *chart)
{
    const struct draft_hits *draft = &row->held_out.draft;
    struct svg_point point[DRAFT_STEPS_MOST];
    for (int k = 0; k < draft->steps; k++)
        point[k] = (struct svg_point){k + 1, accepted ? draft->accepted[k] : draft->hit[k]};
    svg_line(chart, point, (size_t)draft->steps, report_colour(index), accepted ? "6 3" : NULL);
    for (int k = 0; k < draft->steps; k++) {
        char hint[TRIAL_ID_SIZE + 64];
        snprintf(hint, sizeof hint, "%s, step %d: %.1f %% %s", row->config->id, k + 1, 100 * point[k].y,
                 accepted ? "accepted" : "right");
        svg_mark(chart, point[k], accepted ? SVG_DIAMOND : SVG_CIRCLE, report_colour(index), hint);
    }
}

static void write_shares(const struct leaderboard *board, struct string *out)
{
    struct svg_chart chart = report_chart(out, "step of the draft", "share of tokens");
    struct svg_line_end ends[REPORT_COLOURS];
    chart.x = (struct svg_axis){
        .label = chart.x.label, .least = 0.7, .most = most_steps(board) + 0.3, .exact = true, .whole = true};
    chart.y = (struct svg_axis){.label = chart.y.label, .least = 0, .most = 0.5, .percent = true};
    chart.room = 34;
    for (int i = 0; i < drawn_count(board); i++) {
        const struct draft_hits *draft = &draft_at(board, i)->held_out.draft;
        for (int k = 0; k < draft->steps; k++)
            report_stretch(&chart.y, draft->hit[k]);
        ends[i] = (struct svg_line_end){.y = draft->steps ? draft->hit[draft->steps - 1] : NAN,
                                        .colour = report_colour(i)};
        snprintf(ends[i].name, sizeof ends[i].name, "d%d", draft_at(board, i)->rank);
    }
    report_chart_begin(&chart, "Right, and accepted, by step", "The table below has the numbers.");
    for (int i = drawn_count(board) - 1; i >= 0; i--) {
        draw_shares(draft_at(board, i), i, true, &chart);
        draw_shares(draft_at(board, i), i, false, &chart);
    }
    svg_ends(&chart, ends, (size_t)drawn_count(board));
    report_chart_end(&chart);
}

static void write_speeds(const struct report *report, struct string *out)
{
    const struct leaderboard *board = report->board;
    struct svg_chart chart = report_chart(out, "tokens drafted for a pass", "times the full model's speed");
    chart.x = (struct svg_axis){
        .label = chart.x.label, .least = -0.2, .most = most_steps(board) + 0.3, .exact = true, .whole = true};
    chart.y = (struct svg_axis){.label = chart.y.label, .least = 0.8, .most = 1.2};
    for (int i = 0; i < drawn_count(board); i++) {
        for (int k = 0; k <= draft_at(board, i)->held_out.draft.steps; k++)
            report_stretch(&chart.y, speed_of_chain(report, draft_at(board, i), k));
    }
    report_chart_begin(&chart, "Predicted speed of drafting", "The table below has the numbers.");
    svg_rule(&chart, SVG_ACROSS, 1, "full model");
    for (int i = drawn_count(board) - 1; i >= 0; i--) {
        const struct leaderboard_row *row = draft_at(board, i);
        struct svg_point point[DRAFT_STEPS_MOST + 1];
        for (int k = 0; k <= row->held_out.draft.steps; k++)
            point[k] = (struct svg_point){k, speed_of_chain(report, row, k)};
        svg_line(&chart, point, (size_t)row->held_out.draft.steps + 1, report_colour(i), NULL);
        for (int k = 1; k <= row->held_out.draft.steps; k++) {
            char hint[TRIAL_ID_SIZE + 64];
            snprintf(hint, sizeof hint, "%s, %d drafted: %.2f times", row->config->id, k, point[k].y);
            svg_mark(&chart, point[k], SVG_SQUARE, report_colour(i), hint);
        }
    }
    report_chart_end(&chart);
}

/* ---- the table ---- */

static void write_share_list(const double *share, int count, struct string *out)
{
    string_print(out, "<td>");
    for (int k = 0; k < count; k++)
        string_print(out, "%s%.1f", k ? " / " : "", 100 * share[k]);
    string_print(out, "%s</td>", count ? " %" : "-");
}

static void write_row(const struct report *report, const struct leaderboard_row *row, int index,
                      struct string *out)
{
    const struct draft_hits *draft = &row->held_out.draft;
    const int best = best_steps(report, row);
    string_print(out, "<td>d%d</td><th scope=\"row\"><span class=\"swatch\" style=\"background:%s\"></span>",
                 row->rank, report_colour(index));
    html_escape(out, row->config->id);
    string_print(out, "</th>");
    if (!row->best) {
        string_print(out, "<td colspan=\"6\" class=\"text\"><a href=\"#failures\">%s</a></td></tr>\n",
                     row->status);
        return;
    }
    string_print(out, "<td>%.4f%s</td>", row->held_out.loss, row->finished ? "" : "*");
    write_share_list(draft->hit, draft->steps, out);
    write_share_list(draft->accepted, draft->steps, out);
    string_print(out, "<td>%.2f</td><td>%d: %.2f</td><td>%.2fx</td></tr>\n",
                 leaderboard_cost(report->board, row), best, tokens_of_pass(draft, best),
                 speed_of_chain(report, row, best));
}

void report_drafts_in_short(const struct report *report, struct string *out)
{
    if (!report_drafts_apply(report) || draft_at(report->board, 0)->held_out.draft.steps == 0)
        return;
    const struct leaderboard_row *row = draft_at(report->board, 0);
    const int steps = best_steps(report, row);
    string_print(out,
                 "<p>The best <a href=\"#drafts\">draft</a> says the full model's next word in %.1f %% of the "
                 "held-out tokens",
                 100 * row->held_out.draft.hit[0]);
    if (steps == 0)
        string_print(out, ", and is predicted to bring no speed: a step costs %.1f layers.</p>\n",
                     leaderboard_cost(report->board, row));
    else
        string_print(out,
                     ". With %d drafted before each pass of the full model, text is predicted to come %.2f "
                     "times as fast, "
                     "and stays the full model's own.</p>\n",
                     steps, speed_of_chain(report, row, steps));
}

void report_drafts(const struct report *report, struct string *out)
{
    const struct leaderboard *board = report->board;
    struct report_table table = {
        .out = out,
        .caption = "Drafts",
        .head = "<th>rank</th><th class=\"text\">draft</th><th>loss</th><th>right, by step</th>"
                "<th>accepted, by step</th><th>cost of a step, layers</th>"
                "<th>best to draft: tokens a pass</th><th>speed</th>",
        .count = draft_count(board)};
    string_print(out, "<p>A draft says what the full model will say next. The full model then checks several "
                      "of its tokens in "
                      "one pass, and accepts them up to the first that is wrong, so the text is its own.</p>\n"
                      "<div class=\"charts\">\n");
    write_shares(board, out);
    write_speeds(report, out);
    string_print(out, "</div>\n<div class=\"legend\"><span>");
    svg_symbol(out, SVG_CIRCLE, report_colour(0));
    string_print(out, "right: the full model's likeliest token (whole lines)</span><span>");
    svg_symbol(out, SVG_DIAMOND, report_colour(0));
    string_print(out, "accepted: and so are all steps before it (broken lines)</span></div>\n");
    report_table_begin(&table);
    for (int i = 0; i < draft_count(board); i++) {
        report_table_row(&table, NULL);
        write_row(report, draft_at(board, i), i, out);
    }
    report_table_end(&table);
    string_print(out, "<p class=\"quiet\">Speeds are predicted from parameter counts for decoding one text: a "
                      "pass over a few tokens "
                      "reads the same weights as one over a single token. On held-out text, which is not the "
                      "model's own: on its "
                      "own text drafts are right more often.</p>\n");
}
