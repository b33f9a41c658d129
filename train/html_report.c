#include "train/html_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/base/svg.h"
#include "train/cost_table.h"
#include "train/policy_table.h"

/* Points of a loss curve: more are averaged in groups. */
#define CURVE_POINTS 240
/* Trials whose curves have a colour of their own; the rest are grey. */
#define COLOURS 10
#define GREY    "#c3c8cf"

static const char *const colours[COLOURS] = {"#2f6db3", "#d97b29", "#2f9470", "#c0484f", "#7b5ea7",
                                             "#8c6d52", "#c2618f", "#5f6b7a", "#a8992f", "#2399ad"};

static const char style[] =
    "body{margin:0;background:#f6f7f9;color:#1d2530;font:15px/1.5 system-ui,-apple-system,'Segoe UI',"
    "'DejaVu Sans',sans-serif}\n"
    "main{max-width:1280px;margin:0 auto;padding:28px 24px 48px}\n"
    "h1{font-size:26px;margin:0 0 2px}h2{font-size:18px;margin:34px 0 10px}\n"
    "p{margin:6px 0;max-width:110ch}.quiet{color:#5d6876}\n"
    ".cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(130px,1fr));gap:12px;margin:18px 0}\n"
    ".card{background:#fff;border:1px solid #e3e6ea;border-radius:8px;padding:10px 14px}\n"
    ".card b{display:block;font-size:20px;font-weight:600}.card span{color:#5d6876;font-size:13px}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(430px,100%),1fr));gap:16px}\n"
    "figure{margin:0;background:#fff;border:1px solid #e3e6ea;border-radius:8px;padding:12px}\n"
    "figure svg{width:100%;height:auto;display:block}\n"
    ".wide{overflow-x:auto;background:#fff;border:1px solid #e3e6ea;border-radius:8px}\n"
    "table{border-collapse:collapse;width:100%;font-size:14px}\n"
    "th,td{padding:7px 6px;text-align:right;border-bottom:1px solid #edeff2;white-space:nowrap}\n"
    "th{color:#5d6876;font-weight:600;font-size:13px;white-space:normal;vertical-align:bottom}\n"
    "tr:last-child td{border-bottom:0}\n"
    "td.name{text-align:left;white-space:normal;overflow-wrap:anywhere;min-width:90px}\n"
    "th.text,td.text{text-align:left}tr.full td{color:#5d6876;font-style:italic}\n"
    ".swatch{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:8px}\n"
    ".bar{display:block;height:8px;border-radius:2px;background:#2f6db3}\n"
    ".rail{display:inline-block;width:60px;margin-right:8px;background:#edeff2;border-radius:2px}\n"
    ".share{display:inline-block;min-width:58px;white-space:nowrap}\n"
    ".stack{display:flex;width:150px;height:12px;border-radius:3px;overflow:hidden;background:#e3e6ea}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;color:#3b4552;margin:6px 4px 2px}\n"
    ".verdict{background:#fff6e0;border:1px solid #ecd8a0;border-radius:8px;padding:8px 14px;margin:12px 0}\n"
    "footer{margin-top:36px;color:#5d6876;font-size:13px}\n"
    "@media (max-width:1000px){.rail{display:none}}\n"
    "@media (max-width:800px){main{padding:16px 8px 32px}table{font-size:12px}th{font-size:11px}\n"
    "th,td{padding:5px 3px}td.text{white-space:normal}.share{min-width:0}.stack{width:100px}}\n";

/* Behind the charts' own style, of which it changes some. */
static const char dark_style[] =
    "@media (prefers-color-scheme:dark){\n"
    ":root{color-scheme:dark}body{background:#14181d;color:#dde3ea}\n"
    ".card,figure,.wide{background:#1c2229;border-color:#323b45}\n"
    ".quiet,.card span,th,tr.full td,footer,.tick{color:#98a4b1;fill:#98a4b1}\n"
    "th,td{border-color:#2a323b}.rail,.stack{background:#323b45}.legend{color:#b9c3ce}\n"
    ".verdict{background:#3a3115;border-color:#6b5a22}\n"
    ".grid{stroke:#2c353f}.label,.note{fill:#b9c3ce}.title{fill:#dde3ea}\n"
    ".note,.mark{stroke:#1c2229}.rule{stroke:#dde3ea}}\n";

