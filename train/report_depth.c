/* Loss and agreement by depth and by kind. */
#include <stdio.h>
#include <string.h>

#include "train/report.h"
#include "train/report_page.h"

typedef double row_value(const struct leaderboard_row *row);

static double loss_of(const struct leaderboard_row *row)
{
    return row->held_out.loss;
}

static double agreement_of(const struct leaderboard_row *row)
{
    return row->held_out.agreement;
}

static const char *kind_of(const struct leaderboard_row *row)
{
    return head_kind_name(row->config->spec.kind);
}

/* Whether the row is the first in rank of its kind and tap. */
static bool is_best(const struct leaderboard *board, int index)
{
    const struct leaderboard_row *row = &board->row[index];
    for (int i = 0; i < index; i++) {
        if (board->row[i].finished && !strcmp(kind_of(&board->row[i]), kind_of(row)) &&
            !strcmp(board->row[i].config->tap, row->config->tap))
            return false;
    }
    return row->finished;
}

/* The next deeper one of the best rows of a kind; NULL: there is none. */
static const struct leaderboard_row *next_best(const struct leaderboard *board, const char *kind, double depth)
{
    const struct leaderboard_row *next = NULL;
    for (int i = 0; i < board->exits; i++) {
        const struct leaderboard_row *row = &board->row[i];
        if (is_best(board, i) && !strcmp(kind_of(row), kind) && row->exit.depth > depth &&
            (!next || row->exit.depth < next->exit.depth))
            next = row;
    }
    return next;
}

/* A line from tap to tap through the best heads of a kind. Drawn once: from the kind's first row in rank. */
static void draw_line(const struct leaderboard *board, int index, row_value *value, struct svg_chart *chart)
{
    const char *kind = kind_of(&board->row[index]);
    const struct leaderboard_row *from, *to;
    for (int i = 0; i < index; i++) {
        if (board->row[i].finished && !strcmp(kind_of(&board->row[i]), kind))
            return;
    }
    for (from = next_best(board, kind, -1); from && (to = next_best(board, kind, from->exit.depth));
         from = to) {
        const struct svg_point pair[] = {{from->exit.depth, value(from)}, {to->exit.depth, value(to)}};
        svg_line(chart, pair, 2, report_kind_look(kind).colour, NULL);
    }
}

static void draw_marks(const struct leaderboard *board, row_value *value, const char *format,
                       struct svg_chart *chart)
{
    for (int i = board->exits - 1; i >= 0; i--) {
        const struct leaderboard_row *row = &board->row[i];
        const struct report_look look = report_kind_look(kind_of(row));
        char number[32], hint[TRIAL_ID_SIZE + 64];
        if (!row->finished)
            continue;
        if (chart->y.percent)
            report_share(value(row), number, sizeof number);
        else
            snprintf(number, sizeof number, "%.4f", value(row));
        snprintf(hint, sizeof hint, format, row->config->id, number);
        svg_mark(chart, (struct svg_point){row->exit.depth, value(row)}, look.shape, look.colour, hint);
    }
}

static void write_chart(const struct report *report, struct string *out, bool agreement)
{
    const struct leaderboard *board = report->board;
    row_value *const value = agreement ? agreement_of : loss_of;
    char summary[160] = "No head has ended.";
    struct svg_chart chart = report_chart(out, "layers run", agreement ? "share of tokens" : "nats per token");
    chart.x =
        (struct svg_axis){.label = chart.x.label, .least = 0, .most = report->model->layers, .exact = true};
    chart.y.log = !agreement;
    if (agreement)
        chart.y = (struct svg_axis){.label = chart.y.label, .least = 0, .most = 1, .percent = true};
    else
        report_stretch(&chart.y, board->full_loss);
    for (int i = 0; i < board->exits && !agreement; i++) {
        if (board->row[i].finished)
            report_stretch(&chart.y, loss_of(&board->row[i]));
    }
    if (board->exits > 0 && board->row[0].finished)
        snprintf(summary, sizeof summary, "The best is the %s head at %s with %.3f.", kind_of(&board->row[0]),
                 board->row[0].config->tap, value(&board->row[0]));
    report_chart_begin(&chart, agreement ? "Agreement with the full model" : "Held-out loss", summary);
    if (!agreement)
        svg_rule(&chart, SVG_ACROSS, board->full_loss, "full model");
    for (int i = 0; i < board->exits; i++) {
        if (board->row[i].finished)
            draw_line(board, i, value, &chart);
    }
    draw_marks(board, value, "%s: %s", &chart);
    report_chart_end(&chart);
}

void report_depth(const struct report *report, struct string *out)
{
    string_print(out, "<p>Each mark is a trained head. Lines join the best of a kind from tap to tap.</p>\n"
                      "<div class=\"charts\">\n");
    write_chart(report, out, false);
    write_chart(report, out, true);
    string_print(out, "</div>\n");
    report_kind_legend(report->board, out);
}
