#include "common/base/clock.h"

#include <stdio.h>
#include <time.h>

double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

char *format_duration(double seconds, char *text, size_t size)
{
    if (!(seconds >= 0))
        seconds = 0;
    if (seconds < 99.95) {
        snprintf(text, size, "%.1f s", seconds);
    } else if (seconds < 3600) {
        long whole = (long)(seconds + 0.5);
        snprintf(text, size, "%ld min %02ld s", whole / 60, whole % 60);
    } else {
        double minutes = seconds / 60 + 0.5;
        snprintf(text, size, "%.0f h %02d min", (double)(long long)(minutes / 60),
                 (int)((long long)minutes % 60));
    }
    return text;
}

char *format_bytes(double bytes, char *text, size_t size)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    int unit = 0;
    while (bytes >= 999.5 && unit < 5) {
        bytes /= 1000;
        unit++;
    }
    snprintf(text, size,
             unit == 0       ? "%.0f %s"
             : bytes < 9.995 ? "%.2f %s"
             : bytes < 99.95 ? "%.1f %s"
                             : "%.0f %s",
             bytes, units[unit]);
    return text;
}