static const char *row_colour(int index)
{
    return index < COLOURS ? colours[index] : GREY;
}

/* ---- facts ---- */

static void card(struct string *out, const char *value, const char *name)
{
    string_print(out, "<div class=\"card\"><b>");
    html_escape(out, value);
    string_print(out, "</b><span>");
    html_escape(out, name);
    string_print(out, "</span></div>\n");
}

static void write_facts(struct string *out, const struct run_folder *run, const struct leaderboard *board)
{
    char text[64];
    const double rows = run_folder_number(run, "rows");
    string_print(out, "<div class=\"cards\">\n");
    snprintf(text, sizeof text, "%d", board->count);
    card(out, text, board->count == 1 ? "trial" : "trials");
    snprintf(text, sizeof text, "%.0f",
             run_folder_number(run, "steps") * run_folder_number(run, "sequences") * rows);
    card(out, text, "training tokens read");
    snprintf(text, sizeof text, "%.0f", run_folder_number(run, "held_out_sequences") * rows);
    card(out, text, "held-out tokens");
    snprintf(text, sizeof text, "%.4f", board->full_loss);
    card(out, text, "full model's held-out loss");
    card(out, format_duration(run_folder_number(run, "seconds"), text, sizeof text), "training time");
    card(out, format_duration(run_folder_number(run, "stall_seconds"), text, sizeof text),
         "waiting for the store");
    card(out, format_bytes(run_folder_number(run, "peak_memory"), text, sizeof text),
         "peak memory, with the mapped store");
    if (run_folder_number(run, "device_memory") > 0)
        card(out, format_bytes(run_folder_number(run, "device_memory"), text, sizeof text),
             "memory of the device");
    string_print(out, "</div>\n");
}

static void write_head(struct string *out, const struct stores *stores)
{
    const json_t *model = json_object_get(shards_manifest(stores->shards), "model");
    const char *name = json_string_value(json_object_get(model, "name"));
    string_print(out,
                 "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                 "<meta name=\"color-scheme\" content=\"light dark\">\n"
                 "<title>offramp: exit heads</title>\n<style>\n%s%s%s</style></head>\n<body><main>\n"
                 "<h1>Exit heads of ",
                 style, svg_style, dark_style);
    html_escape(out, name ? name : "a model");
    string_print(out,
                 "</h1>\n<p class=\"quiet\">%s, %d layers, hidden size %d, vocabulary %d, fingerprint %s</p>\n",
                 stores->config.family, stores->config.layers, stores->config.hidden, stores->config.vocab,
                 stores->fingerprint);
}

/* ---- the ranked table ---- */

static void write_row(struct string *out, const struct leaderboard_row *row, int index)
{
    const struct trial_config *config = row->config;
    string_print(
        out,
        "<tr><td>%d</td><td class=\"name\"><span class=\"swatch\" style=\"background:%s\"></span>%s</td>"
        "<td>%s</td><td class=\"text\">%s%s</td><td class=\"text\">%s</td><td class=\"text\">%s</td><td>%g</td>"
        "<td>%.3f M</td>",
        index + 1, row_colour(index), config->id, config->tap, head_kind_name(config->spec.kind),
        config->spec.output == OUTPUT_UNTIED ? ", untied" : "", head_init_name(config->init),
        trial_loss_name(config->loss), config->rate, (double)row->trained / 1e6);
    if (row->finished) {
        const struct evaluation *result = &row->held_out;
        string_print(
            out,
            "<td>%.4f</td><td>%.4f</td><td class=\"text\"><span class=\"rail\"><span class=\"bar\" "
            "style=\"width:%.0fpx\"></span></span><span class=\"share\">%.1f %%</span></td><td>%" PRId64
            "</td></tr>\n",
            result->loss, result->kl, 60 * result->agreement, 100 * result->agreement, row->best->step);
    } else {
        const char *reason = row->metrics.failed[0] ? row->metrics.failed : row->metrics.stopped;
        string_print(out, "<td colspan=\"4\" class=\"name\">%s after step %" PRId64 "%s", row->status,
                     row->step, *reason ? ": " : "");
        html_escape(out, reason);
        if (row->metrics.stopped[0] && row->best)
            string_print(out, "; KL %.4f on %" PRId64 " sequences", row->held_out.kl, row->sequences);
        string_print(out, "</td></tr>\n");
    }
}

