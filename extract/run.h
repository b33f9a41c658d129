/* run.h: the second stage: runs the model over the stored sequences and stores its states at the taps.
 *
 * common/model/forward.h runs the layers. Here are the threads around it:
 *
 *     inputs -> compute -> encoders -> writer
 *
 * Behind the last layer the computing thread makes the targets, too, from the states as they are before any
 * codec (store/target.h says why). The report counts that as a stage of its own.
 *
 * Sequences whose states the pilot has kept (kept.h) do not run through the model again. Their states go to the
 * encoders in the order of the sequences, between those that are computed.
 *
 * The sequences go in the order of order.h, from the first that lacks a record. A record depends on its
 * sequence only, not on those that are computed with it. So wherever a run was stopped, the next one makes the
 * same bytes.
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

/* Where a device's memory does not hold what the plan says, the plan is changed to what was carried out: fewer
 * sequences per call, or layers that take turns. Nothing is computed when every record is there. A signal ends
 * the run early: an error that says how to go on, with everything so far committed; the report is filled then
 * too. */
int run_model(const struct run_job *job, struct run_report *report, struct error *error);

#endif
