/* What a thread keeps from one record to the next. */
#include "common/codec/worker.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/memory.h"

size_t codec_values(int64_t rows, int64_t cols)
{
    const int64_t most = INT64_C(1) << 29;
    if (rows < 1 || cols < 1 || rows > most || cols > most || rows * cols > most)
        return 0;
    return (size_t)(rows * cols);
}

int codec_check(const char *name, int64_t rows, int64_t cols, size_t size, size_t least, struct error *error)
{
    if (codec_values(rows, cols) == 0)
        return error_set(error, "%s has no shape [%" PRId64 ", %" PRId64 "]", name, rows, cols);
    if (size < least)
        return error_set(error, "%s of shape [%" PRId64 ", %" PRId64 "] needs %zu bytes; there are %zu", name,
                         rows, cols, least, size);
    return 0;
}

int codec_worker_create(struct codec_worker **worker, struct error *error)
{
    struct codec_worker *made;
    *worker = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    made->path = rans_path_fastest();
    if (rans_create(&made->rans, error) == 0) {
        *worker = made;
        return 0;
    }
    codec_worker_destroy(made);
    return -1;
}

void codec_worker_destroy(struct codec_worker *worker)
{
    if (!worker)
        return;
    free(worker->plane);
    free(worker->sums);
    free(worker->floats);
    free(worker->integers);
    rans_destroy(worker->rans);
    free(worker->model);
    free(worker->residuals);
    free(worker->totals);
    free(worker);
}

double codec_worker_entropy_seconds(const struct codec_worker *worker)
{
    return worker->entropy_seconds;
}

size_t worker_pack(struct codec_worker *worker, const unsigned char *values, size_t count, unsigned char *bytes)
{
    const double start = clock_seconds();
    const size_t size = huffman_encode(values, count, bytes);
    worker->entropy_seconds += clock_seconds() - start;
    return size;
}

int worker_unpack(struct codec_worker *worker, const unsigned char *bytes, size_t size, unsigned char *values,
                  size_t count, struct error *error)
{
    const double start = clock_seconds();
    const int result = huffman_decode(&worker->table, bytes, size, values, count, error);
    worker->entropy_seconds += clock_seconds() - start;
    return result;
}
