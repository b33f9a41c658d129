/* The ranked table. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/svg.h"
#include "train/report.h"
#include "train/report_page.h"

static const char head[] =
    "<th>rank</th><th class=\"text\">trial</th><th class=\"minor\">layer</th><th class=\"text minor\">head</th>"
    "<th class=\"text minor\">starts as</th><th class=\"text minor\">goal</th><th class=\"minor\">rate</th>"
    "<th class=\"minor\">trained values</th><th>loss</th><th>KL</th><th>agreement</th><th>cost, layers</th>"
    "<th class=\"minor\">best step</th>";

static void write_settings(const struct leaderboard_row *row, struct string *out)
{
    const struct trial_config *config = row->config;
    string_print(out, "<td class=\"minor\">%s</td><td class=\"text minor\">", config->tap);
    html_escape(out, head_kind_name(config->spec.kind));
    string_print(
        out,
        "%s</td><td class=\"text minor\">%s</td><td class=\"text minor\">%s</td><td class=\"minor\">%g</td>"
        "<td class=\"minor\">%.3f M</td>",
        config->spec.output == OUTPUT_UNTIED ? ", untied" : "", head_init_name(config->init),
        trial_loss_name(config->loss), config->rate, (double)row->trained / 1e6);
}

static void write_row(const struct leaderboard *board, int index, int light, struct report_table *table)
{
    const struct leaderboard_row *row = &board->row[index];
    struct string *out = table->out;
    report_table_row(table, NULL);
    string_print(out, "<td>%d</td><th scope=\"row\">", row->rank);
    if (light >= 0)
        string_print(out, "<span class=\"swatch\" style=\"background:%s\"></span>", report_colour(light));
    html_escape(out, row->config->id);
    string_print(out, "</th>");
    write_settings(row, out);
    if (row->best)
        string_print(out,
                     "<td>%.4f%s</td><td>%.4f</td><td>%.1f %%</td><td>%.2f</td><td class=\"minor\">%" PRId64
                     "</td></tr>\n",
                     row->held_out.loss, row->finished ? "" : "*", row->held_out.kl,
                     100 * row->held_out.agreement, leaderboard_cost(board, row), row->best->step);
    else
        string_print(out,
                     "<td colspan=\"5\" class=\"text\"><a href=\"#failures\">%s after step %" PRId64
                     "</a></td></tr>\n",
                     row->status, row->step);
}

void report_trials(const struct report *report, struct string *out)
{
    const struct leaderboard *board = report->board;
    const struct report_lights lights = report_lights(board);
    struct report_table table = {.out = out,
                                 .caption = "Trials, ranked by their distance from the full model",
                                 .head = head,
                                 .count = board->exits};
    int64_t sample = 0;
    string_print(out,
                 "<p>Ranked by KL, the distance of a head's probabilities from the full model's. The full "
                 "model's own loss "
                 "is %.4f.</p>\n",
                 board->full_loss);
    report_table_begin(&table);
    for (int i = 0; i < board->exits; i++) {
        write_row(board, i, report_light(&lights, i), &table);
        if (board->row[i].best && !board->row[i].finished)
            sample = board->row[i].sequences;
    }
    report_table_end(&table);
    string_print(out,
                 "<p class=\"quiet\">Loss: on the next token, nats per token. KL: nats per token. Agreement: "
                 "how often the "
                 "likeliest tokens of head and full model are the same. All are measured on held-out text, "
                 "with the head of "
                 "the step that had the lowest KL. Cost: of a token that leaves there, in layers; the full "
                 "model's is %.2f.",
                 report->model->layers + board->output);
    if (sample > 0)
        string_print(out,
                     " Rows with * have not ended: they are measured on %" PRId64 " of the %" PRId64
                     " held-out sequences.",
                     sample, board->split);
    string_print(out, "</p>\n");
}
