/* foretell.h: says how much memory a run will take, before it takes any. */
#ifndef OFFRAMP_TRAIN_FORETELL_H
#define OFFRAMP_TRAIN_FORETELL_H

#include <stdint.h>

#include "common/base/error.h"
#include "kernels/ops.h"
#include "train/stores.h"
#include "train/sweep.h"

/* Says on stderr what the run is and what it will take. -1 when the machine, or its device, does not have that
 * much. device: the device's free bytes; 0: it has no memory of its own. */
int foretell_check(const struct sweep *sweep, const struct stores *stores, enum math math, int64_t steps,
                   uint64_t device, struct error *error);

#endif
