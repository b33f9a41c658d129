/* clock.h: seconds on the monotonic clock, and text for people. */
#ifndef OFFRAMP_BASE_CLOCK_H
#define OFFRAMP_BASE_CLOCK_H

#include <stddef.h>

double clock_seconds(void);

/* "3.2 s", "4 min 05 s", "2 h 10 min". Returns text. */
char *format_duration(double seconds, char *text, size_t size);

/* "812 B", "1.4 MB", "2.31 GB" (powers of 1000). Returns text. */
char *format_bytes(double bytes, char *text, size_t size);

#endif
