/* foretell.h: says how much memory a run will take, before it takes any. */
#ifndef OFFRAMP_TRAIN_FORETELL_H
#define OFFRAMP_TRAIN_FORETELL_H

#include <stdint.h>

#include "common/base/error.h"
#include "kernels/ops.h"
#include "train/stores.h"
#include "train/sweep.h"

/* Bytes, by what they grow with. Pages of the mapped store are not counted, because the system drops them when it
 * must. */
struct foretold {
    uint64_t trials; /* heads and their optimizers; with the number of trials */
    uint64_t batch; /* states and working memory; with the sequences of a step */
    uint64_t fixed; /* the output weight, and what products with it take */
    uint64_t host; /* of the above what is on the host when there is a device: batches that are read ahead */
};

struct foretold foretell(const struct sweep *sweep, const struct stores *stores, enum math math);

/* Says on stderr what the run is and what it will take. -1 when the machine, or its device, does not have that much.
 * device: the device's free bytes; 0: it has no memory of its own. */
int foretell_check(const struct sweep *sweep, const struct stores *stores, enum math math, int64_t steps,
                   uint64_t device, struct error *error);

#endif
