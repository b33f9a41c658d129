/* What a thread keeps from one record to the next: zstd contexts and planes. */
#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_c_literalCompressionMode */
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

/* Huffman coding of bytes without any search for repeats: in states there are none, and the search
 * costs time and ratio. The fast strategy steps over `targetLength` positions after each failure, so
 * that the longest one leaves the block at once; zstd must then be told to keep coding literals.
 * Blocks are 128 KB, the most there is. The bytes depend on zstd's version alone. */
static int set_huffman_only(ZSTD_CCtx *context, struct error *error)
{
    const struct {
        ZSTD_cParameter key;
        int value;
    } settings[] = {
        {ZSTD_c_strategy, ZSTD_fast},
        {ZSTD_c_windowLog, 17},
        {ZSTD_c_hashLog, 6},
        {ZSTD_c_minMatch, 7},
        {ZSTD_c_targetLength, 1 << 17},
        {ZSTD_c_literalCompressionMode, ZSTD_ps_enable},
        {ZSTD_c_contentSizeFlag, 1},
        {ZSTD_c_checksumFlag, 0},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        size_t result = ZSTD_CCtx_setParameter(context, settings[i].key, settings[i].value);
        if (ZSTD_isError(result))
            return error_set(error, "zstd %s does not take a setting this codec needs: %s",
                             ZSTD_versionString(), ZSTD_getErrorName(result));
    }
    return 0;
}

int codec_worker_create(struct codec_worker **worker, struct error *error)
{
    struct codec_worker *made;
    *worker = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    made->compressor = ZSTD_createCCtx();
    made->decompressor = ZSTD_createDCtx();
    rans_paths(&made->path);
    if (!made->compressor || !made->decompressor)
        error_set(error, "out of memory for zstd");
    else if (set_huffman_only(made->compressor, error) == 0 && rans_create(&made->rans, error) == 0) {
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
    ZSTD_freeCCtx(worker->compressor);
    ZSTD_freeDCtx(worker->decompressor);
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

size_t worker_compress(struct codec_worker *worker, void *to, size_t capacity, const void *from, size_t size)
{
    const double start = clock_seconds();
    const size_t result = ZSTD_compress2(worker->compressor, to, capacity, from, size);
    worker->entropy_seconds += clock_seconds() - start;
    return result;
}

size_t worker_decompress(struct codec_worker *worker, void *to, size_t capacity, const void *from, size_t size)
{
    const double start = clock_seconds();
    const size_t result = ZSTD_decompressDCtx(worker->decompressor, to, capacity, from, size);
    worker->entropy_seconds += clock_seconds() - start;
    return result;
}
