/* median.h: what a benchmark's rounds typically took. */
#ifndef OFFRAMP_TESTS_BENCH_MEDIAN_H
#define OFFRAMP_TESTS_BENCH_MEDIAN_H

#include <stdlib.h>

static inline int compare_numbers(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Sorts the values, at least one, and returns the middle one; of an even number the higher of the two. */
static inline double sort_to_median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_numbers);
    return values[count / 2];
}

#endif
