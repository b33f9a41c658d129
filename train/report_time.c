/* Where the time went: of the run, and of each trial. */
#include <math.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/svg.h"
#include "train/cost_table.h"
#include "train/report.h"
#include "train/report_page.h"

bool report_time_applies(const struct report *report)
{
    return cost_row_of_all(report->board).seconds > 0;
}

/* ---- the run ---- */

struct part {
    const char *name, *colour;
    double seconds;
};

static void write_parts(const struct part *parts, int count, double all, struct string *out)
{
    char time[32];
    string_print(out, "<div class=\"stack long\" aria-hidden=\"true\">");
    for (int i = 0; i < count; i++)
        string_print(out, "<span style=\"width:%.2f%%;background:%s\"></span>", 100 * parts[i].seconds / all,
                     parts[i].colour);
    string_print(out, "</div>\n<div class=\"legend\">");
    for (int i = 0; i < count; i++)
        string_print(out, "<span><span class=\"swatch\" style=\"background:%s\"></span>%s: %s, %.1f %%</span>",
                     parts[i].colour, parts[i].name, format_duration(parts[i].seconds, time, sizeof time),
                     100 * parts[i].seconds / all);
    string_print(out, "</div>\n");
}

static void write_run(const struct report *report, struct string *out)
{
    const struct cost_row all = cost_row_of_all(report->board);
    const double stalled = fmin(all.cost.stalled, all.cost.shared), rest = cost_of_none(report->run, &all);
    const struct part parts[] = {{"work for one trial", report_colour(0), all.cost.own},
                                 {"work shared by several", report_colour(5), all.cost.shared - stalled},
                                 {"waiting for the store", report_colour(1), stalled},
                                 {"for no trial (opening, gates, policy, report)", report_colour(-1), rest}};
    write_parts(parts, (int)(sizeof parts / sizeof *parts), all.seconds + rest, out);
}

static void write_device(const struct run_folder *run, struct string *out)
{
    const double compute = run_folder_number(run, "device_compute_seconds");
    if (compute > 0)
        string_print(
            out, "<p>The device computed for %.1f s, received data for %.1f s and sent data for %.1f s.</p>\n",
            compute, run_folder_number(run, "device_in_seconds"), run_folder_number(run, "device_out_seconds"));
}

/* ---- each trial ---- */

static void write_row(const char *name, const struct cost_row *row, double longest, const char *class,
                      struct report_table *table)
{
    char seconds[32], own[32], shared[32], stalled[32];
    report_table_row(table, class);
    string_print(table->out, "<th scope=\"row\">");
    html_escape(table->out, name);
    string_print(table->out,
                 "</th><td class=\"minor\"><div class=\"stack\" aria-hidden=\"true\"><span "
                 "style=\"width:%.1f%%;background:%s\"></span></div></td>",
                 longest > 0 ? 100 * row->seconds / longest : 0, report_colour(0));
    string_print(
        table->out,
        "<td>%s</td><td>%s</td><td>%s</td><td class=\"minor\">%.1f %%</td><td>%s</td><td>%.0f</td></tr>\n",
        format_duration(row->seconds, seconds, sizeof seconds), format_duration(row->cost.own, own, sizeof own),
        format_duration(row->cost.shared, shared, sizeof shared), 100 * row->part,
        format_duration(row->cost.stalled, stalled, sizeof stalled), row->tokens_per_second);
}

void report_time(const struct report *report, struct string *out)
{
    const struct leaderboard *board = report->board;
    const struct cost_row all = cost_row_of_all(board);
    struct report_table table = {
        .out = out,
        .caption = "What each trial took",
        .head =
            "<th class=\"text\">trial</th><th class=\"minor\"></th><th>time</th><th>its own</th><th>shared</th>"
            "<th class=\"minor\">of all shared</th><th>waiting</th><th>tokens/s</th>",
        .count = board->count + 1};
    double longest = 0;
    write_run(report, out);
    write_device(report->run, out);
    string_print(out, "<h3>What each trial took</h3>\n");
    for (int i = 0; i < board->count; i++)
        longest = fmax(longest, cost_row(board, &board->row[i]).seconds);
    report_table_begin(&table);
    write_row("all trials", &all, 0, "full", &table);
    for (int i = 0; i < board->count; i++) {
        const struct cost_row row = cost_row(board, &board->row[i]);
        write_row(board->row[i].config->id, &row, longest, NULL, &table);
    }
    report_table_end(&table);
    string_print(
        out,
        "<p class=\"quiet\">Shared: the trial's equal part of what was done for several at once, which is "
        "reading, "
        "decoding, first values, products with the same output weight, and evaluations. Waiting: the part of "
        "that in which the store was waited for.</p>\n");
}
