#include "common/base/svg.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room around the plot for labels. */
#define LEFT   64.0
#define RIGHT  14.0
#define TOP    34.0
#define BOTTOM 46.0

const char svg_style[] =
    ".grid{stroke:#e8ebee;stroke-width:1}.tick{fill:#5d6876;font-size:11px}\n"
    ".label{fill:#3b4552;font-size:12px}.title{fill:#1d2530;font-size:14px;font-weight:600}\n"
    ".line{fill:none;stroke-width:1.8;stroke-linejoin:round}.mark{stroke:#fff;stroke-width:1}\n"
    ".rule{stroke:#1d2530;stroke-width:1.2;stroke-dasharray:5 4}\n"
    ".note{fill:#3b4552;font-size:11px;paint-order:stroke;stroke:#fff;stroke-width:3px}\n"
    ".end{font-size:11px;font-weight:600}\n";

void html_escape(struct string *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': string_print(out, "&amp;"); break;
        case '<': string_print(out, "&lt;"); break;
        case '>': string_print(out, "&gt;"); break;
        case '"': string_print(out, "&quot;"); break;
        default: string_append(out, text, 1);
        }
    }
}

/* ---- scales ---- */

/* Where a value lies between the ends of its axis, 0 .. 1; NaN when it lies nowhere. */
static double axis_share(const struct svg_axis *axis, double value)
{
    if (axis->log)
        return value > 0 ? log(value / axis->least) / log(axis->most / axis->least) : NAN;
    return (value - axis->least) / (axis->most - axis->least);
}

/* Where the plot ends. */
static double right_of(const struct svg_chart *chart)
{
    return chart->width - fmax(RIGHT, chart->room);
}

static double place_x(const struct svg_chart *chart, double x)
{
    return LEFT + axis_share(&chart->x, x) * (right_of(chart) - LEFT);
}

static double place_y(const struct svg_chart *chart, double y)
{
    return chart->height - BOTTOM - axis_share(&chart->y, y) * (chart->height - TOP - BOTTOM);
}

/* The least of 1, 2, 5 times a power of ten that cuts a span into at most `most` parts. */
static double round_spacing(double span, int most)
{
    const double power = pow(10, floor(log10(span / most)));
    static const double factors[] = {1, 2, 5, 10};
    for (int i = 0; i < 3; i++) {
        if (span / (power * factors[i]) <= most)
            return power * factors[i];
    }
    return power * factors[3];
}

static void widen(struct svg_axis *axis)
{
    if (!(axis->most > axis->least)) {
        axis->most = axis->least + (axis->log ? axis->least : 1);
        if (!(axis->most > axis->least)) {
            axis->least = axis->log ? 0.1 : 0;
            axis->most = 1;
        }
    }
    if (axis->exact)
        return;
    if (axis->log) {
        axis->least /= 1.1;
        axis->most *= 1.1;
        return;
    }
    const double spacing = round_spacing(axis->most - axis->least, 6);
    axis->least = floor(axis->least / spacing + 1e-9) * spacing;
    axis->most = ceil(axis->most / spacing - 1e-9) * spacing;
}

/* ---- axes ---- */

static void draw_tick(struct svg_chart *chart, enum svg_direction direction, double value)
{
    const struct svg_axis *axis = direction == SVG_DOWN ? &chart->x : &chart->y;
    const double x = direction == SVG_DOWN ? place_x(chart, value) : LEFT;
    const double y = direction == SVG_DOWN ? chart->height - BOTTOM : place_y(chart, value);
    char text[32];
    if (axis->percent)
        snprintf(text, sizeof text, "%g %%", 100 * value);
    else
        snprintf(text, sizeof text, "%g", fabs(value) < 1e-12 ? 0 : value);
    if (direction == SVG_DOWN)
        string_print(chart->out,
                     "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                     "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
                     x, x, TOP, y, x, y + 16, text);
    else
        string_print(chart->out,
                     "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                     "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                     x, right_of(chart), y, y, x - 7, y + 4, text);
}

