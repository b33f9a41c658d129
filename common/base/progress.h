/* progress.h: one line on stderr that says how far a long job is.
 *
 * On a terminal it is a bar, redrawn four times a second. Elsewhere it is a line every 10 seconds, and nothing
 * for shorter jobs.
 *
 *     struct progress progress;
 *     progress_start(&progress, "extract", "tokens", total);
 *     progress_update(&progress, done);
 *     progress_finish(&progress);
 *
 * Who shows more than this line draws it with the other ones: progress_is_due, progress_line.
 */
#ifndef OFFRAMP_BASE_PROGRESS_H
#define OFFRAMP_BASE_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/terminal.h"

#define PROGRESS_LINE_SIZE 512

struct progress {
    const char *title, *unit;
    uint64_t total, done; /* in units */
    uint64_t first; /* done before this run began: set it after progress_start */
    double started, printed; /* clock_seconds */
    bool drawn;
};

void progress_start(struct progress *progress, const char *title, const char *unit, uint64_t total);
void progress_update(struct progress *progress, uint64_t done);
/* Ends the bar's line; prints nothing where no bar was drawn. */
void progress_finish(struct progress *progress);

/* Counts. True when it is time to show it: `terminal` is looked at then. */
bool progress_is_due(struct progress *progress, uint64_t done, struct terminal *terminal);
/* The line, as it fits the terminal; where that is none, the plain one. Returns text. */
char *progress_line(const struct progress *progress, const struct terminal *terminal,
                    char text[PROGRESS_LINE_SIZE]);

#endif
