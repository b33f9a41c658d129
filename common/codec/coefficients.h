/* coefficients.h: turns small integers into bytes and back: the entropy stage of the lossy codecs.
 *
 * It is made for quantised values whose spread is that of their column times that of their row. Columns of
 * similar spread should be side by side, because the bytes say how a column differs from the one before it.
 * README.md says what was tried. Only common/codec includes this.
 */
#ifndef OFFRAMP_CODEC_COEFFICIENTS_H
#define OFFRAMP_CODEC_COEFFICIENTS_H

#include "common/codec/worker.h"

/* The most bytes for rows x cols; 0 when the shape is out of range. */
size_t coefficients_bound(int64_t rows, int64_t cols);

/* values [rows, cols] -> the payload's size; its bytes have room for coefficients_bound. Every int16 comes back
 * as it went in. The bytes are the same whatever instructions the machine has. */
int coefficients_encode(struct codec_worker *worker, const int16_t *values, int64_t rows, int64_t cols,
                        struct codec_payload *payload, struct error *error);

/* The bytes are not trusted. */
int coefficients_decode(struct codec_worker *worker, const unsigned char *bytes, size_t size, int64_t rows,
                        int64_t cols, int16_t *values, struct error *error);

#endif
