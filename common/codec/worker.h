/* worker.h: what a codec finds in a codec_worker. Only common/codec includes this. */
#ifndef OFFRAMP_CODEC_WORKER_H
#define OFFRAMP_CODEC_WORKER_H

#include "common/codec/codec.h"
#include "common/codec/rans.h"

struct codec_worker {
    unsigned char *plane; /* bytes between the transform and the entropy stage */
    size_t plane_capacity;
    uint32_t *sums; /* per column */
    size_t sums_capacity;
    uint16_t *bits; /* [cols], a row of bf16 */
    size_t bits_capacity;
    float *floats; /* [rows, cols] */
    size_t floats_capacity;
    int16_t *integers; /* [rows, cols] */
    size_t integers_capacity;
    struct rans *rans;
    const struct rans_path *path; /* the fastest there is */
    int16_t *model, *residuals; /* of coefficients.c */
    size_t model_capacity, residuals_capacity;
    int64_t *totals; /* per column */
    size_t totals_capacity;
    struct ZSTD_CCtx_s *packer; /* of pack.c, made at first use */
    struct ZSTD_DCtx_s *unpacker;
    double entropy_seconds; /* spent in pack.c and in coefficients.c */
};

/* rows * cols; 0 when the shape is out of what any codec takes: sides of at least 1, at most 2^29
 * values (their f32 form stays under LMDB's 4 GB limit of a value). */
size_t codec_values(int64_t rows, int64_t cols);

/* What encode and decode begin with: the shape is in range and `size`, a payload's or a capacity, is at
 * least `least` bytes. */
int codec_check(const char *name, int64_t rows, int64_t cols, size_t size, size_t least, struct error *error);

extern const struct codec codec_raw_f32, codec_raw, codec_lossless, codec_q8, codec_klt;

#endif
