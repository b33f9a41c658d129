/* What failed or was stopped, and why; and what came out worse than guessing. */
#include <inttypes.h>
#include <stdio.h>

#include "common/base/svg.h"
#include "train/report.h"
#include "train/report_page.h"

enum { REMARK_SIZE = 512 };

/* What is to be said of a trial; empty: nothing. */
static const char *remark(const struct leaderboard *board, const struct leaderboard_row *row,
                          char text[REMARK_SIZE])
{
    if (row->metrics.failed[0])
        return row->metrics.failed;
    if (row->finished)
        return leaderboard_remark(board, row, text, REMARK_SIZE);
    if (row->metrics.stopped[0])
        return row->metrics.stopped;
    return "it has not come to its last step";
}

static int count_remarks(const struct leaderboard *board)
{
    char text[REMARK_SIZE];
    int count = 0;
    for (int i = 0; i < board->count; i++)
        count += *remark(board, &board->row[i], text) != 0;
    return count;
}

bool report_failures_apply(const struct report *report)
{
    return count_remarks(report->board) > 0;
}

/* Failures before the rest. */
static void write_rows(const struct report *report, bool failed, struct report_table *table)
{
    for (int i = 0; i < report->board->count; i++) {
        const struct leaderboard_row *row = &report->board->row[i];
        char text[REMARK_SIZE];
        const char *reason = remark(report->board, row, text);
        if (!*reason || failed != (row->metrics.failed[0] != 0))
            continue;
        report_table_row(table, NULL);
        string_print(table->out, "<th scope=\"row\">");
        html_escape(table->out, row->config->id);
        string_print(table->out, "</th><td class=\"text\">%s</td><td>%" PRId64 "</td><td class=\"name\">",
                     row->status, row->step);
        html_escape(table->out, reason);
        string_print(table->out, "</td></tr>\n");
    }
}

void report_failures(const struct report *report, struct string *out)
{
    struct report_table table = {
        .out = out,
        .caption = "Trials that did not end well",
        .head = "<th class=\"text\">trial</th><th class=\"text\">what it is</th><th>at step</th>"
                "<th class=\"text\">why</th>",
        .count = count_remarks(report->board)};
    report_table_begin(&table);
    write_rows(report, true, &table);
    write_rows(report, false, &table);
    report_table_end(&table);
}