static void write_table(struct string *out, const struct leaderboard *board)
{
    string_print(out,
                 "<h2>Trials, ranked by their distance from the full model</h2>\n<div class=\"wide\"><table>\n"
                 "<tr><th>rank</th><th class=\"text\">trial</th><th>tap</th><th class=\"text\">head</th>"
                 "<th class=\"text\">init</th><th class=\"text\">goal</th><th>rate</th><th>trained</th>"
                 "<th>held-out loss</th><th>KL</th><th class=\"text\">agreement</th><th>of step</th></tr>\n");
    for (int i = 0; i < board->count; i++)
        write_row(out, &board->row[i], i);
    string_print(
        out,
        "<tr class=\"full\"><td></td><td class=\"text\">full model</td><td></td><td></td><td></td><td></td>"
        "<td></td><td></td><td>%.4f</td><td>0</td><td class=\"text\">100 "
        "%%</td><td></td></tr>\n</table></div>\n"
        "<p class=\"quiet\">Loss: on the next token, nats per token. KL: of the head from the full "
        "model, nats per token. Agreement: how often their likeliest tokens are the same. All are "
        "measured on held-out text. The head of the step with the lowest KL is kept; of a trial that is done "
        "it "
        "is measured on all of that text.</p>\n",
        board->full_loss);
    for (int i = 0; i < board->count; i++) {
        char remark[400];
        if (!*leaderboard_remark(board, &board->row[i], remark, sizeof remark))
            continue;
        string_print(out, "<div class=\"verdict\">%s is %s.</div>\n", board->row[i].config->id, remark);
    }
}

/* ---- curves ---- */

static void stretch(struct svg_axis *axis, double value)
{
    if (!isfinite(value) || (axis->log && value <= 0))
        return;
    if (axis->most < axis->least)
        axis->least = axis->most = value;
    axis->least = fmin(axis->least, value);
    axis->most = fmax(axis->most, value);
}

/* An axis that holds nothing yet. */
static struct svg_axis empty_axis(const char *label, bool log)
{
    return (struct svg_axis){.label = label, .least = 1, .most = 0, .log = log};
}

/* The training losses in at most CURVE_POINTS groups of neighbouring steps. */
static size_t loss_curve(const struct metrics *metrics, struct svg_point points[CURVE_POINTS])
{
    const size_t group = (metrics->count + CURVE_POINTS - 1) / CURVE_POINTS;
    size_t count = 0;
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
            points[count++] = (struct svg_point){steps / members, loss / members};
    }
    return count;
}

static void write_training_curves(struct string *out, const struct leaderboard *board)
{
    struct svg_point points[CURVE_POINTS];
    struct svg_chart chart = {.out = out,
                              .width = 560,
                              .height = 330,
                              .x = {.label = "step", .least = 0, .most = (double)board->steps, .exact = true},
                              .y = empty_axis("nats per token", true)};
    for (int i = 0; i < board->count; i++) {
        const size_t count = loss_curve(&board->row[i].metrics, points);
        for (size_t p = 0; p < count; p++)
            stretch(&chart.y, points[p].y);
    }
    string_print(out, "<figure>");
    svg_begin(&chart, "Training loss");
    for (int i = board->count - 1; i >= 0; i--) {
        const size_t count = loss_curve(&board->row[i].metrics, points);
        svg_line(&chart, points, count, row_colour(i),
                 board->row[i].config->loss == LOSS_CROSS_ENTROPY ? "6 3" : NULL);
    }
    svg_end(&chart);
    string_print(out, "</figure>\n");
}

/* Sequences that the points of the curves were measured on; 0: all of the split. */
static int64_t curve_sample(const struct leaderboard *board)
{
    for (int i = 0; i < board->count; i++) {
        const struct metrics *metrics = &board->row[i].metrics;
        const struct metrics_point *last = metrics_last_evaluation(metrics);
        if (last && last->sequences > 0 && last->sequences < board->split)
            return last->sequences;
    }
    return 0;
}

