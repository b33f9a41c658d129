/* timing.cu: how long ops take on the device, measured by events around each. An event costs the host about a
 * microsecond and the device nothing. Events are read long after they have happened, so that nobody waits for
 * them. */
#include "kernels/cuda/table.cuh"

#include <string.h>

void cuda_time_add(double *total, cudaEvent_t from, cudaEvent_t to)
{
    float milliseconds = 0;
    if (cudaEventElapsedTime(&milliseconds, from, to) == cudaSuccess)
        *total += milliseconds / 1e3;
    else
        cudaGetLastError(); /* a time that is missing is not a failure of what was computed */
}

static void span_finish(struct cuda_span *span)
{
    if (!span->total)
        return;
    if (cudaEventSynchronize(span->to) == cudaSuccess)
        cuda_time_add(span->total, span->from, span->to);
    span->total = NULL;
}

void cuda_time_begin(struct queue *base, double *total)
{
    struct cuda_queue *queue = (struct cuda_queue *)base;
    struct cuda_span *span = &queue->span[queue->spans % CUDA_SPANS];
    span_finish(span);
    if ((span->from || cudaEventCreate(&span->from) == cudaSuccess) &&
        (span->to || cudaEventCreate(&span->to) == cudaSuccess) &&
        cudaEventRecord(span->from, queue->stream) == cudaSuccess)
        span->total = total;
    else
        cudaGetLastError();
}

void cuda_time_end(struct queue *base)
{
    struct cuda_queue *queue = (struct cuda_queue *)base;
    struct cuda_span *span = &queue->span[queue->spans++ % CUDA_SPANS];
    if (span->total && cudaEventRecord(span->to, queue->stream) != cudaSuccess) {
        cudaGetLastError();
        span->total = NULL;
    }
}

void cuda_times_finish(struct cuda_queue *queue)
{
    for (int i = 0; i < CUDA_SPANS; i++)
        span_finish(&queue->span[i]);
}

void cuda_times_free(struct cuda_queue *queue)
{
    for (int i = 0; i < CUDA_SPANS; i++) {
        if (queue->span[i].from)
            cudaEventDestroy(queue->span[i].from);
        if (queue->span[i].to)
            cudaEventDestroy(queue->span[i].to);
    }
}
