/* What a thread keeps from one record to the next. */
#include "common/codec/worker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <zstd.h>

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
    ZSTD_freeCCtx(worker->packer);
    ZSTD_freeDCtx(worker->unpacker);
    free(worker->plane);
    free(worker->sums);
    free(worker->bits);
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
