/* run.h: the second stage: runs the model over the stored sequences and stores its states at the taps.
 *
 * How the layers are run is in common/model/forward.h; here are the stages around it:
 *
 *     reader -> compute -> encoders -> writer
 *
 * Behind the last layer the same thread computes the targets, from the states as they are before any codec
 * (store/target.h says why); it is a stage of its own in the report.
 *
 * Sequences whose states the pilot has computed (kept.h) do not run through the model again: their states go to the
 * encoders between those of their neighbours.
 *
 * The sequences go in store order, from the first that lacks a record. A record depends on its
 * sequence only, not on the ones computed with it, so wherever a run was stopped the next one makes
 * the same bytes.
 */
#ifndef OFFRAMP_EXTRACT_RUN_H
#define OFFRAMP_EXTRACT_RUN_H

#include "common/base/channel.h"
#include "common/base/error.h"
#include "common/model/model.h"
#include "common/store/store.h"
#include "extract/kept.h"
#include "extract/plan.h"
#include "kernels/ops.h"

struct run_report {
    uint64_t tokens; /* that ran through the model in this run */
    double seconds; /* loading the weights included */
    double loading; /* of those, loading weights */
    struct stage read, compute, target, encode, write; /* target: no name without one */
    int encoders; /* threads that encode.busy and .waiting are of */
    struct device_times device;
    /* Where weights are not resident: */
    double load; /* seconds of the thread that loads layers beside computing */
    double waited; /* seconds of computing that went by waiting for them */
    int group; /* calls of the largest super-batch */
};

struct run_job {
    const char *title; /* of the progress shown */
    const struct model *model;
    struct backend *backend;
    struct store *store;
    struct plan *plan; /* changed to what was carried out, see below */
    struct kept *kept; /* states that need not be computed (kept.h), or NULL */
};

/* Where a device's memory does not hold what the plan says, the plan is changed to what was carried out: fewer sequences
 * per call, or layers that take turns. Nothing is computed when every record is there. A signal ends the run early: an
 * error that says how to go on, with everything so far committed; the report is filled then too. */
int run_model(const struct run_job *job, struct run_report *report, struct error *error);

#endif
