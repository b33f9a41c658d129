/* plan.h: how much is computed at a time, from the model's sizes and the memory there is; and whether
 * the disk can hold what comes out.
 *
 * Rows per call: enough that a product uses the processor well, few enough that the activations of a
 * layer stay small: about 64 MB of them, one sequence at least. Host buffers of states: those of two
 * calls, within 128 MB. A layer's weights stay in memory when all do; else (--memory) each layer is
 * loaded once for a super-batch, the calls whose residuals fit in the memory that is left.
 */
#ifndef OFFRAMP_EXTRACT_PLAN_H
#define OFFRAMP_EXTRACT_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/model/config.h"
#include "common/store/store.h"

struct plan {
    int layers; /* to run: the last tap's */
    bool half; /* of the last one, the attention only */
    int batch; /* sequences per call */
    int group; /* calls per super-batch; 1 when all weights are resident */
    bool resident;
    int jobs; /* host buffers of states [rows, hidden] */
    int encoders; /* threads */
    uint64_t
        weights; /* bytes of the layers to run, and of the output weight for a target, in the compute type */
    uint64_t peak; /* bytes expected in all */
};

/* memory: bytes the process may use, 0: what it takes. threads: resolved, >= 1. An error when
 * `memory` is too small for one layer, which names the least that does. */
int plan_make(const struct model_config *config, const struct store_info *info, enum math math, int threads,
              uint64_t memory, struct plan *plan, struct error *error);

/* The most bytes that a tap's records can take for that many sequences. */
uint64_t plan_tap_bytes(const struct store_info *info, int tap, uint64_t sequences);

/* The most bytes that the records still missing in a store can take. */
uint64_t plan_missing_bytes(const struct store *store);

#endif
