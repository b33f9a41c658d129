#include "common/base/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"

#define BAR_WIDTH         30
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

static void print_line(const struct progress *progress, double now)
{
    char eta[32] = "?", bar[BAR_WIDTH + 1];
    double seconds = now - progress->started;
    double rate = seconds > 0 ? (double)(progress->done - progress->first) / seconds : 0;
    double share = progress->total ? (double)progress->done / (double)progress->total : 0;
    if (rate > 0 && progress->total >= progress->done)
        format_duration((double)(progress->total - progress->done) / rate, eta, sizeof eta);
    int filled = (int)((share < 1 ? share : 1) * BAR_WIDTH);
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)filled);
    bar[BAR_WIDTH] = 0;
    if (progress->terminal)
        fprintf(stderr, "\r%s [%s] %3.0f %%  %.0f %s/s  %s left \033[K", progress->title, bar, 100 * share,
                rate, progress->unit, eta);
    else
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
