#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_c_literalCompressionMode */
#include "common/codec/pack.h"

#include <zstd.h>
#include <zstd_errors.h>

#include "common/base/clock.h"

/* The fast strategy steps over `targetLength` positions after each failure, so that the longest one leaves a
 * block at once; zstd would then store literals as they are, and must be told to code them. */
static int set_huffman_only(ZSTD_CCtx *context, struct error *error)
{
    static const struct {
        ZSTD_cParameter key;
        int value;
    } settings[] = {
        {ZSTD_c_strategy, ZSTD_fast},
        {ZSTD_c_windowLog, 17}, /* blocks have 128 KB, the most there is */
        {ZSTD_c_hashLog, 6},
        {ZSTD_c_minMatch, 7},
        {ZSTD_c_targetLength, 1 << 17},
        {ZSTD_c_literalCompressionMode, ZSTD_ps_enable},
        {ZSTD_c_contentSizeFlag, 0},
        {ZSTD_c_checksumFlag, 0},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const size_t code = ZSTD_CCtx_setParameter(context, settings[i].key, settings[i].value);
        if (ZSTD_isError(code))
            return error_set(error, "zstd %s does not take a setting that this codec needs (%s): use 1.5",
                             ZSTD_versionString(), ZSTD_getErrorName(code));
    }
    return 0;
}

static int open_packer(struct codec_worker *worker, struct error *error)
{
    if (worker->packer)
        return 0;
    worker->packer = ZSTD_createCCtx();
    if (!worker->packer)
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory for zstd");
    if (set_huffman_only(worker->packer, error) == 0)
        return 0;
    ZSTD_freeCCtx(worker->packer);
    worker->packer = NULL;
    return -1;
}

static int open_unpacker(struct codec_worker *worker, struct error *error)
{
    if (!worker->unpacker)
        worker->unpacker = ZSTD_createDCtx();
    return worker->unpacker ? 0 : error_set_kind(error, ERROR_NO_MEMORY, "out of memory for zstd");
}

/* Of a call that failed. */
static enum error_kind kind_of(size_t code)
{
    return ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation ? ERROR_NO_MEMORY : ERROR_INPUT;
}

size_t pack_bound(size_t count)
{
    return ZSTD_compressBound(count);
}

int pack(struct codec_worker *worker, const unsigned char *values, size_t count, unsigned char *bytes,
         size_t capacity, size_t *size, struct error *error)
{
    const double start = clock_seconds();
    if (open_packer(worker, error) < 0)
        return -1;
    const size_t result = ZSTD_compress2(worker->packer, bytes, capacity, values, count);
    worker->entropy_seconds += clock_seconds() - start;
    if (ZSTD_isError(result))
        return error_set_kind(error, kind_of(result), "zstd cannot pack %zu bytes: %s", count,
                              ZSTD_getErrorName(result));
    *size = result;
    return 0;
}

int unpack(struct codec_worker *worker, const unsigned char *bytes, size_t size, unsigned char *values,
           size_t count, struct error *error)
{
    const double start = clock_seconds();
    if (open_unpacker(worker, error) < 0)
        return -1;
    const size_t result = ZSTD_decompressDCtx(worker->unpacker, values, count, bytes, size);
    worker->entropy_seconds += clock_seconds() - start;
    if (ZSTD_isError(result))
        return error_set_kind(error, kind_of(result), "its packed bytes cannot be read (zstd: %s)",
                              ZSTD_getErrorName(result));
    if (result != count)
        return error_set(error, "its packed bytes hold %zu values, not %zu", result, count);
    return 0;
}
