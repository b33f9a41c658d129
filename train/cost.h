/* cost.h: the clock of a run: what it takes of time and memory, added up in run.json over all of its processes.
 *
 *     struct cost cost = cost_start();
 *     cost_watch(&cost, backend);
 *     ... cost.stalled += seconds that something has waited for the stores ...
 *     ... cost.trained += seconds that went into the trials ...
 *     cost_note(&cost, &run, error);       // at the end
 *     cost_print(&run, stdout);
 */
#ifndef OFFRAMP_TRAIN_COST_H
#define OFFRAMP_TRAIN_COST_H

#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"
#include "kernels/ops.h"
#include "train/run_folder.h"

/* Of this process, since it was noted last. */
struct cost {
    double started; /* clock_seconds */
    double stalled; /* seconds of waiting for the stores */
    double trained; /* seconds of training, which the trials share out among them (trial.h) */
    struct backend *backend; /* NULL: none is watched */
    uint64_t device_memory; /* its free bytes at first; 0: it has no memory of its own */
    struct device_times device_times;
};

struct cost cost_start(void);

/* From here on counts what the backend's device does. Call it before anything is put there. */
void cost_watch(struct cost *cost, struct backend *backend);

/* Adds to run.json, and writes it: seconds, stall_seconds, training_seconds, peak_memory, and where there is a device
 * its memory and times. What has been added is not added again. */
int cost_note(struct cost *cost, struct run_folder *run, struct error *error);

/* For people: what the run took so far, and what it was bound by. */
void cost_print(const struct run_folder *run, FILE *stream);

#endif
