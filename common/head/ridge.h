/* ridge.h: the affine map from one state to another in closed form, without a gradient step.
 *
 * Weighted ridge regression. A row has inputs x, outputs y and the weight w = 1 / mean(y^2): a few tokens have
 * 150 times the usual norm, and without the weight nothing else would be fitted. The map is y = x A + b. With a
 * 1 before x,
 *     [b; A] = (sum w x x^T + r I)^-1 sum w x y^T,        r = 1e-4 of the mean of the diagonal.
 *
 * The two sums are all that is kept of the rows, so one read of the data serves every map. To sum and to solve
 * are apart:
 *
 *     y --> ridge_rows ---+
 *                         +--> ridge_sums, one a map --> values on the host --> ridge_solve --> A, b
 *     x ------------------+                              (add those of other rows here)
 *
 * Caveat: products of at most 512 rows are in f32. So the sums depend on how the rows are cut into calls, and
 * the same bytes need the same cuts in the same order.
 *
 *     ridge_rows_create(backend, inputs, outputs, capacity, &rows, error);
 *     ridge_sums_create(backend, inputs, outputs, &sums, error);
 *     for each part of the data:
 *         ridge_rows_set(rows, queue, y, error);
 *         ridge_sums_add(&sums, queue, rows, x);             // for each map
 *     ridge_sums_read(&sums, queue, &values, error);
 *     ridge_solve(values, inputs, outputs, a, b, error);
 */
#ifndef OFFRAMP_HEAD_RIDGE_H
#define OFFRAMP_HEAD_RIDGE_H

#include <stdint.h>

#include "kernels/ops.h"

#define RIDGE_SHARE 1e-4 /* r, of the mean of the diagonal */

/* weight [count] = 1 / mean(y^2) of each row of y [count, outputs]; 0 of a row of zeros. On the host. */
void ridge_weigh(const float *y, int64_t count, int64_t outputs, float *weight);

/* Some rows' outputs and weights, to which maps of the same widths bring their inputs. */
struct ridge_rows;

/* At most `capacity` rows at a time. */
int ridge_rows_create(struct backend *backend, int64_t inputs, int64_t outputs, int64_t capacity,
                      struct ridge_rows **rows, struct error *error);
void ridge_rows_destroy(struct ridge_rows *rows); /* NULL is fine */

/* y [M, outputs], f32. Waits for the queue: weights are computed on the host. */
int ridge_rows_set(struct ridge_rows *rows, struct queue *queue, struct matrix y, struct error *error);

/* The sums of one map, zero at the beginning.
 *
 * There is a row for 1 and for each x, with the columns y, 1, x. The part behind y is symmetric, so each band of
 * RIDGE_BAND rows ends with the column of its last row, and half of that part is neither computed nor kept:
 *
 *     y y y y | 1 x             band 0
 *     y y y y | 1 x x x         band 1          the bands lie one behind the other
 *     y y y y | 1 x x x x x     band 2
 */
#define RIDGE_BAND 256
struct ridge_sums {
    int64_t inputs, outputs;
    struct buffer *buffer; /* [ridge_sums_values] f64 */
};

/* How many doubles they are. Sizes that are too large for ridge_sums_create are not to be asked for. */
int64_t ridge_sums_values(int64_t inputs, int64_t outputs);

int ridge_sums_create(struct backend *backend, int64_t inputs, int64_t outputs, struct ridge_sums *sums,
                      struct error *error);
void ridge_sums_free(struct ridge_sums *sums); /* a zeroed one is fine */

/* Adds the rows that were set last, with the inputs x [M, inputs], f32, of this map. */
void ridge_sums_add(struct ridge_sums *sums, struct queue *queue, struct ridge_rows *rows, struct matrix x);

/* The sums on the host, freshly allocated, in the buffer's order. Sums of other rows may be added value by
 * value. */
int ridge_sums_read(const struct ridge_sums *sums, struct queue *queue, double **values, struct error *error);

/* The solution of a regression whose sums somebody else has put together, in the place of cross: gram [size, size], the lower
 * half of it, and cross [size, outputs], both column after column. Spends gram. On one thread. Errors as ridge_solve's. */
int ridge_solve_gram(double *gram, int64_t size, double *cross, int64_t outputs, struct error *error);

/* a [inputs, outputs] and b [outputs]. On one thread; takes (inputs + 1) (inputs + 1 + outputs) doubles of memory. An error
 * when the sums hold no information, or something that is not a number. */
int ridge_solve(const double *values, int64_t inputs, int64_t outputs, float *a, float *b, struct error *error);

/* The map of a lower rank that is best for the same regression, from its solution a [size, size], b [size], where inputs
 * and outputs are of one size:
 *
 *     y = x + x u v + c,        u [size, rank], v [rank, size], c [size]
 *
 * With G = sum w x x^T + r I as above, 1 before x, the regression takes from [c; u v] what
 * tr(([c; u v] - [b; A - I])^T G ([c; u v] - [b; A - I])) says more than its solution. c may be anything, so G without its
 * row for 1 becomes S = G_xx - g g^T / G_11, g the row for 1. The best u v of the rank is then (A - I) Q Q^T, with Q the
 * eigenvectors of (A - I)^T S (A - I) of the largest eigenvalues (reduced-rank regression, Izenman 1975). So
 *     u = (A - I) Q,        v = Q^T,        c = b + g^T (A - I) (I - Q Q^T) / G_11. */
int ridge_lower(const double *values, int64_t size, const float *a, const float *b, int64_t rank, float *u,
                float *v, float *c, struct error *error);

#endif
