/* rotate.h: products of records with a square matrix. Only common/codec includes this.
 *
 * One call of oneDNN's sgemm on one thread, which makes the bytes independent of how many threads a program
 * has. (Codecs see nothing of kernels/: a product here takes host memory, needs no queue, and runs in any
 * thread that has a codec_worker.)
 */
#ifndef OFFRAMP_CODEC_ROTATE_H
#define OFFRAMP_CODEC_ROTATE_H

#include <stdint.h>

#include "common/base/error.h"

/* y [rows, cols] = alpha * x [rows, cols] m [cols, cols]; y may not overlap x. A caller that needs the
 * transpose of a matrix keeps a transposed copy: with wide states oneDNN takes twice the time for a transposed
 * right side. */
int rotate(const float *x, const float *m, float alpha, int64_t rows, int64_t cols, float *y,
           struct error *error);

/* to [cols, cols] = the transpose of from [cols, cols]. */
void transpose(const float *from, int64_t cols, float *to);

/* g [cols, cols] = x^T x of x [rows, cols]. */
int gram(const float *x, int64_t rows, int64_t cols, float *g, struct error *error);

#endif
