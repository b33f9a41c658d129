/* svg.h: line charts as SVG: axes with round ticks, lines, marks, reference rules.
 *
 *     struct svg_chart chart = {
 *         .out = &text, .width = 560, .height = 320,
 *         .x = {.label = "step", .least = 0, .most = 100},
 *         .y = {.label = "loss", .least = 1, .most = 9, .log = true},
 *     };
 *     svg_begin(&chart, "Training loss");
 *     svg_line(&chart, points, count, "#3b6fb6", NULL);
 *     svg_rule(&chart, SVG_ACROSS, 2.72, "full model");
 *     svg_end(&chart);
 *
 * Texts are escaped. When memory runs out, the string remembers it (string_failed). Points that are not finite,
 * or not positive on a logarithmic axis, are left out.
 */
#ifndef OFFRAMP_BASE_SVG_H
#define OFFRAMP_BASE_SVG_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/string.h"

struct svg_axis {
    const char *label;
    double least, most; /* of what will be drawn; svg_begin widens them to round numbers */
    bool log;
    bool percent; /* values are shares */
    bool exact; /* least and most stay as they are */
    bool whole; /* ticks at whole numbers only */
};

struct svg_chart {
    struct string *out;
    double width, height; /* of the whole, in units of the view box */
    struct svg_axis x, y;
    bool alone; /* a file of its own; false: inside HTML whose style has svg_style */
    const char *summary; /* what the chart shows, for those who cannot see it; NULL: its title says it */
    double room; /* at the right of the plot, for svg_ends */
};

struct svg_point {
    double x, y;
};

enum svg_shape {
    SVG_CIRCLE,
    SVG_SQUARE,
    SVG_DIAMOND,
    SVG_TRIANGLE,
    SVG_WEDGE, /* a triangle on its tip */
    SVG_PLUS,
    SVG_CROSS,
    SVG_HEXAGON
};
enum { SVG_SHAPES = SVG_HEXAGON + 1 };
enum svg_direction { SVG_ACROSS, SVG_DOWN };

/* CSS of what the functions below draw. */
extern const char svg_style[];

void svg_begin(struct svg_chart *chart, const char *title);
/* colour: as CSS has it. dash: as stroke-dasharray, or NULL. */
void svg_line(struct svg_chart *chart, const struct svg_point *points, size_t count, const char *colour,
              const char *dash);
/* hint: shown where the pointer rests. */
void svg_mark(struct svg_chart *chart, struct svg_point point, enum svg_shape shape, const char *colour,
              const char *hint);
/* A mark by itself, at the origin: for legends. */
void svg_symbol(struct string *out, enum svg_shape shape, const char *colour);
/* Small text beside a point. */
void svg_note(struct svg_chart *chart, struct svg_point point, const char *text);
/* A dashed line at a value of the other axis, with its name. */
void svg_rule(struct svg_chart *chart, enum svg_direction direction, double value, const char *label);
/* Names of lines, in the room at the right of the plot: each as high as its line ends, or as near as the others
 * let it. Puts `ends` in their order. */
struct svg_line_end {
    double y;
    char name[16];
    const char *colour;
};
void svg_ends(struct svg_chart *chart, struct svg_line_end *ends, size_t count);
void svg_end(struct svg_chart *chart);

/* Appends text with HTML's special characters escaped. */
void html_escape(struct string *out, const char *text);

#endif
