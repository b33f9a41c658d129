/* plan.h: how much is computed at a time, from the model's sizes and the memory that there is; and how much
 * disk the result takes.
 *
 *     rows of a call      one sequence at least; as many as make about 64 MB of activations on a processor. With more a
 *                         product gets no faster, with fewer it gets slower
 *     buffers of states   for two calls, within 128 MB
 *     weights             all layers stay in memory when they fit ("resident"); otherwise they take turns
 *
 * When layers take turns (--memory), two are in memory: one computes, the next is read and prepared. Each layer
 * is loaded once for a super-batch of calls, whose residuals wait in memory. A super-batch is as large as it
 * must be for loading to cost nothing, if memory allows it. A larger one would lose more work to a kill, and
 * win nothing.
 *
 *     plan_make(config, plan_file(model), info, &machine, &plan, error);
 *     if (!plan.resident)
 *         group = plan_group(&plan, &times, calls);           // times: forward_measure's
 */
#ifndef OFFRAMP_EXTRACT_PLAN_H
#define OFFRAMP_EXTRACT_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/model/config.h"
#include "common/model/forward.h"
#include "common/store/store.h"

struct plan {
    int layers; /* to run: the last tap's */
    bool half; /* of the last one, the attention only */
    int batch; /* sequences per call */
    int group; /* calls per super-batch, at most; 1 when all weights are resident */
    bool resident;
    int jobs; /* host buffers of states [rows, hidden] */
    int encoders; /* threads */
    uint64_t layer; /* bytes of a layer in the compute type */
    uint64_t weights; /* of the layers to run, and of the output weight for a target */
    uint64_t peak; /* bytes that the run is expected to take in all */
    uint64_t least; /* that it would take with two layers at a time and one call per super-batch */
    uint64_t call; /* of a call's residuals */
};

/* Bytes in the model's file. */
struct plan_file {
    uint64_t layer; /* layers_file_bytes */
    uint64_t embedding;
};

struct plan_file plan_file(const struct model *model);

/* The bytes that may be used: `memory` (--memory; 0: no limit), and on a device with memory of its own no more
 * than a little less than what is free there. 0: no limit. */
uint64_t plan_memory(const struct backend *backend, uint64_t memory);

/* What a plan is made for. */
struct plan_machine {
    enum math math;
    int threads; /* resolved, >= 1 */
    uint64_t activations; /* bytes of a call: backend_activations */
    uint64_t working; /* bytes: backend_working. Not 0: the embedding is on the device, too */
    uint64_t memory; /* bytes that the process and the device may each use; 0: no limit */
};

struct plan_machine plan_machine(const struct backend *backend, int threads, uint64_t memory);

/* An error when the machine's memory is too small for two layers at a time; it names the least that is
 * enough. */
int plan_make(const struct model_config *config, struct plan_file file, const struct store_info *info,
              const struct plan_machine *machine, struct plan *plan, struct error *error);

/* Changes a plan with resident weights to one whose layers take turns. An error as plan_make's. */
int plan_stream(struct plan *plan, uint64_t memory, struct error *error);

/* Calls per super-batch of a plan that is not resident: the fewest for which both hold:
 *   - computing a layer takes as long as reading and preparing the next one;
 *   - what cannot happen meanwhile takes at most one part in PLAN_PREPARE of the time. That is preparing, which needs the
 *     processors, and loading the output weight for a target.
 * At most plan->group and `calls`, the number of all calls. Super-batches are of about the same size. */
#define PLAN_PREPARE 32
int plan_group(const struct plan *plan, const struct forward_times *times, uint64_t calls);

/* The most bytes that a tap's records can take for that many sequences. */
uint64_t plan_tap_bytes(const struct store_info *info, int tap, uint64_t sequences);

/* The most bytes that the records still missing in a store can take. */
uint64_t plan_missing_bytes(const struct store *store);

#endif
