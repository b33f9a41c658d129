#include "common/base/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"

#define BAR_MOST          30
#define BAR_LEAST         5
#define TERMINAL_INTERVAL 0.25
#define PLAIN_INTERVAL    10.0

void progress_start(struct progress *progress, const char *title, const char *unit, uint64_t total)
{
    double now = clock_seconds();
    *progress = (struct progress){.title = title, .unit = unit, .total = total, .started = now, .printed = now};
}

/* In one row, whose last column stays free: a line that wraps is not drawn over. */
static void write_bar(const struct progress *progress, const struct terminal *terminal, double share,
                      const char *figures, char text[PROGRESS_LINE_SIZE])
{
    char bar[BAR_MOST + 4] = "";
    int width = terminal->columns - 1 - (int)(strlen(progress->title) + strlen(" []") + strlen(figures));
    width = width > BAR_MOST ? BAR_MOST : width < BAR_LEAST ? 0 : width;
    if (width > 0) {
        const int filled = (int)((share < 1 ? share : 1) * width);
        memcpy(bar, " [", 2);
        memset(bar + 2, '.', (size_t)width);
        memset(bar + 2, '#', (size_t)filled);
        bar[width + 2] = ']';
    }
    snprintf(text, PROGRESS_LINE_SIZE, "%s%s%s", progress->title, bar, figures);
}

char *progress_line(const struct progress *progress, const struct terminal *terminal,
                    char text[PROGRESS_LINE_SIZE])
{
    char eta[32] = "?", figures[160];
    double seconds = clock_seconds() - progress->started;
    double rate = seconds > 0 ? (double)(progress->done - progress->first) / seconds : 0;
    double share = progress->total ? (double)progress->done / (double)progress->total : 0;
    if (rate > 0 && progress->total >= progress->done)
        format_duration((double)(progress->total - progress->done) / rate, eta, sizeof eta);
    if (terminal->moves) {
        snprintf(figures, sizeof figures, " %3.0f %%  %.0f %s/s  %s left", 100 * share, rate, progress->unit,
                 eta);
        write_bar(progress, terminal, share, figures, text);
    } else
        snprintf(text, PROGRESS_LINE_SIZE, "%s: %" PRIu64 " of %" PRIu64 " %s, %.0f %s/s, %s left",
                 progress->title, progress->done, progress->total, progress->unit, rate, progress->unit, eta);
    return text;
}

bool progress_is_due(struct progress *progress, uint64_t done, struct terminal *terminal)
{
    const double now = clock_seconds(), waited = now - progress->printed;
    progress->done = done;
    if (waited < TERMINAL_INTERVAL)
        return false;
    *terminal = terminal_look();
    if (!terminal->moves && waited < PLAIN_INTERVAL)
        return false;
    progress->printed = now;
    progress->drawn = true;
    return true;
}

void progress_update(struct progress *progress, uint64_t done)
{
    struct terminal terminal;
    char line[PROGRESS_LINE_SIZE + 1];
    if (!progress_is_due(progress, done, &terminal))
        return;
    progress_line(progress, &terminal, line);
    strcat(line, "\n");
    if (terminal.moves)
        terminal_draw(&terminal, line);
    else
        fputs(line, stderr);
}

void progress_finish(struct progress *progress)
{
    const struct terminal terminal = terminal_look();
    char line[PROGRESS_LINE_SIZE];
    if (terminal.moves && progress->drawn)
        terminal_leave(&terminal, progress_line(progress, &terminal, line));
    progress->drawn = false;
}
