/* gate_probe.h: fits one probe of a gate: a linear map, or a layer of units and a linear map (common/head/gate.h),
 * which tells by some values whether something is so.
 *
 * It is trained with Adam on the cross-entropy, by ops, in batches of GATE_PROBE_BATCH rows. About once a pass
 * it is measured on rows that it is not trained on, and what has the lowest cross-entropy there is kept. The batches are
 * neighbouring rows, so the caller shuffles them.
 *
 *     gate_probe_fit(backend, &recipe, &rows, &apart, probe, logits, &complete, error);
 */
#ifndef OFFRAMP_TRAIN_GATE_PROBE_H
#define OFFRAMP_TRAIN_GATE_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/ops.h"

struct gate_recipe {
    int units; /* 0: linear */
    float rate, decay; /* of Adam */
    int steps; /* at most */
    int patience; /* measurements without a lower cross-entropy after which it ends */
    uint64_t seed;
};

enum { GATE_PROBE_BATCH = 256 };

/* Some rows, normalised. */
struct gate_rows {
    const float *values; /* [count, width] */
    const bool *is_so; /* [count] */
    int64_t count, width;
};

/* Where a probe's parameters go; gate.h says what they are. */
struct gate_parameters {
    float *in, *in_bias; /* [2 units, width], [2 units] */
    float *out; /* [units], or [width] */
    float *out_bias; /* [1] */
};

/* Fits a probe to `rows`, measured on `apart`, of the same width. logits [apart->count]: what the kept one makes of
 * `apart`. When the program is told to stop meanwhile, *complete is false, and nothing has been fitted. */
int gate_probe_fit(struct backend *backend, const struct gate_recipe *recipe, const struct gate_rows *rows,
                   const struct gate_rows *apart, const struct gate_parameters *probe, double *logits,
                   bool *complete, struct error *error);

#endif
