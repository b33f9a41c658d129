#include "common/base/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/clock.h"

#define BAR_MOST          30
#define BAR_LEAST         5
#define TERMINAL_INTERVAL 0.25
#define PLAIN_INTERVAL    10.0

void progress_start(struct progress *progress, const char *title, const char *unit, uint64_t total)
{
    double now = clock_seconds();
    *progress = (struct progress){.title = title,
                                  .unit = unit,
                                  .total = total,
                                  .started = now,
                                  .printed = now,
                                  .terminal = isatty(2) == 1};
}

static int terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* In one row, whose last column stays free: a line that wraps is not drawn over. */
static void draw_bar(const struct progress *progress, double share, const char *figures)
{
    const int columns = terminal_columns() - 1;
    char bar[BAR_MOST + 4] = "", line[512];
    int width = columns - (int)(strlen(progress->title) + strlen(" []") + strlen(figures));
    width = width > BAR_MOST ? BAR_MOST : width < BAR_LEAST ? 0 : width;
    if (width > 0) {
        const int filled = (int)((share < 1 ? share : 1) * width);
        memcpy(bar, " [", 2);
        memset(bar + 2, '.', (size_t)width);
        memset(bar + 2, '#', (size_t)filled);
        bar[width + 2] = ']';
    }
    snprintf(line, sizeof line, "%s%s%s", progress->title, bar, figures);
    fprintf(stderr, "\r%.*s\033[K", columns, line);
}

static void print_line(const struct progress *progress, double now)
{
    char eta[32] = "?", figures[160];
    double seconds = now - progress->started;
    double rate = seconds > 0 ? (double)(progress->done - progress->first) / seconds : 0;
    double share = progress->total ? (double)progress->done / (double)progress->total : 0;
    if (rate > 0 && progress->total >= progress->done)
        format_duration((double)(progress->total - progress->done) / rate, eta, sizeof eta);
    if (progress->terminal) {
        snprintf(figures, sizeof figures, " %3.0f %%  %.0f %s/s  %s left", 100 * share, rate, progress->unit,
                 eta);
        draw_bar(progress, share, figures);
    } else
        fprintf(stderr, "%s: %" PRIu64 " of %" PRIu64 " %s, %.0f %s/s, %s left\n", progress->title,
                progress->done, progress->total, progress->unit, rate, progress->unit, eta);
}

void progress_update(struct progress *progress, uint64_t done)
{
    double now = clock_seconds();
    progress->done = done;
    if (now - progress->printed < (progress->terminal ? TERMINAL_INTERVAL : PLAIN_INTERVAL))
        return;
    progress->printed = now;
    progress->drawn = true;
    print_line(progress, now);
}

void progress_finish(struct progress *progress)
{
    if (progress->terminal && progress->drawn) {
        print_line(progress, clock_seconds());
        fputc('\n', stderr);
    }
    progress->drawn = false;
}
