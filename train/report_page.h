/* report_page.h: what the sections of the report are made of: the page's style, its colours in light and dark mode,
 * charts of one size, tables that fold what is long, and which trials have a colour.
 *
 *     struct svg_chart chart = report_chart(out, "step", "nats per token");
 *     report_stretch(&chart.y, loss);                     // of everything that will be drawn
 *     report_chart_begin(&chart, "Held-out loss", "Falls from 9.1 to 3.0.");
 *     svg_line(&chart, points, count, report_colour(0), NULL);
 *     report_chart_end(&chart);
 */
#ifndef OFFRAMP_TRAIN_REPORT_PAGE_H
#define OFFRAMP_TRAIN_REPORT_PAGE_H

#include "common/base/svg.h"
#include "train/leaderboard.h"

/* The style sheet. */
void report_write_style(struct string *out);

/* ---- colours ---- */

enum { REPORT_COLOURS = 8 };
/* Names of CSS, which differ in dark mode. From REPORT_COLOURS on, and below 0: grey. */
const char *report_colour(int index);

/* A kind of heads looks the same in all charts: a mark and its colour. */
struct report_look {
    enum svg_shape shape;
    const char *colour;
};
struct report_look report_kind_look(const char *kind);
/* A legend of the kinds that finished rows of the board have. */
void report_kind_legend(const struct leaderboard *board, struct string *out);

/* ---- charts ---- */

/* With axes that hold nothing yet. */
struct svg_chart report_chart(struct string *out, const char *x, const char *y);
/* Makes the axis long enough for a value that can be drawn on it. */
void report_stretch(struct svg_axis *axis, double value);
/* Around svg_begin and svg_end: a figure, with words for those who cannot see it. */
void report_chart_begin(struct svg_chart *chart, const char *title, const char *summary);
void report_chart_end(struct svg_chart *chart);

/* ---- tables ---- */

/* A table that may be wider than the page, and that folds its rows away from the twenty-first on. */
struct report_table {
    struct string *out;
    const char *caption; /* for those who do not see what is above it */
    const char *head; /* the cells of its header row */
    int count; /* rows that it will have */
    int rows; /* that it has; starts at 0 */
};
void report_table_begin(struct report_table *table);
/* Begins the next row: cells come behind it, then "</tr>". class: of CSS; NULL: none. */
void report_table_row(struct report_table *table, const char *class);
void report_table_end(struct report_table *table);

/* ---- trials ---- */

/* The trials that charts tell apart: the best of each tap, then the best of all. */
struct report_lights {
    int row[REPORT_COLOURS]; /* [count] rows of the board, ascending */
    int count;
};
struct report_lights report_lights(const struct leaderboard *board);
/* Its colour's number; -1: it has none. */
int report_light(const struct report_lights *lights, int row);

/* "95.1 %", or "-" for NaN. Returns `text`. */
char *report_share(double share, char *text, size_t size);

#endif