static void write_held_out_curves(struct string *out, const struct leaderboard *board)
{
    char title[96] = "Held-out loss on the next token";
    const int64_t sample = curve_sample(board);
    if (sample > 0)
        snprintf(title, sizeof title, "Held-out loss, on a sample of %" PRId64 " of %" PRId64 " sequences",
                 sample, board->split);
    struct svg_chart chart = {.out = out,
                              .width = 560,
                              .height = 330,
                              .x = {.label = "step", .least = 0, .most = (double)board->steps, .exact = true},
                              .y = empty_axis("nats per token", true)};
    stretch(&chart.y, board->sample_full_loss);
    for (int i = 0; i < board->count; i++) {
        for (size_t p = 0; p < board->row[i].metrics.count; p++) {
            if (board->row[i].metrics.point[p].evaluated)
                stretch(&chart.y, board->row[i].metrics.point[p].held_out.loss);
        }
    }
    string_print(out, "<figure>");
    svg_begin(&chart, title);
    for (int i = board->count - 1; i >= 0; i--) {
        const struct metrics *metrics = &board->row[i].metrics;
        struct svg_point last = {NAN, NAN};
        for (size_t p = 0; p < metrics->count; p++) {
            const struct metrics_point *point = &metrics->point[p];
            if (!point->evaluated)
                continue;
            const struct svg_point pair[] = {last, {(double)point->step, point->held_out.loss}};
            char hint[TRIAL_ID_SIZE + 64];
            snprintf(hint, sizeof hint, "%s, step %" PRId64 ": %.4f", board->row[i].config->id, point->step,
                     point->held_out.loss);
            svg_line(&chart, pair, 2, row_colour(i), NULL);
            svg_mark(&chart, pair[1], SVG_CIRCLE, row_colour(i), hint);
            last = pair[1];
        }
    }
    svg_rule(&chart, SVG_ACROSS, board->sample_full_loss, "full model");
    svg_end(&chart);
    string_print(out, "</figure>\n");
}

static void write_curves(struct string *out, const struct leaderboard *board)
{
    if (board->steps == 0)
        return;
    string_print(out, "<h2>Curves</h2>\n<div class=\"charts\">\n");
    write_training_curves(out, board);
    write_held_out_curves(out, board);
    string_print(out, "</div>\n<div class=\"legend\">");
    for (int i = 0; i < board->count && i < COLOURS; i++)
        string_print(out, "<span><span class=\"swatch\" style=\"background:%s\"></span>%s</span>", colours[i],
                     board->row[i].config->id);
    if (board->count > COLOURS)
        string_print(out, "<span><span class=\"swatch\" style=\"background:" GREY "\"></span>%d more</span>",
                     board->count - COLOURS);
    string_print(out,
                 "</div>\n<p class=\"quiet\">Training loss: distillation (solid) is the cross-entropy with the "
                 "full model's probabilities, whose least value is their entropy; cross-entropy (dashed) is "
                 "with the next token.</p>\n");
}

/* ---- by depth ---- */

static const char *kind_colour(const struct trial_config *config)
{
    const char *name = head_kind_name(config->spec.kind);
    return colours[!strcmp(name, "norm") ? 1 : !strcmp(name, "affine") ? 0 : !strcmp(name, "mlp") ? 2 : 4];
}

static void write_depth_chart(struct string *out, const struct stores *stores, const struct leaderboard *board,
                              bool agreement)
{
    struct svg_chart chart = {
        .out = out,
        .width = 560,
        .height = 330,
        .x = {.label = "layers run", .least = 0, .most = stores->config.layers, .exact = true},
        .y = empty_axis("nats per token", true)};
    if (agreement)
        chart.y = (struct svg_axis){.label = "share of tokens", .least = 0, .most = 1, .percent = true};
    for (int i = 0; i < board->count && !agreement; i++) {
        if (board->row[i].finished)
            stretch(&chart.y, board->row[i].held_out.kl);
    }
    string_print(out, "<figure>");
    svg_begin(&chart, agreement ? "Agreement with the full model" : "KL from the full model");
    svg_rule(&chart, SVG_DOWN, stores->config.layers, "full model");
    for (int i = 0; i < board->count; i++) {
        const struct leaderboard_row *row = &board->row[i];
        const struct trial_config *config = row->config;
        char hint[TRIAL_ID_SIZE + 64];
        if (!row->finished)
            continue;
        const double value = agreement ? row->held_out.agreement : row->held_out.kl;
        snprintf(hint, sizeof hint, agreement ? "%s: %.3f" : "%s: %.4f", config->id, value);
        svg_mark(&chart, (struct svg_point){tap_depth(&stores->config, config->spec.tap), value},
                 config->loss == LOSS_CROSS_ENTROPY ? SVG_DIAMOND : SVG_CIRCLE, kind_colour(config), hint);
    }
    svg_end(&chart);
    string_print(out, "</figure>\n");
}

