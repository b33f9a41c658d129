/* encoders.h: threads that make records of states, and the one that stores these in order (write.h).
 *
 *     encoders_open(store, &order, &plan, &encoders, error);
 *     while ((job = encoders_job(encoders, &stage))) {        // waits for a free one; NULL: it has failed
 *         job->tap = ..., job->index = ...; fill job->states;
 *         encoders_submit(encoders, job);
 *     }
 *     encoders_close(encoders, &report, error);               // waits until all is committed
 *
 * Jobs of one tap are submitted in order of their index. A job's memory is used again and again, so
 * that it is bounded whatever runs ahead.
 */
#ifndef OFFRAMP_EXTRACT_ENCODERS_H
#define OFFRAMP_EXTRACT_ENCODERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/channel.h"
#include "common/base/error.h"
#include "common/store/store.h"
#include "extract/order.h"
#include "extract/plan.h"
#include "extract/write.h"

/* What the stages have done, filled by encoders_close. */
struct encoders_report {
    struct stage encode, write; /* seconds, all encoders together */
    uint64_t records;
};

struct encoders;

/* Allocates the jobs and starts the threads. order: the run's, in which jobs count their sequences. Copied. */
int encoders_open(struct store *store, const struct order *order, const struct plan *plan,
                  struct encoders **encoders, struct error *error);

struct job *encoders_job(struct encoders *encoders, struct stage *stage);
void encoders_submit(struct encoders *encoders, struct job *job);

/* Stops everything; the first reason is what encoders_close returns. Safe from any thread. */
void encoders_fail(struct encoders *encoders, const struct error *error);

/* Records stored so far in this run; safe from any thread. */
uint64_t encoders_written(struct encoders *encoders);

/* No more jobs come: waits for the stages, frees the encoders. -1 when a stage failed. NULL is fine. */
int encoders_close(struct encoders *encoders, struct encoders_report *report, struct error *error);

#endif
