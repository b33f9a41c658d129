/* Which trials went on at the rungs of successive halving (schedule.h). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/svg.h"
#include "train/report.h"
#include "train/report_page.h"
#include "train/schedule.h"

static struct schedule schedule_of(const struct report *report)
{
    return schedule_create(report->board->steps, (int)run_folder_number(report->run, "halving"), 1);
}

bool report_halving_applies(const struct report *report)
{
    return run_folder_number(report->run, "halving") >= 2 && report->board->steps > 0 &&
           report->board->count > 0 && schedule_of(report).rungs > 0;
}

/* What happened to a tap's trials at a rung. */
struct rung {
    int came, stopped;
    double worst_on, best_stopped; /* KL; NaN: there is none */
};

static double kl_at(const struct metrics *metrics, int64_t step)
{
    for (size_t i = 0; i < metrics->count; i++) {
        if (metrics->point[i].step == step && metrics->point[i].evaluated)
            return metrics->point[i].held_out.kl;
    }
    return NAN;
}

static struct rung look_at(const struct leaderboard *board, const char *tap, int64_t step)
{
    struct rung rung = {.worst_on = NAN, .best_stopped = NAN};
    for (int i = 0; i < board->count; i++) {
        const struct leaderboard_row *row = &board->row[i];
        const double kl = kl_at(&row->metrics, step);
        if (strcmp(row->config->tap, tap) != 0 || isnan(kl))
            continue;
        rung.came++;
        if (row->metrics.stopped[0] && !row->finished && row->step == step) {
            rung.stopped++;
            rung.best_stopped = fmin(rung.best_stopped, kl); /* of a number and NaN, fmin takes the number */
        } else {
            rung.worst_on = fmax(rung.worst_on, kl);
        }
    }
    return rung;
}

static bool is_first_of_tap(const struct leaderboard *board, const struct leaderboard_row *row)
{
    for (const struct leaderboard_row *other = board->row; other < row; other++) {
        if (!strcmp(other->config->tap, row->config->tap))
            return false;
    }
    return true;
}

/* Exits by depth, then drafts. */
static bool comes_before(const struct leaderboard_row *a, const struct leaderboard_row *b)
{
    if (a->draft != b->draft)
        return b->draft;
    return a->exit.depth != b->exit.depth ? a->exit.depth < b->exit.depth : a < b;
}

/* Taps of the board in their order: the first row of the one behind that of `last`; NULL: there is none. */
static const struct leaderboard_row *next_tap(const struct leaderboard *board,
                                              const struct leaderboard_row *last)
{
    const struct leaderboard_row *next = NULL;
    for (int i = 0; i < board->count; i++) {
        const struct leaderboard_row *row = &board->row[i];
        if (is_first_of_tap(board, row) && (!last || comes_before(last, row)) &&
            (!next || comes_before(row, next)))
            next = row;
    }
    return next;
}

static int count_taps(const struct leaderboard *board)
{
    int count = 0;
    for (const struct leaderboard_row *row = NULL; (row = next_tap(board, row));)
        count++;
    return count;
}

static void write_rung(const struct rung *rung, struct string *out)
{
    string_print(out, "<td class=\"text\"><b>%d of %d</b> went on", rung->came - rung->stopped, rung->came);
    if (rung->came > rung->stopped)
        string_print(out, ", KL up to %.4f", rung->worst_on);
    if (rung->stopped > 0)
        string_print(out, "; stopped from %.4f on", rung->best_stopped);
    string_print(out, "</td>");
}

static void write_tap(const struct leaderboard *board, const struct leaderboard_row *tap,
                      const struct schedule *schedule, struct report_table *table)
{
    int trials = 0, ended = 0;
    for (int i = 0; i < board->count; i++) {
        const bool same = !strcmp(board->row[i].config->tap, tap->config->tap);
        trials += same;
        ended += same && board->row[i].finished;
    }
    report_table_row(table, NULL);
    string_print(table->out, "<th scope=\"row\">");
    html_escape(table->out, tap->config->tap);
    string_print(table->out, "</th><td>%d</td>", trials);
    for (int r = 0; r < schedule->rungs; r++) {
        const struct rung rung = look_at(board, tap->config->tap, schedule->rung[r]);
        write_rung(&rung, table->out);
    }
    string_print(table->out, "<td>%d</td></tr>\n", ended);
}

void report_halving(const struct report *report, struct string *out)
{
    const struct schedule schedule = schedule_of(report);
    struct string head = {0};
    string_print(
        out,
        "<p>At each rung the best %d%s of a tap's trials by held-out KL went on, the others stopped.</p>\n",
        100 / schedule.halving, " %");
    string_print(&head, "<th class=\"text\">layer</th><th>trials</th>");
    for (int r = 0; r < schedule.rungs; r++)
        string_print(&head, "<th class=\"text\">after step %" PRId64 "</th>", schedule.rung[r]);
    string_print(&head, "<th>ended</th>");
    struct report_table table = {.out = out,
                                 .caption = "Trials of each tap at each rung",
                                 .head = head.data ? head.data : "",
                                 .count = count_taps(report->board)};
    report_table_begin(&table);
    for (const struct leaderboard_row *tap = NULL; (tap = next_tap(report->board, tap));)
        write_tap(report->board, tap, &schedule, &table);
    report_table_end(&table);
    out->failed = out->failed || head.failed;
    string_free(&head);
}
