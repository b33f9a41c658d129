#include "train/gate_score.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/memory.h"

struct scored {
    double score;
    bool is_so;
};

static int compare_scored(const void *a, const void *b)
{
    const double x = ((const struct scored *)a)->score, y = ((const struct scored *)b)->score;
    return (x > y) - (x < y);
}

int gate_auc(const double *score, const bool *is_so, int64_t count, double *auc, struct error *error)
{
    struct scored *list;
    int64_t positives = 0, pairs_won_twice = 0; /* halves are counted whole */
    *auc = NAN;
    if (array_alloc(&list, count, error) < 0)
        return -1;
    for (int64_t i = 0; i < count; i++)
        list[i] = (struct scored){score[i], is_so[i]};
    qsort(list, (size_t)count, sizeof *list, compare_scored);
    for (int64_t first = 0, end, below = 0; first < count; first = end) {
        int64_t so = 0;
        for (end = first; end < count && list[end].score == list[first].score; end++)
            so += list[end].is_so;
        const int64_t not_so = end - first - so;
        pairs_won_twice += so * (2 * below + not_so);
        below += not_so;
        positives += so;
    }
    free(list);
    if (positives > 0 && positives < count)
        *auc = (double)pairs_won_twice / 2 / ((double)positives * (double)(count - positives));
    return 0;
}

void gate_reliability(const double *probability, const bool *is_so, int64_t count,
                      struct gate_bin bins[GATE_BINS])
{
    for (int b = 0; b < GATE_BINS; b++)
        bins[b] = (struct gate_bin){0};
    for (int64_t i = 0; i < count; i++) {
        const int b = (int)(probability[i] * GATE_BINS);
        struct gate_bin *bin = &bins[b < GATE_BINS ? b : GATE_BINS - 1];
        bin->tokens++;
        bin->predicted += probability[i];
        bin->observed += is_so[i];
    }
    for (int b = 0; b < GATE_BINS; b++) { /* 0 / 0 is NaN */
        bins[b].predicted /= (double)bins[b].tokens;
        bins[b].observed /= (double)bins[b].tokens;
    }
}

double gate_calibration_error(const struct gate_bin bins[GATE_BINS])
{
    double sum = 0, tokens = 0;
    for (int b = 0; b < GATE_BINS; b++) {
        if (bins[b].tokens == 0)
            continue;
        sum += (double)bins[b].tokens * fabs(bins[b].predicted - bins[b].observed);
        tokens += (double)bins[b].tokens;
    }
    return sum / tokens;
}

/* The first and second derivatives of the cross-entropy by slope and shift. */
struct derivatives {
    double slope, shift, slope2, both, shift2;
};

static struct derivatives derive(const double *logit, const bool *is_so, int64_t count, double slope,
                                 double shift, const double target[2])
{
    struct derivatives sum = {.slope2 = 1e-9, .shift2 = 1e-9};
    for (int64_t i = 0; i < count; i++) {
        const double p = 1 / (1 + exp(-(slope * logit[i] + shift))), gap = p - target[is_so[i]],
                     w = p * (1 - p);
        sum.slope += gap * logit[i];
        sum.shift += gap;
        sum.slope2 += w * logit[i] * logit[i];
        sum.both += w * logit[i];
        sum.shift2 += w;
    }
    return sum;
}

void gate_calibrate(const double *logit, const bool *is_so, int64_t count, double *slope, double *shift)
{
    enum { ROUNDS = 50 };
    double so = 0;
    for (int64_t i = 0; i < count; i++)
        so += is_so[i];
    const double target[2] = {1 / ((double)count - so + 2), (so + 1) / (so + 2)};
    *slope = 0; /* from here Newton's steps do not overshoot: the curvature is at its largest */
    *shift = log((so + 1) / ((double)count - so + 1));
    for (int round = 0; round < ROUNDS; round++) {
        const struct derivatives d = derive(logit, is_so, count, *slope, *shift, target);
        const double determinant = d.slope2 * d.shift2 - d.both * d.both;
        if (!(determinant > 0))
            break;
        *slope -= (d.shift2 * d.slope - d.both * d.shift) / determinant;
        *shift -= (d.slope2 * d.shift - d.both * d.slope) / determinant;
    }
    if (!(*slope >= 0) || !isfinite(*slope) || !isfinite(*shift)) {
        *slope = 0;
        *shift = log((so + 1) / ((double)count - so + 1));
    }
}
