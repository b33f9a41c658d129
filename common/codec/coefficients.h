/* coefficients.h: small integers to bytes and back: the entropy stage of the lossy codecs.
 *
 * Built for quantised values whose spread is a column's times a row's. Columns of like spread belong side by side:
 * how a column differs from the one before it is written into the bytes, and nothing else needs to be known.
 * README.md says what was tried. Only common/codec includes this.
 */
#ifndef OFFRAMP_CODEC_COEFFICIENTS_H
#define OFFRAMP_CODEC_COEFFICIENTS_H

#include "common/codec/worker.h"

/* The most bytes for rows x cols; 0 when the shape is out of range. */
size_t coefficients_bound(int64_t rows, int64_t cols);

/* values [rows, cols] -> the payload's size; its bytes have room for coefficients_bound. Every int16 comes back as it went
 * in. The bytes are the same whatever instructions the machine has. */
int coefficients_encode(struct codec_worker *worker, const int16_t *values, int64_t rows, int64_t cols,
                        struct codec_payload *payload, struct error *error);

/* The bytes are not trusted. */
int coefficients_decode(struct codec_worker *worker, const unsigned char *bytes, size_t size, int64_t rows,
                        int64_t cols, int16_t *values, struct error *error);

#endif
