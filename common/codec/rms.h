/* rms.h: the root mean square of a token's state, as lossy codecs keep it. Only common/codec includes this.
 *
 * In most models a few tokens have states of a hundred times the usual size. So the error of a token goes by
 * its own size, and the large tokens do not spoil the others.
 */
#ifndef OFFRAMP_CODEC_RMS_H
#define OFFRAMP_CODEC_RMS_H

#include <math.h>

#include "common/base/error.h"
#include "kernels/dtype.h"

/* *rms: of a row of `cols` values, rounded to bf16; 0 for a row that is zero or too small for the normal
 * numbers of bf16 (it is decoded as zeros). -1 when a value is not finite. The sum has 8 parts, in a fixed
 * order. */
static inline int row_rms(const float *row, int64_t cols, uint16_t *rms, struct error *error)
{
    double chain[8] = {0}, sum = 0;
    int64_t c = 0;
    for (; c + 8 <= cols; c += 8)
        for (int i = 0; i < 8; i++)
            chain[i] += (double)row[c + i] * row[c + i];
    for (; c < cols; c++)
        sum += (double)row[c] * row[c];
    for (int i = 0; i < 8; i++)
        sum += chain[i];
    const double root = sqrt(sum / (double)cols);
    if (!isfinite(root))
        return error_set(error, "a state is not a finite number");
    *rms = f32_to_bf16((float)root);
    const uint16_t exponent = *rms >> 7;
    if (exponent == 0)
        *rms = 0;
    else if (exponent == 0xff)
        *rms = 0x7f7f; /* the largest finite one */
    return 0;
}

/* normal [cols] = the row divided by its RMS, zeros when that is 0. */
static inline int normalise_row(const float *restrict row, int64_t cols, float *restrict normal, uint16_t *rms,
                                struct error *error)
{
    *rms = 0;
    if (row_rms(row, cols, rms, error) < 0)
        return -1;
    const float inverse = *rms ? 1 / bf16_to_f32(*rms) : 0;
    for (int64_t c = 0; c < cols; c++)
        normal[c] = row[c] * inverse;
    return 0;
}

#endif
