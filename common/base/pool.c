#include "common/base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/base/memory.h"

struct pool {
    int threads;
    pthread_t *thread; /* [threads - 1] */
    int started; /* of them */
    pthread_mutex_t run; /* held through a pool_run */
    pthread_mutex_t mutex;
    pthread_cond_t work, idle;
    unsigned generation; /* counts runs: a worker sees a new number and begins */
    bool stopping;
    int active; /* workers still inside the present run */
    /* the present run */
    pool_function *function;
    void *context;
    int pieces, next;
};

struct worker {
    struct pool *pool;
    int number;
};

/* Takes pieces until none is left; the mutex is held on entry and on return. */
static void work_off(struct pool *pool, int worker)
{
    while (pool->next < pool->pieces) {
        int piece = pool->next++;
        pthread_mutex_unlock(&pool->mutex);
        pool->function(pool->context, piece, worker);
        pthread_mutex_lock(&pool->mutex);
    }
}

static void *worker_main(void *argument)
{
    struct worker worker = *(struct worker *)argument;
    struct pool *pool = worker.pool;
    free(argument);
    pthread_mutex_lock(&pool->mutex);
    unsigned seen = 0;
    while (true) {
        while (pool->generation == seen && !pool->stopping)
            pthread_cond_wait(&pool->work, &pool->mutex);
        if (pool->stopping)
            break;
        seen = pool->generation;
        pool->active++;
        work_off(pool, worker.number);
        if (--pool->active == 0)
            pthread_cond_signal(&pool->idle);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
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
            error_set(error, "thread %d of %d could not be started; try fewer --threads", pool->started + 2,
                      pool->threads);
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
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->started; i++)
        pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->idle);
    pthread_mutex_destroy(&pool->mutex);
    pthread_mutex_destroy(&pool->run);
    free(pool->thread);
    free(pool);
}

void pool_run(struct pool *pool, int pieces, pool_function *function, void *context)
{
    if (pieces <= 0)
        return;
    pthread_mutex_lock(&pool->run);
    if (pool->started == 0 || pieces == 1) {
        for (int piece = 0; piece < pieces; piece++)
            function(context, piece, 0);
    } else {
        pthread_mutex_lock(&pool->mutex);
        pool->function = function;
        pool->context = context;
        pool->pieces = pieces;
        pool->next = 0;
        pool->generation++;
        pthread_cond_broadcast(&pool->work);
        work_off(pool, 0);
        while (pool->active > 0)
            pthread_cond_wait(&pool->idle, &pool->mutex);
        pool->pieces = 0;
        pthread_mutex_unlock(&pool->mutex);
    }
    pthread_mutex_unlock(&pool->run);
}

int pool_threads(const struct pool *pool)
{
    return pool->threads;
}
