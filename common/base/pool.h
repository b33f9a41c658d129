/* pool.h: worker threads that share out numbered tasks of one job.
 *
 * Which thread runs a task is open, so a result may depend on the task's number only: that is
 * how every byte stays the same whatever the number of threads.
 *
 *     static void scale_task(void *context, int task, int worker) { ... }
 *     pool_run(pool, tasks, scale_task, &job);          // returns when all tasks are done
 *
 * Threads that wait look for work for a tenth of a millisecond before they sleep, so that runs that
 * follow each other at once cost a microsecond, not a wake-up.
 */
#ifndef OFFRAMP_BASE_POOL_H
#define OFFRAMP_BASE_POOL_H

#include "common/base/error.h"

struct pool;

typedef void pool_function(void *context, int task, int worker);

/* `threads` >= 1 in all, the caller's included; 0 means one per processor this process may use. */
int pool_create(int threads, struct pool **pool, struct error *error);
void pool_destroy(struct pool *pool); /* NULL is fine */

/* Runs function(context, p, worker) for p = 0 .. tasks-1, worker in 0 .. pool_threads-1; the
 * caller works too (as worker 0). One run at a time per pool: calls from several threads queue up. */
void pool_run(struct pool *pool, int tasks, pool_function *function, void *context);

int pool_threads(const struct pool *pool);

/* Processors this process may use (sched_getaffinity). */
int processor_count(void);

#endif
