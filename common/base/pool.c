#include "common/base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/memory.h"

/* Tasks are taken from a ticket without a lock. Who waits, spins for SPIN_SECONDS before sleeping:
 * decoding a token is hundreds of runs of a few microseconds, and a sleeper wakes in thirty. */
static const double SPIN_SECONDS = 100e-6;

struct pool {
    int threads;
    pthread_t *thread; /* [threads - 1] */
    int started; /* of them */
    pthread_mutex_t run; /* held through a pool_run */
    pthread_mutex_t mutex; /* around sleeping and waking */
    pthread_cond_t work, idle;
    atomic_int sleepers; /* workers in, or on their way to, a wait for work */
    atomic_bool caller_sleeps, stopping;
    /* Run number in the upper half, tasks not yet taken in the lower one. The fields below change only
     * while all tasks of a run are done, so whoever took a task may read them. */
    atomic_uint_least64_t ticket;
    atomic_int unfinished; /* tasks */
    pool_function *function;
    void *context;
    int tasks;
};

struct worker {
    struct pool *pool;
    int number;
};

static uint32_t tasks_left(struct pool *pool)
{
    return (uint32_t)atomic_load(&pool->ticket);
}

/* Takes tasks until none is left. */
static void work_off(struct pool *pool, int worker)
{
    uint_least64_t ticket = atomic_load(&pool->ticket);
    while ((uint32_t)ticket > 0) {
        if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket - 1))
            continue;
        pool->function(pool->context, pool->tasks - (int)(uint32_t)ticket, worker);
        if (atomic_fetch_sub(&pool->unfinished, 1) == 1 && atomic_load(&pool->caller_sleeps)) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->idle);
            pthread_mutex_unlock(&pool->mutex);
        }
        ticket = atomic_load(&pool->ticket);
    }
}

static bool has_work(struct pool *pool)
{
    return tasks_left(pool) > 0 || atomic_load(&pool->stopping);
}

static bool is_done(struct pool *pool)
{
    return atomic_load(&pool->unfinished) == 0;
}

/* Until `condition` holds or the time is up. */
static void spin(struct pool *pool, bool (*condition)(struct pool *pool))
{
    enum { LOOKS = 64 }; /* between two looks at the clock */
    double end = 0;
    while (true) {
        for (int i = 0; i < LOOKS; i++) {
            if (condition(pool))
                return;
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#endif
        }
        double now = clock_seconds();
        if (end == 0)
            end = now + SPIN_SECONDS;
        else if (now > end)
            return;
    }
}

static void *worker_main(void *argument)
{
    struct worker worker = *(struct worker *)argument;
    struct pool *pool = worker.pool;
    free(argument);
    while (!atomic_load(&pool->stopping)) {
        work_off(pool, worker.number);
        spin(pool, has_work);
        if (has_work(pool))
            continue;
        pthread_mutex_lock(&pool->mutex);
        atomic_fetch_add(&pool->sleepers, 1);
        while (!has_work(pool))
            pthread_cond_wait(&pool->work, &pool->mutex);
        atomic_fetch_sub(&pool->sleepers, 1);
        pthread_mutex_unlock(&pool->mutex);
    }
    return NULL;
}

static void wake_workers(struct pool *pool)
{
    if (atomic_load(&pool->sleepers) == 0)
        return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
}

int processor_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

int pool_create(int threads, struct pool **result, struct error *error)
{
    struct pool *pool = memory_alloc(1, sizeof *pool, error);
    *result = NULL;
    if (!pool)
        return -1;
    pool->threads = threads > 0 ? threads : processor_count();
    pthread_mutex_init(&pool->run, NULL);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->idle, NULL);
    if (array_alloc(&pool->thread, pool->threads, error) < 0)
        goto fail;
    while (pool->started < pool->threads - 1) {
        struct worker *worker = memory_alloc(1, sizeof *worker, error);
        if (!worker)
            goto fail;
        *worker = (struct worker){pool, pool->started + 1};
        int status = pthread_create(&pool->thread[pool->started], NULL, worker_main, worker);
        if (status != 0) {
            free(worker);
            error_set_kind(error, ERROR_NO_MEMORY, "thread %d of %d could not be started; try fewer --threads",
                           pool->started + 2, pool->threads);
            goto fail;
        }
        pool->started++;
    }
    *result = pool;
    return 0;
fail:
    pool_destroy(pool);
    return -1;
}

void pool_destroy(struct pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->stopping, true);
    wake_workers(pool);
    for (int i = 0; i < pool->started; i++)
        pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->idle);
    pthread_mutex_destroy(&pool->mutex);
    pthread_mutex_destroy(&pool->run);
    free(pool->thread);
    free(pool);
}

static void wait_for_tasks(struct pool *pool)
{
    spin(pool, is_done);
    if (is_done(pool))
        return;
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->caller_sleeps, true);
    while (!is_done(pool))
        pthread_cond_wait(&pool->idle, &pool->mutex);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->mutex);
}

void pool_run(struct pool *pool, int tasks, pool_function *function, void *context)
{
    if (tasks <= 0)
        return;
    pthread_mutex_lock(&pool->run);
    if (pool->started == 0 || tasks == 1) {
        for (int task = 0; task < tasks; task++)
            function(context, task, 0);
    } else {
        uint_least64_t number = (atomic_load(&pool->ticket) >> 32) + 1;
        pool->function = function;
        pool->context = context;
        pool->tasks = tasks;
        atomic_store(&pool->unfinished, tasks);
        atomic_store(&pool->ticket, number << 32 | (uint32_t)tasks);
        wake_workers(pool);
        work_off(pool, 0);
        wait_for_tasks(pool);
    }
    pthread_mutex_unlock(&pool->run);
}

int pool_threads(const struct pool *pool)
{
    return pool->threads;
}
