/* encoders.h: threads that make records of states, and the one that stores these in order (write.h).
 *
 * Jobs of one tap are submitted in the order of their index. There is a fixed number of jobs, whose memory is
 * used again and again: so memory is bounded, however far one thread runs ahead of another.
 *
 *     encoders_open(store, &order, &plan, &encoders, error);
 *     while ((job = encoders_job(encoders, &stage))) {        // waits for a free one; NULL: a thread has failed
 *         job->tap = ..., job->index = ...; fill job->states;
 *         encoders_submit(encoders, job);
 *     }
 *     encoders_close(encoders, &report, error);               // waits until all is committed
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

/* What the threads have done. */
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

/* Stops all threads. encoders_close returns the first reason. Safe from any thread. */
void encoders_fail(struct encoders *encoders, const struct error *error);

/* Records stored so far in this run; safe from any thread. */
uint64_t encoders_written(struct encoders *encoders);

/* No more jobs come: waits for the stages, frees the encoders. -1 when a stage failed. NULL is fine. */
int encoders_close(struct encoders *encoders, struct encoders_report *report, struct error *error);

#endif
