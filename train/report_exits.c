/* What the policy's exits would do at each threshold. */
#include <math.h>
#include <stdio.h>

#include "train/policy_table.h"
#include "train/report.h"
#include "train/report_page.h"

static double leaving(const struct policy *policy, const struct policy_row *row)
{
    double sum = 0;
    for (int e = 0; e < policy_columns(policy); e++)
        sum += row->exit_rate[e];
    return sum;
}

/* ---- lines over the table's rows ---- */

struct series {
    const char *name, *colour, *dash; /* name: of its marks' hints, and at its end */
    enum svg_shape shape;
    struct svg_point point[64];
    int count;
};

static void series_add(struct series *series, double x, double y)
{
    if (series->count < (int)(sizeof series->point / sizeof *series->point))
        series->point[series->count++] = (struct svg_point){x, y};
}

static void draw_series(const struct series *series, struct svg_chart *chart)
{
    svg_line(chart, series->point, (size_t)series->count, series->colour, series->dash);
    for (int i = 0; i < series->count; i++) {
        char hint[96];
        if (chart->y.percent)
            snprintf(hint, sizeof hint, "%s, at %g: %.1f %%", series->name, series->point[i].x,
                     100 * series->point[i].y);
        else
            snprintf(hint, sizeof hint, "%s, at %g: %.2f", series->name, series->point[i].x,
                     series->point[i].y);
        svg_mark(chart, series->point[i], series->shape, series->colour, hint);
    }
}

/* ---- charts ---- */

static void write_rates(const struct policy *policy, struct string *out)
{
    struct series rate = {.name = "leave early", .colour = report_colour(0), .shape = SVG_CIRCLE};
    struct series agree = {
        .name = "of those, agree", .colour = report_colour(1), .dash = "6 3", .shape = SVG_DIAMOND};
    struct svg_chart chart = report_chart(out, "confidence threshold", "share of tokens");
    char summary[160];
    chart.x = (struct svg_axis){.label = chart.x.label, .least = policy->row[0].threshold, .most = 1};
    chart.y = (struct svg_axis){.label = chart.y.label, .least = 0, .most = 1, .percent = true};
    for (int i = 0; i < policy->rows; i++) {
        series_add(&rate, policy->row[i].threshold, leaving(policy, &policy->row[i]));
        series_add(&agree, policy->row[i].threshold, policy->row[i].agreement);
    }
    snprintf(summary, sizeof summary,
             "From threshold %g to %g the share that leaves goes from %.0f to %.0f percent.",
             policy->row[0].threshold, policy->row[policy->rows - 1].threshold, 100 * rate.point[0].y,
             100 * rate.point[rate.count - 1].y);
    report_chart_begin(&chart, "Who leaves, and who is right", summary);
    draw_series(&rate, &chart);
    draw_series(&agree, &chart);
    report_chart_end(&chart);
}

/* Nothing where no token leaves at any threshold: then there is no agreement. */
static void write_depths(const struct policy *policy, struct string *out)
{
    bool left = false;
    struct series series = {.name = "agree", .colour = report_colour(2), .shape = SVG_SQUARE};
    struct svg_chart chart = report_chart(out, "mean layers run", "agreement of tokens that left");
    double noted = NAN; /* depth of the last threshold that is written out */
    chart.y = (struct svg_axis){.label = chart.y.label, .least = 1, .most = 1, .percent = true};
    chart.room = 30;
    report_stretch(&chart.x, policy->layers);
    for (int i = 0; i < policy->rows; i++) {
        series_add(&series, policy->row[i].depth, policy->row[i].agreement);
        report_stretch(&chart.x, policy->row[i].depth);
        report_stretch(&chart.y, policy->row[i].agreement);
        left = left || isfinite(policy->row[i].agreement);
    }
    if (!left)
        return;
    report_chart_begin(&chart, "Depth against agreement, by threshold", "The table below has the numbers.");
    svg_rule(&chart, SVG_DOWN, policy->layers, "full model");
    draw_series(&series, &chart);
    for (int i = 0; i < policy->rows; i++) {
        char note[16];
        if (fabs(policy->row[i].depth - noted) < 0.12 * (chart.x.most - chart.x.least))
            continue;
        snprintf(note, sizeof note, "%g", policy->row[i].threshold);
        svg_note(&chart, series.point[i], note);
        noted = policy->row[i].depth;
    }
    report_chart_end(&chart);
}