/* Powers of ten, with 2 and 5 times as much between them where there are few. */
static void draw_decades(struct svg_chart *chart, enum svg_direction direction, const struct svg_axis *axis)
{
    static const double factors[] = {1, 2, 5};
    const int count = axis->most / axis->least > 300 ? 1 : 3;
    for (double power = pow(10, floor(log10(axis->least))); power <= axis->most; power *= 10) {
        for (int i = 0; i < count; i++) {
            if (power * factors[i] >= axis->least && power * factors[i] <= axis->most)
                draw_tick(chart, direction, power * factors[i]);
        }
    }
}

static void draw_axis(struct svg_chart *chart, enum svg_direction direction)
{
    const struct svg_axis *axis = direction == SVG_DOWN ? &chart->x : &chart->y;
    if (axis->log && axis->most / axis->least > 8) {
        draw_decades(chart, direction, axis);
        return;
    }
    double spacing = round_spacing(axis->most - axis->least, direction == SVG_DOWN ? 8 : 6);
    if (axis->whole)
        spacing = fmax(spacing, 1);
    const double first = ceil(axis->least / spacing - 1e-9) * spacing;
    for (int i = 0; first + i * spacing <= axis->most + spacing * 1e-9; i++)
        draw_tick(chart, direction, first + i * spacing);
}

