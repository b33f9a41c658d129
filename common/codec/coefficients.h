/* coefficients.h: small integers to bytes and back: the entropy stage of the lossy codecs.
 *
 * What comes in are quantised values whose spread depends on their column: a codec sorts its columns by it,
 * so that neighbours are alike. Only common/codec includes this.
 */
#ifndef OFFRAMP_CODEC_COEFFICIENTS_H
#define OFFRAMP_CODEC_COEFFICIENTS_H

#include "common/codec/worker.h"

/* The most bytes for rows x cols; 0 when the shape is out of range. */
size_t coefficients_bound(int64_t rows, int64_t cols);

/* values [rows, cols] -> *size <= capacity bytes; capacity is at least coefficients_bound. deviation [cols]:
 * the spread that is expected of each column, in the values' own unit; NULL: nothing is known. Every int16
 * comes back as it went in, whatever the deviations say. */
int coefficients_encode(struct codec_worker *worker, const int16_t *values, const float *deviation,
                        int64_t rows, int64_t cols, unsigned char *bytes, size_t capacity, size_t *size,
                        struct error *error);

/* The same deviations as in coefficients_encode. The bytes are not trusted. */
int coefficients_decode(struct codec_worker *worker, const unsigned char *bytes, size_t size,
                        const float *deviation, int64_t rows, int64_t cols, int16_t *values,
                        struct error *error);

#endif