static void write_depth(struct string *out, const struct stores *stores, const struct leaderboard *board)
{
    string_print(out, "<h2>By depth</h2>\n<div class=\"charts\">\n");
    write_depth_chart(out, stores, board, false);
    write_depth_chart(out, stores, board, true);
    string_print(out, "</div>\n<div class=\"legend\">");
    static const char *const kinds[] = {"norm", "affine", "mlp"};
    static const int kind_colours[] = {1, 0, 2};
    for (int k = 0; k < 3; k++) {
        bool there = false;
        for (int i = 0; i < board->count; i++)
            there = there || !strcmp(head_kind_name(board->row[i].config->spec.kind), kinds[k]);
        if (there)
            string_print(out, "<span><span class=\"swatch\" style=\"background:%s\"></span>%s</span>",
                         colours[kind_colours[k]], kinds[k]);
    }
    string_print(out, "<span>circles: distillation, diamonds: cross-entropy</span></div>\n");
}

/* ---- exits ---- */

static void write_trade_off(struct string *out, const struct policy *policy)
{
    struct svg_chart chart = {
        .out = out,
        .width = 560,
        .height = 330,
        .x = empty_axis("mean layers run", false),
        .y = {.label = "agreement of tokens that left", .least = 1, .most = 1, .percent = true}};
    double noted = 0; /* depth of the last threshold that is written out */
    stretch(&chart.x, policy->layers);
    for (int i = 0; i < policy->rows; i++) {
        stretch(&chart.x, policy->row[i].depth);
        stretch(&chart.y, policy->row[i].agreement);
    }
    string_print(out, "<figure>");
    svg_begin(&chart, "Depth against agreement, by confidence threshold");
    svg_rule(&chart, SVG_DOWN, policy->layers, "full model");
    for (int i = 0; i < policy->rows; i++) {
        const struct policy_row *row = &policy->row[i];
        const struct svg_point point = {row->depth, row->agreement};
        char hint[96];
        if (i > 0) {
            const struct svg_point pair[] = {{row[-1].depth, row[-1].agreement}, point};
            svg_line(&chart, pair, 2, colours[0], NULL);
        }
        snprintf(hint, sizeof hint, "threshold %g: %.2f layers, %.1f %% agree", row->threshold, row->depth,
                 100 * row->agreement);
        svg_mark(&chart, point, SVG_CIRCLE, colours[0], hint);
    }
    for (int i = 0; i < policy->rows; i++) {
        const struct policy_row *row = &policy->row[i];
        char note[16];
        if (i > 0 && fabs(row->depth - noted) < 0.06 * (chart.x.most - chart.x.least))
            continue;
        snprintf(note, sizeof note, "%g", row->threshold);
        svg_note(&chart, (struct svg_point){row->depth, row->agreement}, note);
        noted = row->depth;
    }
    svg_end(&chart);
    string_print(out, "</figure>\n");
}

static void write_speedup(struct string *out, const struct policy *policy)
{
    struct svg_chart chart = {.out = out,
                              .width = 560,
                              .height = 330,
                              .x = {.label = "confidence threshold", .least = 0.2, .most = 1},
                              .y = {.label = "times the full model's speed", .least = 0, .most = 1.1}};
    for (int i = 0; i < policy->rows; i++)
        stretch(&chart.y, policy->row[i].speedup);
    string_print(out, "<figure>");
    svg_begin(&chart, "Predicted speed of decoding one token at a time");
    for (int i = 0; i < policy->rows; i++) {
        const struct policy_row *row = &policy->row[i];
        const struct svg_point point = {row->threshold, row->speedup};
        char hint[64];
        if (i > 0) {
            const struct svg_point pair[] = {{row[-1].threshold, row[-1].speedup}, point};
            svg_line(&chart, pair, 2, colours[3], NULL);
        }
        snprintf(hint, sizeof hint, "threshold %g: %.2fx", row->threshold, row->speedup);
        svg_mark(&chart, point, SVG_CIRCLE, colours[3], hint);
    }
    svg_rule(&chart, SVG_ACROSS, 1, "full model");
    svg_end(&chart);
    string_print(out, "</figure>\n");
}

