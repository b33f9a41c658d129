/* pipeline.h: what happens to states once they are computed: encoder threads code them, one writer
 * stores them in order and commits.
 *
 *     pipeline_open(store, &order, &plan, &pipeline, error);
 *     while ((job = pipeline_job(pipeline, &stage))) {        // waits for a free one; NULL: it has failed
 *         job->tap = ..., job->index = ...; fill job->states;
 *         pipeline_submit(pipeline, job);
 *     }
 *     pipeline_close(pipeline, &report, error);               // waits until all is committed
 *
 * Jobs of one tap are submitted in order of their index. A job's memory is used again and again, so
 * that it is bounded whatever runs ahead.
 */
#ifndef OFFRAMP_EXTRACT_PIPELINE_H
#define OFFRAMP_EXTRACT_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/channel.h"
#include "common/base/error.h"
#include "common/store/store.h"
#include "extract/order.h"
#include "extract/plan.h"
#include "extract/write.h"

/* What the stages have done, filled by pipeline_close. */
struct pipeline_report {
    struct stage encode, write; /* seconds, all encoders together */
    uint64_t records;
};

struct pipeline;

/* Allocates the jobs and starts the threads. order: the run's, in which jobs count their sequences. Copied. */
int pipeline_open(struct store *store, const struct order *order, const struct plan *plan,
                  struct pipeline **pipeline, struct error *error);

struct job *pipeline_job(struct pipeline *pipeline, struct stage *stage);
void pipeline_submit(struct pipeline *pipeline, struct job *job);

/* Stops everything; the first reason is what pipeline_close returns. Safe from any thread. */
void pipeline_fail(struct pipeline *pipeline, const struct error *error);

/* Records stored so far in this run; safe from any thread. */
uint64_t pipeline_written(struct pipeline *pipeline);

/* No more jobs come: waits for the stages, frees the pipeline. -1 when a stage failed. NULL is fine. */
int pipeline_close(struct pipeline *pipeline, struct pipeline_report *report, struct error *error);

#endif
