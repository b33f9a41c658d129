/* regressions.h: the affine maps from taps to others, or to the final states (common/head/ridge.h), from one read of the
 * training split.
 *
 *     const struct regression pairs[] = {{tap, final}, {tap, {.layer = 28}}, ...};
 *     regressions_read(&stores, backend, threads, pairs, count, &regressions, error);
 *     regressions_solve(regressions, i, a, b, error);             // of pairs[i]
 *     regressions_free(regressions);
 */
#ifndef OFFRAMP_TRAIN_REGRESSIONS_H
#define OFFRAMP_TRAIN_REGRESSIONS_H

#include "common/head/head.h"
#include "train/stores.h"

struct regressions;

struct regression {
    struct tap from, to;
};
/* That of a head which begins with one. */
struct regression regression_of(const struct head_spec *spec, const struct model_config *model);
/* Into pairs[count], unless it is there; returns how many there are then. */
int regressions_list(struct regression *pairs, int count, struct regression pair);
bool regression_same(struct regression a, struct regression b);

/* Reads the sums of all pairs, with `threads` decoders, a sequence at a time: the same stores give the same
 * bytes. */
int regressions_read(const struct stores *stores, struct backend *backend, int threads,
                     const struct regression *pairs, int count, struct regressions **regressions,
                     struct error *error);
void regressions_free(struct regressions *regressions); /* NULL is fine */

/* a [H, H] and b [H]. An error of the kind ERROR_INPUT is the states' fault, another kind the machine's. */
int regressions_solve(const struct regressions *regressions, int pair, float *a, float *b, struct error *error);
/* ridge_lower of that solution. */
int regressions_lower(const struct regressions *regressions, int pair, const float *a, const float *b, int rank,
                      float *u, float *v, float *c, struct error *error);

#endif
