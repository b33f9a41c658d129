/* pool.h: worker threads that share out the numbered tasks of one job.
 *
 * Any thread may run any task. So a result must depend on the task's number only, and not on the worker: then
 * every byte is the same with any number of threads.
 *
 *     static void scale_task(void *context, int task, int worker) { ... }
 *     pool_run(pool, tasks, scale_task, &job);          // returns when all tasks are done
 *
 * A thread without work looks for more for a tenth of a millisecond before it sleeps. So a run that follows
 * another at once starts within a microsecond: no thread has to be woken.
 */
#ifndef OFFRAMP_BASE_POOL_H
#define OFFRAMP_BASE_POOL_H

#include "common/base/error.h"

struct pool;

typedef void pool_function(void *context, int task, int worker);

/* `threads` >= 1 in all, the caller's included; 0 means one per processor this process may use. */
int pool_create(int threads, struct pool **pool, struct error *error);
void pool_destroy(struct pool *pool); /* NULL is fine */

/* Runs function(context, task, worker) for task = 0 .. tasks-1; worker is in 0 .. pool_threads-1. The caller
 * works, too, as worker 0. A pool does one run at a time: calls from several threads wait for each other. */
void pool_run(struct pool *pool, int tasks, pool_function *function, void *context);

int pool_threads(const struct pool *pool);

/* Processors this process may use (sched_getaffinity). */
int processor_count(void);

#endif
