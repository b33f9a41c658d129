/* Losses by step. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "train/report.h"
#include "train/report_page.h"

/* Points of a loss curve: more are averaged in groups. */
#define CURVE_POINTS 240

struct curve {
    struct svg_point point[CURVE_POINTS];
    size_t count;
};

/* The training losses in at most CURVE_POINTS groups of neighbouring steps. */
static void take_training(const struct leaderboard_row *row, struct curve *curve)
{
    const struct metrics *metrics = &row->metrics;
    const size_t group = (metrics->count + CURVE_POINTS - 1) / CURVE_POINTS;
    curve->count = 0;
    for (size_t first = 0; first < metrics->count; first += group) {
        double steps = 0, loss = 0;
        int members = 0;
        for (size_t i = first; i < first + group && i < metrics->count; i++) {
            if (!metrics->point[i].trained)
                continue;
            steps += (double)metrics->point[i].step;
            loss += metrics->point[i].training.loss;
            members++;
        }
        if (members > 0)
            curve->point[curve->count++] = (struct svg_point){steps / members, loss / members};
    }
}

/* The held-out losses, evenly thinned where there are too many; the last one stays. A draft has none: its loss is not
 * that of the next token. */
static void take_held_out(const struct leaderboard_row *row, struct curve *curve)
{
    const struct metrics *metrics = &row->metrics;
    size_t evaluations = 0, seen = 0;
    curve->count = 0;
    if (row->draft)
        return;
    for (size_t i = 0; i < metrics->count; i++)
        evaluations += metrics->point[i].evaluated;
    const size_t every = (evaluations + CURVE_POINTS - 1) / CURVE_POINTS;
    for (size_t i = 0; i < metrics->count; i++) {
        const struct metrics_point *point = &metrics->point[i];
        if (point->evaluated && (++seen == evaluations || (evaluations - seen) % every == 0))
            curve->point[curve->count++] = (struct svg_point){(double)point->step, point->held_out.loss};
    }
}

/* Of exits and drafts. */
static const char *rank_mark(const struct leaderboard_row *row)
{
    return row->draft ? "d" : "#";
}

typedef void take_curve(const struct leaderboard_row *row, struct curve *curve);

static void stretch_chart(const struct leaderboard *board, take_curve *take, struct svg_chart *chart)
{
    struct curve curve;
    chart->x =
        (struct svg_axis){.label = chart->x.label, .least = 0, .most = (double)board->steps, .exact = true};
    chart->y.log = true;
    chart->room = 34;
    for (int i = 0; i < board->count; i++) {
        take(&board->row[i], &curve);
        for (size_t p = 0; p < curve.count; p++)
            report_stretch(&chart->y, curve.point[p].y);
    }
}

/* Those without a colour first, below the others; their ranks at the ends of the others. */
static void draw_curves(const struct leaderboard *board, take_curve *take, bool marks, struct svg_chart *chart)
{
    const struct report_lights lights = report_lights(board);
    struct svg_line_end ends[REPORT_COLOURS];
    struct curve curve;
    for (int i = board->count - 1; i >= 0; i--) {
        if (report_light(&lights, i) >= 0)
            continue;
        take(&board->row[i], &curve);
        svg_line(chart, curve.point, curve.count, report_colour(-1), NULL);
    }
    for (int l = lights.count - 1; l >= 0; l--) {
        const struct leaderboard_row *row = &board->row[lights.row[l]];
        take(row, &curve);
        svg_line(chart, curve.point, curve.count, report_colour(l),
                 !marks && row->config->loss == LOSS_CROSS_ENTROPY ? "6 3" : NULL);
        ends[l] = (struct svg_line_end){.y = NAN, .colour = report_colour(l)};
        snprintf(ends[l].name, sizeof ends[l].name, "%s%d", rank_mark(row), row->rank);
        if (curve.count > 0)
            ends[l].y = curve.point[curve.count - 1].y;
    }
    svg_ends(chart, ends, (size_t)lights.count);
}

/* A cross where a trial was stopped, or has failed. */
static void mark_ends(const struct leaderboard *board, struct svg_chart *chart)
{
    const struct report_lights lights = report_lights(board);
    struct curve curve;
    for (int i = 0; i < board->count; i++) {
        const struct leaderboard_row *row = &board->row[i];
        char hint[TRIAL_ID_SIZE + 64];
        take_held_out(row, &curve);
        if (row->finished || curve.count == 0)
            continue;
        snprintf(hint, sizeof hint, "%s: %s after step %" PRId64, row->config->id, row->status, row->step);
        svg_mark(chart, curve.point[curve.count - 1], SVG_CROSS, report_colour(report_light(&lights, i)), hint);
    }
}