/* Shares of tokens that leave at each exit, one colour an exit, early ones first. */
static void write_exit_table(struct string *out, const struct policy *policy)
{
    char name[TAP_NAME_SIZE];
    string_print(out, "<div class=\"wide\" style=\"margin-top:16px\"><table>\n<tr><th>threshold</th>"
                      "<th class=\"text\">where tokens leave (grey: nowhere)</th>");
    for (int e = 0; e < policy_columns(policy); e++) {
        tap_name(policy_column(policy, e), policy->layers, name);
        string_print(out, "<th><span class=\"swatch\" style=\"background:%s\"></span>%s %s</th>", row_colour(e),
                     policy->exits > 0 ? "exit" : "try", name);
    }
    string_print(out, "<th>agreement</th><th>mean layers</th><th>speed</th></tr>\n");
    for (int i = 0; i < policy->rows; i++) {
        const struct policy_row *row = &policy->row[i];
        string_print(out, "<tr><td>%g</td><td><div class=\"stack\">", row->threshold);
        for (int e = 0; e < policy_columns(policy); e++)
            string_print(out, "<span style=\"width:%.1f%%;background:%s\"></span>", 100 * row->exit_rate[e],
                         row_colour(e));
        string_print(out, "</div></td>");
        for (int e = 0; e < policy_columns(policy); e++)
            string_print(out, "<td>%.1f %%</td>", 100 * row->exit_rate[e]);
        if (isnan(row->agreement))
            string_print(out, "<td>-</td>");
        else
            string_print(out, "<td>%.1f %%</td>", 100 * row->agreement);
        string_print(out, "<td>%.2f</td><td>%.2fx</td></tr>\n", row->depth, row->speedup);
    }
    string_print(out, "</table></div>\n");
}

static void write_exits(struct string *out, const struct policy *policy)
{
    char verdict[512];
    string_print(
        out, "<h2>Confidence exits</h2>\n<p>A token leaves at the first exit whose likeliest token has at "
             "least the threshold's probability. Of the taps' best heads the policy has those that are "
             "predicted fastest together. If none are faster than the full model, the policy has no exits. The "
             "numbers below are then those of the exits that came nearest.</p>\n"
             "<div class=\"verdict\">");
    policy_verdict(policy, verdict, sizeof verdict);
    html_escape(out, verdict);
    string_print(out, "</div>\n");
    if (policy->rows == 0)
        return;
    string_print(out, "<div class=\"charts\">\n");
    write_trade_off(out, policy);
    write_speedup(out, policy);
    string_print(out, "</div>\n");
    write_exit_table(out, policy);
    string_print(out,
                 "<p class=\"quiet\">Speeds are predicted from parameter counts, and are not measured: the "
                 "time of decoding one "
                 "token at a time is mostly that of reading the parameters. A head costs as much as %.2f "
                 "layers, its vocabulary "
                 "product as much as %.2f. Checks that did not let a token leave are counted.</p>\n",
                 policy->cost_head, policy->cost_output);
}

int html_report_write(const struct run_folder *run, const struct stores *stores,
                      const struct leaderboard *board, const struct policy *policy, struct error *error)
{
    struct string text = {0};
    const json_t *numerics = json_object_get(run->facts, "numerics");
    int result = -1;
    write_head(&text, stores);
    write_facts(&text, run, board);
    write_table(&text, board);
    write_curves(&text, board);
    write_depth(&text, stores, board);
    cost_table_html(run, board, &text);
    write_exits(&text, policy);
    string_print(&text, "<footer>Made by offramp train %s", OFFRAMP_VERSION);
    for (size_t i = 0; i < json_array_size(numerics); i++) {
        const char *name = json_string_value(json_array_get(numerics, i));
        string_print(&text, i ? ", then " : " on ");
        html_escape(&text, name ? name : "?");
    }
    string_print(&text, ".</footer>\n</main></body></html>\n");
    char *path = run_folder_path(run, error, "report.html");
    if (path && !string_failed(&text, error))
        result = file_write(path, text.data, text.length, error);
    free(path);
    string_free(&text);
    return result;
}