void svg_begin(struct svg_chart *chart, const char *title)
{
    struct string *out = chart->out;
    const double middle = (TOP + chart->height - BOTTOM) / 2;
    widen(&chart->x);
    widen(&chart->y);
    string_print(out, "<svg viewBox=\"0 0 %g %g\" role=\"img\"", chart->width, chart->height);
    if (chart->alone)
        string_print(out, " xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" height=\"%g\"", chart->width,
                     chart->height);
    string_print(out, " aria-label=\"");
    html_escape(out, title);
    if (chart->summary) {
        string_print(out, ". ");
        html_escape(out, chart->summary);
    }
    string_print(out, "\">\n");
    if (chart->alone)
        string_print(out,
                     "<style>text{font-family:system-ui,'DejaVu Sans',sans-serif}\n%s</style>\n"
                     "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                     svg_style);
    string_print(out, "<text class=\"title\" x=\"%g\" y=\"18\">", LEFT);
    html_escape(out, title);
    string_print(out, "</text>\n");
    draw_axis(chart, SVG_DOWN);
    draw_axis(chart, SVG_ACROSS);
    string_print(out, "<text class=\"label\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
                 (LEFT + right_of(chart)) / 2, chart->height - 8);
    html_escape(out, chart->x.label);
    string_print(out,
                 "</text>\n<text class=\"label\" transform=\"translate(13 %.1f) rotate(-90)\" "
                 "text-anchor=\"middle\">",
                 middle);
    html_escape(out, chart->y.label);
    string_print(out, "</text>\n");
}

void svg_end(struct svg_chart *chart)
{
    string_print(chart->out, "</svg>\n");
}

/* ---- what is drawn on them ---- */

void svg_line(struct svg_chart *chart, const struct svg_point *points, size_t count, const char *colour,
              const char *dash)
{
    bool begun = false;
    for (size_t i = 0; i < count; i++) {
        const double x = place_x(chart, points[i].x), y = place_y(chart, points[i].y);
        if (!isfinite(x) || !isfinite(y))
            continue;
        if (!begun)
            string_print(chart->out, "<polyline class=\"line\" style=\"stroke:%s\"%s%s%s points=\"", colour,
                         dash ? " stroke-dasharray=\"" : "", dash ? dash : "", dash ? "\"" : "");
        string_print(chart->out, "%s%.1f,%.1f", begun ? " " : "", x, y);
        begun = true;
    }
    if (begun)
        string_print(chart->out, "\"/>\n");
}

/* Outlines of the marks, about the origin. */
static const char *const outlines[SVG_SHAPES] = {
    [SVG_CIRCLE] = "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
    [SVG_SQUARE] = "M-4-4h8v8h-8z",
    [SVG_DIAMOND] = "M0-5.6L5.6 0L0 5.6L-5.6 0z",
    [SVG_TRIANGLE] = "M0-5.6L5.4 4H-5.4z",
    [SVG_WEDGE] = "M0 5.6L5.4-4H-5.4z",
    [SVG_PLUS] = "M-1.7-5.2h3.4v3.5h3.5v3.4h-3.5v3.5h-3.4v-3.5h-3.5v-3.4h3.5z",
    [SVG_CROSS] = "M-5-2.6L-2.6-5L0-2.4L2.6-5L5-2.6L2.4 0L5 2.6L2.6 5L0 2.4L-2.6 5L-5 2.6L-2.4 0z",
    [SVG_HEXAGON] = "M-5 0L-2.5-4.4H2.5L5 0L2.5 4.4H-2.5z",
};

void svg_mark(struct svg_chart *chart, struct svg_point point, enum svg_shape shape, const char *colour,
              const char *hint)
{
    const double x = place_x(chart, point.x), y = place_y(chart, point.y);
    if (!isfinite(x) || !isfinite(y))
        return;
    string_print(chart->out,
                 "<path class=\"mark\" transform=\"translate(%.1f %.1f)\" d=\"%s\" style=\"fill:%s\"><title>",
                 x, y, outlines[shape], colour);
    html_escape(chart->out, hint);
    string_print(chart->out, "</title></path>\n");
}

void svg_symbol(struct string *out, enum svg_shape shape, const char *colour)
{
    string_print(
        out,
        "<svg class=\"symbol\" viewBox=\"-7 -7 14 14\" width=\"14\" height=\"14\" aria-hidden=\"true\">"
        "<path d=\"%s\" style=\"fill:%s\"/></svg>",
        outlines[shape], colour);
}

void svg_note(struct svg_chart *chart, struct svg_point point, const char *text)
{
    const double x = place_x(chart, point.x), y = place_y(chart, point.y);
    if (!isfinite(x) || !isfinite(y))
        return;
    string_print(chart->out, "<text class=\"note\" x=\"%.1f\" y=\"%.1f\">", x + 7,
                 y < TOP + 12 ? y + 15 : y - 6);
    html_escape(chart->out, text);
    string_print(chart->out, "</text>\n");
}

void svg_rule(struct svg_chart *chart, enum svg_direction direction, double value, const char *label)
{
    const bool down = direction == SVG_DOWN;
    const double share = axis_share(down ? &chart->x : &chart->y, value);
    if (!(share >= 0 && share <= 1))
        return;
    const double x = down ? place_x(chart, value) : LEFT, y = down ? TOP : place_y(chart, value);
    const double x2 = down ? x : right_of(chart), y2 = down ? chart->height - BOTTOM : y;
    string_print(chart->out, "<line class=\"rule\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", x, y, x2,
                 y2);
    if (down)
        string_print(
            chart->out,
            "<text class=\"note\" transform=\"translate(%.1f %.1f) rotate(-90)\" text-anchor=\"middle\">",
            x - 5, (y + y2) / 2);
    else
        string_print(chart->out, "<text class=\"note\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", x2 - 4,
                     y - 5);
    html_escape(chart->out, label);
    string_print(chart->out, "</text>\n");
}

/* ---- names at the ends of lines ---- */

/* Between the baselines of two names. */
#define NAME_HEIGHT 13.0

static int compare_ends(const void *left, const void *right)
{
    const struct svg_line_end *a = left, *b = right;
    return a->y != b->y ? (a->y < b->y ? -1 : 1) : strcmp(a->name, b->name);
}

void svg_ends(struct svg_chart *chart, struct svg_line_end *ends, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct svg_line_end end = ends[i];
        end.y = place_y(chart, end.y);
        if (isfinite(end.y))
            ends[kept++] = end;
    }
    qsort(ends, kept, sizeof *ends, compare_ends);
    /* Down from the highest one, then up again from the bottom of the plot. */
    double lowest = chart->height - BOTTOM;
    for (size_t i = 1; i < kept; i++)
        ends[i].y = fmax(ends[i].y, ends[i - 1].y + NAME_HEIGHT);
    for (size_t i = kept; i > 0; i--) {
        ends[i - 1].y = fmin(ends[i - 1].y, lowest);
        lowest = ends[i - 1].y - NAME_HEIGHT;
    }
    for (size_t i = 0; i < kept; i++) {
        string_print(chart->out, "<text class=\"end\" x=\"%.1f\" y=\"%.1f\" style=\"fill:%s\">",
                     right_of(chart) + 8, ends[i].y + 4, ends[i].colour);
        html_escape(chart->out, ends[i].name);
        string_print(chart->out, "</text>\n");
    }
}
