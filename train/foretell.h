/* foretell.h: how much memory a run will take, before it takes any. */
#ifndef OFFRAMP_TRAIN_FORETELL_H
#define OFFRAMP_TRAIN_FORETELL_H

#include <stdint.h>

#include "common/base/error.h"
#include "kernels/ops.h"
#include "train/stores.h"
#include "train/sweep.h"

/* Bytes, by what decides about them. Pages of the mapped store are not counted: the system drops them where it must. */
struct foretold {
    uint64_t trials; /* heads and their optimizers: the number of trials */
    uint64_t batch; /* states and working memory: the sequences of a step */
    uint64_t fixed; /* the output weight and what multiplying with it takes */
    uint64_t host; /* of these what is on the host where there is a device: batches that are read ahead */
};

struct foretold foretell(const struct sweep *sweep, const struct stores *stores, enum math math);

/* Says on stderr what the run is and what it will take; -1 where the machine, or its device, does not have that.
 * device: its free bytes; 0: it has no memory of its own. */
int foretell_check(const struct sweep *sweep, const struct stores *stores, enum math math, int64_t steps,
                   uint64_t device, struct error *error);

#endif
