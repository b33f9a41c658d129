#include "train/report_page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char colours_style[] =
    ":root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1d2530;--quiet:#566170;--edge:#dfe3e8;\n"
    "--grid:#e8ebee;--good:#eaf5ee;--good-edge:#9cc9ad;--plain:#fff7e3;--plain-edge:#e2cc8c;--link:#1f5fae;\n"
    "--c0:#2563b0;--c1:#b85c00;--c2:#17795a;--c3:#b42a3c;--c4:#6d4bb0;--c5:#0c7087;--c6:#b0347c;--c7:#75591f;\n"
    "--grey:#8a93a0}\n"
    "@media (prefers-color-scheme:dark){:root{--page:#14181d;--card:#1c2229;--ink:#dde3ea;--quiet:#a3aebb;\n"
    "--edge:#343d48;--grid:#2c353f;--good:#18301f;--good-edge:#3b6e4c;--plain:#332c17;--plain-edge:#6b5a22;\n"
    "--link:#8ab8f2;--c0:#74a9f0;--c1:#f0a05a;--c2:#5cc79a;--c3:#f3868f;--c4:#b9a0f3;--c5:#5fc4dc;--c6:#ec8cc4;"
    "\n"
    "--c7:#cfae7c;--grey:#76818e}}\n";

static const char page_style[] =
    "*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe UI',"
    "'DejaVu Sans',sans-serif}\n"
    "main{max-width:1240px;margin:0 auto;padding:28px 24px 48px}\n"
    "h1{font-size:26px;line-height:1.25;margin:0 0 2px;overflow-wrap:anywhere}\n"
    "h2{font-size:19px;margin:38px 0 8px}\n"
    "p{margin:8px 0;max-width:95ch}.quiet{color:var(--quiet);font-size:14px}a{color:var(--link)}\n"
    "code{font:13px ui-monospace,'DejaVu Sans Mono',monospace;overflow-wrap:anywhere}\n"
    "nav{display:flex;flex-wrap:wrap;gap:2px 16px;margin:14px 0 0;font-size:14px}\n"
    ".lead{border:1px solid var(--plain-edge);background:var(--plain);border-radius:10px;padding:12px 18px;"
    "margin:18px 0;font-size:16px}\n"
    ".lead.good{border-color:var(--good-edge);background:var(--good)}.lead p{margin:4px 0}\n"
    ".lead p:first-child b{font-size:18px}\n"
    ".cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px;margin:18px 0}\n"
    ".card{background:var(--card);border:1px solid var(--edge);border-radius:8px;padding:8px 14px}\n"
    ".card b{display:block;font-size:18px;font-weight:600}.card span{color:var(--quiet);font-size:13px}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(320px,100%),1fr));gap:14px;"
    "margin:10px 0}\n"
    "figure{margin:0;background:var(--card);border:1px solid var(--edge);border-radius:8px;padding:10px}\n"
    "figure svg{width:100%;height:auto;display:block}\n"
    ".wide{overflow-x:auto;background:var(--card);border:1px solid var(--edge);border-radius:8px;margin:10px "
    "0}\n"
    "table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}\n"
    "caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}.wide{position:"
    "relative}\n"
    "th,td{padding:6px 8px;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}\n"
    "thead th{color:var(--quiet);font-weight:600;font-size:13px;white-space:normal;vertical-align:bottom}\n"
    "tbody th{font-weight:400}tr:last-child td,tr:last-child th{border-bottom:0}\n"
    "tbody th,td.name{text-align:left;white-space:normal;overflow-wrap:anywhere;min-width:120px}\n"
    "th.text,td.text{text-align:left}tr.full>*{color:var(--quiet);font-style:italic}\n"
    "details{margin:8px 0}summary{cursor:pointer;color:var(--link);padding:4px 0}\n"
    ".swatch{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:7px}\n"
    ".symbol{vertical-align:-2px;margin-right:6px}\n"
    ".number{font-weight:600;margin-right:6px}\n"
    ".stack{display:flex;width:150px;height:12px;border-radius:3px;overflow:hidden;background:var(--grid)}\n"
    ".stack.long{width:100%;height:22px;border-radius:5px;gap:1px}.stack span{display:block}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;color:var(--quiet);margin:8px 4px 2px}\n"
    ".legend>span{overflow-wrap:anywhere}\n"
    ".grid{stroke:var(--grid)}.tick{fill:var(--quiet);font-size:12px}.label{fill:var(--quiet);font-size:12.5px}"
    "\n"
    ".title{fill:var(--ink);font-size:14.5px}.mark{stroke:var(--card)}.rule{stroke:var(--ink)}\n"
    ".note{fill:var(--ink);stroke:var(--card)}.end{font-size:12px}.line{stroke-width:2}.line.thin{stroke-width:"
    "1}\n"
    "footer{margin-top:38px;color:var(--quiet);font-size:13px}\n"
    "@media (max-width:700px){main{padding:16px 10px 32px}h1{font-size:22px}.minor{display:none}\n"
    "table{font-size:13px}th,td{padding:5px 5px}td.text{white-space:normal}.stack{width:84px}\n"
    ".lead{padding:8px 12px;font-size:15px}figure{padding:6px}}\n"
    "@media print{body{background:#fff}figure,.wide,.card{break-inside:avoid}nav{display:none}}\n";

void report_write_style(struct string *out)
{
    string_print(out, "<style>\n%s%s%s</style>", svg_style, colours_style, page_style);
}