static void mark_evaluations(const struct leaderboard *board, struct svg_chart *chart)
{
    const struct report_lights lights = report_lights(board);
    struct curve curve;
    for (int l = 0; l < lights.count; l++) {
        const struct leaderboard_row *row = &board->row[lights.row[l]];
        take_held_out(row, &curve);
        for (size_t p = 0; p < curve.count && curve.count <= 24; p++) {
            char hint[TRIAL_ID_SIZE + 64];
            snprintf(hint, sizeof hint, "%s, step %.0f: %.4f", row->config->id, curve.point[p].x,
                     curve.point[p].y);
            svg_mark(chart, curve.point[p], SVG_CIRCLE, report_colour(l), hint);
        }
    }
}

/* ---- words ---- */

/* Sequences that the points of the curves were measured on; 0: all of the split. */
static int64_t curve_sample(const struct leaderboard *board)
{
    for (int i = 0; i < board->count; i++) {
        const struct metrics_point *last = metrics_last_evaluation(&board->row[i].metrics);
        if (last && last->sequences > 0 && last->sequences < board->split)
            return last->sequences;
    }
    return 0;
}

static void describe(const struct leaderboard *board, take_curve *take, char *text, size_t size)
{
    struct curve curve;
    snprintf(text, size, "%d lines", board->count);
    if (board->count == 0)
        return;
    take(&board->row[0], &curve);
    if (curve.count > 0)
        snprintf(text, size, "%d lines; that of the first in rank goes from %.3f to %.3f nats per token",
                 board->count, curve.point[0].y, curve.point[curve.count - 1].y);
}

static void write_legend(const struct leaderboard *board, struct string *out)
{
    const struct report_lights lights = report_lights(board);
    string_print(out, "<div class=\"legend\">");
    for (int l = 0; l < lights.count; l++) {
        const struct leaderboard_row *row = &board->row[lights.row[l]];
        string_print(out, "<span><span class=\"number\" style=\"color:%s\">%s%d</span>", report_colour(l),
                     rank_mark(row), row->rank);
        html_escape(out, row->config->id);
        string_print(out, "</span>");
    }
    if (board->count > lights.count)
        string_print(out, "<span><span class=\"swatch\" style=\"background:%s\"></span>%d more</span>",
                     report_colour(-1), board->count - lights.count);
    string_print(out, "</div>\n");
}

/* ---- charts ---- */

bool report_curves_apply(const struct report *report)
{
    return report->board->steps > 0 && report->board->count > 0;
}

static void write_training(const struct leaderboard *board, struct string *out)
{
    char summary[160];
    struct svg_chart chart = report_chart(out, "step", "nats per token");
    stretch_chart(board, take_training, &chart);
    describe(board, take_training, summary, sizeof summary);
    report_chart_begin(&chart, "Training loss", summary);
    draw_curves(board, take_training, false, &chart);
    report_chart_end(&chart);
}

static void write_held_out(const struct leaderboard *board, struct string *out)
{
    char summary[160];
    struct svg_chart chart = report_chart(out, "step", "nats per token");
    stretch_chart(board, take_held_out, &chart);
    report_stretch(&chart.y, board->sample_full_loss);
    describe(board, take_held_out, summary, sizeof summary);
    report_chart_begin(&chart, "Held-out loss on the next token", summary);
    svg_rule(&chart, SVG_ACROSS, board->sample_full_loss, "full model");
    draw_curves(board, take_held_out, true, &chart);
    mark_evaluations(board, &chart);
    mark_ends(board, &chart);
    report_chart_end(&chart);
}

void report_curves(const struct report *report, struct string *out)
{
    const struct leaderboard *board = report->board;
    const int64_t sample = curve_sample(board);
    string_print(out, "<div class=\"charts\">\n");
    write_training(board, out);
    write_held_out(board, out);
    string_print(out, "</div>\n");
    write_legend(board, out);
    string_print(
        out, "<p class=\"quiet\">Numbers at the lines are ranks, of drafts with a d. In colour: the best trial "
             "of each tap, then "
             "the best of "
             "all. A cross: the trial was stopped there, or has failed. Training loss by distillation (whole "
             "lines) is "
             "the cross-entropy with the full model's probabilities, whose least value is their entropy; by "
             "cross-entropy (broken lines) it is that of the next token.");
    if (sample > 0)
        string_print(out, " Held-out loss is of a sample of %" PRId64 " of %" PRId64 " sequences.", sample,
                     board->split);
    string_print(out, "</p>\n");
}
