/* foretell.h: says how much memory a run will take, before it takes any.
 *
 *     foretell(sweep, stores, math, 8, &foretold, error);       // were eight of the sweep's trials live
 *     foretell_live(sweep, stores, math, &bounds, &live, error);      // so many can be
 */
#ifndef OFFRAMP_TRAIN_FORETELL_H
#define OFFRAMP_TRAIN_FORETELL_H

#include <stdint.h>

#include "common/base/error.h"
#include "kernels/ops.h"
#include "train/stores.h"
#include "train/sweep.h"

/* Bytes that a run takes, by what they grow with. Pages of the mapped store are not counted, because the system
 * drops them when it must. */
struct foretold {
    uint64_t trials; /* heads and moments of the trials that are live: the most that so many of them can take */
    uint64_t gradients; /* of one group; they do not grow once the trials of a group are live */
    uint64_t batch; /* states and working memory; with the sequences of a step */
    uint64_t fixed; /* the output weight, and what products with it take */
    uint64_t host; /* of `batch` what is on the host when there is a device: batches that are read ahead */
};

/* Bytes that a trial takes as long as it is live: its head, and Adam's two moments of what is trained. */
uint64_t foretell_trial(const struct trial_config *config, const struct model_config *model);

/* What the run takes when at most `live` of its trials (1 .. sweep->trials) are live at a time. */
int foretell(const struct sweep *sweep, const struct stores *stores, enum math math, int live,
             struct foretold *foretold, struct error *error);
uint64_t foretold_bytes(const struct foretold *foretold); /* all of them; `host` is a part of them */

/* What bounds a run. */
struct bounds {
    int most; /* trials that may be live; 0: all */
    uint64_t memory; /* bytes that the run may take; 0: what the machine has */
    uint64_t device; /* the device's free bytes; 0: it has no memory of its own */
};

/* How many trials can be live at a time. An error of the kind ERROR_USAGE when bounds->memory does not hold a
 * single one. Where the machine does not, *live is 1, and foretell_check says so. */
int foretell_live(const struct sweep *sweep, const struct stores *stores, enum math math,
                  const struct bounds *bounds, int *live, struct error *error);

/* Says on stderr what the run is and what it will take. -1 when the machine, or its device, does not have that
 * much. device: the device's free bytes; 0: it has no memory of its own. */
int foretell_check(const struct sweep *sweep, const struct stores *stores, enum math math, int live,
                   int64_t steps, uint64_t device, struct error *error);

#endif