/* ---- colours ---- */

const char *report_colour(int index)
{
    static const char *const colours[REPORT_COLOURS] = {"var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)",
                                                        "var(--c4)", "var(--c5)", "var(--c6)", "var(--c7)"};
    return index >= 0 && index < REPORT_COLOURS ? colours[index] : "var(--grey)";
}

static const char *const kinds[] = {"affine", "norm", "mlp", "affine+mlp", "block", "bridge", "embedding"};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

struct report_look report_kind_look(const char *kind)
{
    int k = 0;
    while (k < KINDS && strcmp(kinds[k], kind) != 0)
        k++;
    return (struct report_look){(enum svg_shape)k, report_colour(k)};
}
_Static_assert((int)KINDS < (int)SVG_SHAPES && (int)KINDS < (int)REPORT_COLOURS,
               "a kind that is not in the list has a look, too");

void report_kind_legend(const struct leaderboard *board, struct string *out)
{
    string_print(out, "<div class=\"legend\">");
    for (int i = 0; i < board->exits; i++) {
        const char *kind = head_kind_name(board->row[i].config->spec.kind);
        bool told = !board->row[i].finished;
        for (int j = 0; j < i && !told; j++)
            told = board->row[j].finished && !strcmp(head_kind_name(board->row[j].config->spec.kind), kind);
        if (told)
            continue;
        const struct report_look look = report_kind_look(kind);
        string_print(out, "<span>");
        svg_symbol(out, look.shape, look.colour);
        html_escape(out, kind);
        string_print(out, "</span>");
    }
    string_print(out, "</div>\n");
}

/* ---- charts ---- */

struct svg_chart report_chart(struct string *out, const char *x, const char *y)
{
    return (struct svg_chart){.out = out,
                              .width = 400,
                              .height = 290,
                              .x = {.label = x, .least = 1, .most = 0},
                              .y = {.label = y, .least = 1, .most = 0}};
}

void report_stretch(struct svg_axis *axis, double value)
{
    if (!isfinite(value) || (axis->log && value <= 0))
        return;
    if (axis->most < axis->least)
        axis->least = axis->most = value;
    axis->least = fmin(axis->least, value);
    axis->most = fmax(axis->most, value);
}

void report_chart_begin(struct svg_chart *chart, const char *title, const char *summary)
{
    chart->summary = summary;
    string_print(chart->out, "<figure>");
    svg_begin(chart, title);
}

void report_chart_end(struct svg_chart *chart)
{
    svg_end(chart);
    string_print(chart->out, "</figure>\n");
}

/* ---- tables ---- */

/* Rows that are shown; and how many more are shown, too, rather than folded. */
enum { ROWS_SHOWN = 20, ROWS_SPARED = 5 };

static void open_table(const struct report_table *table)
{
    string_print(
        table->out,
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"%s\"><table><caption>%s</caption>\n"
        "<thead><tr>%s</tr></thead>\n<tbody>\n",
        table->caption, table->caption, table->head);
}

static void close_table(const struct report_table *table)
{
    string_print(table->out, "</tbody></table></div>\n");
}

static bool is_folded(const struct report_table *table)
{
    return table->count > ROWS_SHOWN + ROWS_SPARED;
}

void report_table_begin(struct report_table *table)
{
    table->rows = 0;
    open_table(table);
}

void report_table_row(struct report_table *table, const char *class)
{
    if (is_folded(table) && table->rows == ROWS_SHOWN) {
        close_table(table);
        string_print(table->out, "<details><summary>%d more</summary>\n", table->count - ROWS_SHOWN);
        open_table(table);
    }
    table->rows++;
    if (class)
        string_print(table->out, "<tr class=\"%s\">", class);
    else
        string_print(table->out, "<tr>");
}

void report_table_end(struct report_table *table)
{
    close_table(table);
    if (is_folded(table) && table->rows > ROWS_SHOWN)
        string_print(table->out, "</details>\n");
}

/* ---- trials ---- */

static bool is_best_of_tap(const struct leaderboard *board, int row)
{
    for (int i = 0; i < row; i++) {
        if (board->row[i].draft == board->row[row].draft &&
            !strcmp(board->row[i].config->tap, board->row[row].config->tap))
            return false;
    }
    return board->row[row].finished;
}

struct report_lights report_lights(const struct leaderboard *board)
{
    struct report_lights lights = {.count = 0};
    bool lit[REPORT_COLOURS * 64] = {false};
    const int looked = board->count < REPORT_COLOURS * 64 ? board->count : REPORT_COLOURS * 64;
    int left = REPORT_COLOURS;
    for (int i = 0; i < looked && left > 0; i++) {
        if (is_best_of_tap(board, i)) {
            lit[i] = true;
            left--;
        }
    }
    for (int i = 0; i < looked && left > 0; i++) {
        if (!lit[i] && board->row[i].metrics.count > 0) {
            lit[i] = true;
            left--;
        }
    }
    for (int i = 0; i < looked; i++) {
        if (lit[i])
            lights.row[lights.count++] = i;
    }
    return lights;
}

int report_light(const struct report_lights *lights, int row)
{
    for (int i = 0; i < lights->count; i++) {
        if (lights->row[i] == row)
            return i;
    }
    return -1;
}

char *report_share(double share, char *text, size_t size)
{
    if (isnan(share))
        snprintf(text, size, "-");
    else
        snprintf(text, size, "%.1f %%", 100 * share);
    return text;
}
