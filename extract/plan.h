/* plan.h: how much is computed at a time, from the model's sizes and the memory there is; and whether
 * the disk can hold what comes out.
 *
 * Rows per call: enough that a product uses the processor well, few enough that the activations of a
 * layer stay small: about 64 MB of them, one sequence at least. Host buffers of states: those of two
 * calls, within 128 MB. A layer's weights stay in memory when all do; else (--memory) each layer is
 * loaded once for a super-batch of calls, whose residuals wait in memory, while the layer before computes:
 * two layers at a time, and what one has in the file and takes to prepare. A super-batch is as large as it
 * takes to hide the loading, within the memory: a larger one would only lose more to a kill.
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
    uint64_t peak; /* bytes expected in all */
    uint64_t least; /* with two layers at a time and one call per super-batch */
    uint64_t call; /* of the residuals of a call */
};

/* Bytes in the model's file. */
struct plan_file {
    uint64_t layer; /* layers_file_bytes */
    uint64_t embedding;
};

struct plan_file plan_file(const struct model *model);

/* What may be used: `memory` (--memory; 0: all there is) and, where the device has its own, a little less than is
 * free there. 0: what it takes. */
uint64_t plan_memory(const struct backend *backend, uint64_t memory);

/* What a plan is made for. */
struct plan_machine {
    enum math math;
    int threads; /* resolved, >= 1 */
    uint64_t activations; /* bytes a call should have, as backend_activations */
    uint64_t working; /* backend_working's bytes; where there are any the embedding is on the device, too */
    uint64_t memory; /* bytes that process and device may each use, 0: what it takes */
};

struct plan_machine plan_machine(const struct backend *backend, int threads, uint64_t memory);

/* An error when the machine's memory is too small for two layers, which names the least that does. */
int plan_make(const struct model_config *config, struct plan_file file, const struct store_info *info,
              const struct plan_machine *machine, struct plan *plan, struct error *error);

/* Makes a plan whose weights were to be resident one whose layers take turns. An error as plan_make's. */
int plan_stream(struct plan *plan, uint64_t memory, struct error *error);

/* Calls for a super-batch of a plan that is not resident: the least that take so long in a layer that
 * the next one is read and prepared meanwhile, and that what nothing hides costs one part in PLAN_PREPARE at
 * most: preparing, which takes the processors from computing, and all of loading a target's output weight.
 * No more than `calls`, all there are, in super-batches of one size. */
#define PLAN_PREPARE 32
int plan_group(const struct plan *plan, const struct forward_times *times, uint64_t calls);

/* The most bytes that a tap's records can take for that many sequences. */
uint64_t plan_tap_bytes(const struct store_info *info, int tap, uint64_t sequences);

/* The most bytes that the records still missing in a store can take. */
uint64_t plan_missing_bytes(const struct store *store);

#endif