static void write_speeds(const struct policy *policy, struct string *out)
{
    struct series series = {.name = "speed", .colour = report_colour(3), .shape = SVG_TRIANGLE};
    struct svg_chart chart = report_chart(out, "confidence threshold", "times the full model's speed");
    chart.x = (struct svg_axis){.label = chart.x.label, .least = policy->row[0].threshold, .most = 1};
    chart.y = (struct svg_axis){.label = chart.y.label, .least = 0, .most = 1.1};
    for (int i = 0; i < policy->rows; i++) {
        series_add(&series, policy->row[i].threshold, policy->row[i].speedup);
        report_stretch(&chart.y, policy->row[i].speedup);
    }
    report_chart_begin(&chart, "Predicted speed, one token at a time", "The table below has the numbers.");
    svg_rule(&chart, SVG_ACROSS, 1, "full model");
    draw_series(&series, &chart);
    report_chart_end(&chart);
}

/* ---- the table ---- */

static void write_head(const struct policy *policy, struct string *head)
{
    char name[TAP_NAME_SIZE];
    string_print(
        head,
        "<th class=\"text\">threshold</th><th class=\"text minor\">where tokens leave (grey: nowhere)</th>");
    for (int e = 0; e < policy_columns(policy); e++) {
        tap_name(policy_column(policy, e), policy->layers, name);
        string_print(head, "<th><span class=\"swatch\" style=\"background:%s\"></span>%s %s</th>",
                     report_colour(e), policy->exits > 0 ? "exit" : "try", name);
    }
    string_print(head, "<th>of those, agree</th><th>mean layers</th><th>speed</th>");
}

static void write_table(const struct policy *policy, struct string *out)
{
    struct string head = {0};
    char share[32];
    write_head(policy, &head);
    struct report_table table = {.out = out,
                                 .caption = "What the exits do at each threshold",
                                 .head = head.data ? head.data : "",
                                 .count = policy->rows};
    report_table_begin(&table);
    for (int i = 0; i < policy->rows; i++) {
        const struct policy_row *row = &policy->row[i];
        report_table_row(&table, NULL);
        string_print(out,
                     "<th scope=\"row\">%g</th><td class=\"minor\"><div class=\"stack\" aria-hidden=\"true\">",
                     row->threshold);
        for (int e = 0; e < policy_columns(policy); e++)
            string_print(out, "<span style=\"width:%.1f%%;background:%s\"></span>", 100 * row->exit_rate[e],
                         report_colour(e));
        string_print(out, "</div></td>");
        for (int e = 0; e < policy_columns(policy); e++)
            string_print(out, "<td>%.1f %%</td>", 100 * row->exit_rate[e]);
        string_print(out, "<td>%s</td><td>%.2f</td><td>%.2fx</td></tr>\n",
                     report_share(row->agreement, share, sizeof share), row->depth, row->speedup);
    }
    report_table_end(&table);
    out->failed = out->failed || head.failed;
    string_free(&head);
}

void report_exits(const struct report *report, struct string *out)
{
    const struct policy *policy = report->policy;
    char verdict[512];
    policy_verdict(policy, verdict, sizeof verdict);
    string_print(out, "<p>");
    html_escape(out, verdict);
    string_print(out, "</p>\n");
    if (policy->rows == 0)
        return;
    string_print(out, "<div class=\"charts\">\n");
    write_rates(policy, out);
    write_depths(policy, out);
    write_speeds(policy, out);
    string_print(out, "</div>\n<div class=\"legend\"><span>");
    svg_symbol(out, SVG_CIRCLE, report_colour(0));
    string_print(out, "share of the tokens that leave early</span><span>");
    svg_symbol(out, SVG_DIAMOND, report_colour(1));
    string_print(out, "of those, the share that gets the full model's token (broken line)</span></div>\n");
    write_table(policy, out);
    string_print(out,
                 "<p class=\"quiet\">A token leaves at the first exit whose likeliest token has at least the "
                 "threshold's "
                 "probability. Of the taps' best heads the policy has those that are predicted fastest "
                 "together%s. Speeds are "
                 "predicted from parameter counts, and are not measured: decoding one token at a time is bound "
                 "by reading the "
                 "parameters. A head costs as much as %.2f layers, its product with the vocabulary as much as "
                 "%.2f. Checks "
                 "that did not let a token leave are counted.</p>\n",
                 policy->exits > 0 ? "" : "; none are, so these numbers are of those that came nearest",
                 policy->cost_head, policy->cost_output);
}
