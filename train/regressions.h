/* regressions.h: the affine maps from taps to the final states (common/head/ridge.h), from one read of the
 * training split.
 *
 *     regressions_read(&stores, backend, threads, taps, count, &regressions, error);
 *     regressions_solve(regressions, t, a, b, error);             // of taps[t]
 *     regressions_free(regressions);
 */
#ifndef OFFRAMP_TRAIN_REGRESSIONS_H
#define OFFRAMP_TRAIN_REGRESSIONS_H

#include "kernels/ops.h"
#include "train/stores.h"

struct regressions;

/* Reads the sums of all taps, with `threads` decoders, a sequence at a time: the same stores give the same
 * bytes. */
int regressions_read(const struct stores *stores, struct backend *backend, int threads, const struct tap *taps,
                     int count, struct regressions **regressions, struct error *error);
void regressions_free(struct regressions *regressions); /* NULL is fine */

/* a [H, H] and b [H]. An error of the kind ERROR_INPUT is the states' fault, another kind the machine's. */
int regressions_solve(const struct regressions *regressions, int tap, float *a, float *b, struct error *error);

#endif
