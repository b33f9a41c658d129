#include "common/head/ridge.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/blas.h"
#include "common/base/memory.h"

/* ---- rows ---- */

/* `joined` [M, outputs + 1 + inputs] has the columns y, 1, x, so that one product of [1, x] with all of it
 * gives both sums, and only x changes from map to map. */
struct ridge_rows {
    int64_t inputs, outputs, capacity;
    int64_t count; /* that are set: M */
    struct buffer *joined, *weight;
    float *column; /* [capacity], host */
    float *y; /* [capacity, outputs], host */
};

int ridge_rows_create(struct backend *backend, int64_t inputs, int64_t outputs, int64_t capacity,
                      struct ridge_rows **result, struct error *error)
{
    struct ridge_rows *rows;
    size_t width, column, joined, values;
    *result = NULL;
    if (!size_add((size_t)inputs + 1, (size_t)outputs, &width) ||
        !size_multiply((size_t)capacity, sizeof(float), &column) || !size_multiply(column, width, &joined) ||
        !size_multiply((size_t)capacity, (size_t)outputs, &values))
        return error_set(error, "%lld rows of a regression from %lld to %lld values are too large",
                         (long long)capacity, (long long)inputs, (long long)outputs);
    if (array_alloc(&rows, 1, error) < 0)
        return -1;
    *rows = (struct ridge_rows){.inputs = inputs, .outputs = outputs, .capacity = capacity};
    if (buffer_create(backend, joined, &rows->joined, error) < 0 ||
        buffer_create(backend, column, &rows->weight, error) < 0 ||
        array_alloc(&rows->column, capacity, error) < 0 || array_alloc(&rows->y, values, error) < 0) {
        ridge_rows_destroy(rows);
        return -1;
    }
    *result = rows;
    return 0;
}

void ridge_rows_destroy(struct ridge_rows *rows)
{
    if (!rows)
        return;
    buffer_destroy(rows->joined);
    buffer_destroy(rows->weight);
    free(rows->column);
    free(rows->y);
    free(rows);
}

static struct matrix joined_of(const struct ridge_rows *rows)
{
    return matrix_f32(rows->joined, rows->count, rows->outputs + 1 + rows->inputs);
}

static struct matrix weight_of(const struct ridge_rows *rows)
{
    return matrix_f32(rows->weight, rows->count, 1);
}

void ridge_weigh(const float *y, int64_t count, int64_t outputs, float *weight)
{
    for (int64_t r = 0; r < count; r++) {
        double squares = 0;
        for (int64_t c = 0; c < outputs; c++)
            squares += (double)y[r * outputs + c] * (double)y[r * outputs + c];
        weight[r] = squares > 0 ? (float)((double)outputs / squares) : 0;
    }
}

int ridge_rows_set(struct ridge_rows *rows, struct queue *queue, struct matrix y, struct error *error)
{
    if (y.rows > rows->capacity)
        return error_set_kind(error, ERROR_INTERNAL, "%lld rows where %lld were said to be the most",
                              (long long)y.rows, (long long)rows->capacity);
    rows->count = y.rows;
    op_copy(queue, y, matrix_cols(joined_of(rows), 0, rows->outputs));
    op_read(queue, y, rows->y);
    if (queue_wait(queue, error) < 0)
        return -1;
    for (int64_t r = 0; r < rows->count; r++)
        rows->column[r] = 1;
    op_write(queue, matrix_cols(joined_of(rows), rows->outputs, 1), rows->column);
    ridge_weigh(rows->y, rows->count, rows->outputs, rows->column);
    op_write(queue, weight_of(rows), rows->column);
    return 0;
}

/* ---- sums ---- */

/* Some neighbouring rows of the sums, and where they lie. */
struct band {
    int64_t first, rows;
    int64_t offset, cols; /* of the buffer's values */
};

/* The band that begins with row `first`, which lies at `offset`. */
static struct band band_at(int64_t inputs, int64_t outputs, int64_t first, int64_t offset)
{
    const int64_t left = inputs + 1 - first, rows = left < RIDGE_BAND ? left : RIDGE_BAND;
    return (struct band){first, rows, offset, outputs + first + rows};
}

static struct band first_band(int64_t inputs, int64_t outputs)
{
    return band_at(inputs, outputs, 0, 0);
}

/* Without rows behind the last one. */
static struct band next_band(int64_t inputs, int64_t outputs, struct band band)
{
    return band_at(inputs, outputs, band.first + band.rows, band.offset + band.rows * band.cols);
}

int64_t ridge_sums_values(int64_t inputs, int64_t outputs)
{
    struct band band = first_band(inputs, outputs);
    while (band.rows > 0)
        band = next_band(inputs, outputs, band);
    return band.offset;
}

int ridge_sums_create(struct backend *backend, int64_t inputs, int64_t outputs, struct ridge_sums *sums,
                      struct error *error)
{
    size_t width, bytes;
    *sums = (struct ridge_sums){.inputs = inputs, .outputs = outputs};
    if (!size_add((size_t)inputs + 1, (size_t)outputs, &width) ||
        !size_multiply((size_t)inputs + 1, width, &bytes) || !size_multiply(bytes, sizeof(double), &bytes))
        return error_set(error, "a regression from %lld to %lld values is too large", (long long)inputs,
                         (long long)outputs);
    return buffer_create(backend, (size_t)ridge_sums_values(inputs, outputs) * sizeof(double), &sums->buffer,
                         error);
}

void ridge_sums_free(struct ridge_sums *sums)
{
    buffer_destroy(sums->buffer);
    *sums = (struct ridge_sums){0};
}

static struct matrix band_matrix(const struct ridge_sums *sums, struct band band)
{
    struct matrix matrix = matrix_f64(sums->buffer, band.rows, band.cols);
    matrix.offset = band.offset;
    return matrix;
}

void ridge_sums_add(struct ridge_sums *sums, struct queue *queue, struct ridge_rows *rows, struct matrix x)
{
    const struct matrix joined = joined_of(rows);
    const int64_t inputs = sums->inputs, outputs = sums->outputs;
    op_copy(queue, x, matrix_cols(joined, outputs + 1, inputs));
    for (struct band band = first_band(inputs, outputs); band.rows > 0; band = next_band(inputs, outputs, band))
        op_gram(queue, matrix_cols(joined, outputs + band.first, band.rows), matrix_cols(joined, 0, band.cols),
                weight_of(rows), band_matrix(sums, band));
}

int ridge_sums_read(const struct ridge_sums *sums, struct queue *queue, double **values, struct error *error)
{
    const int64_t count = ridge_sums_values(sums->inputs, sums->outputs);
    if (array_alloc(values, count, error) < 0)
        return -1;
    op_read(queue, matrix_f64(sums->buffer, 1, count), *values);
    if (queue_wait(queue, error) == 0)
        return 0;
    free(*values);
    *values = NULL;
    return -1;
}

/* ---- the map ---- */

/* Both sums by columns, as LAPACK takes them: gram [size, size], of which the lower half counts, and cross [outputs, size].
 * Returns the trace. */
static double spread(const double *values, int64_t inputs, int64_t outputs, double *gram, double *cross)
{
    const int64_t size = inputs + 1;
    double trace = 0;
    for (struct band band = first_band(inputs, outputs); band.rows > 0; band = next_band(inputs, outputs, band))
        for (int64_t r = 0; r < band.rows; r++) {
            const double *row = values + band.offset + r * band.cols;
            const int64_t at = band.first + r;
            for (int64_t o = 0; o < outputs; o++)
                cross[o * size + at] = row[o];
            for (int64_t c = 0; c <= at; c++)
                gram[c * size + at] = row[outputs + c];
            trace += row[outputs + at];
        }
    return trace;
}

int ridge_solve_gram(double *gram, int64_t size, double *cross, int64_t outputs, struct error *error)
{
    double trace = 0;
    for (int64_t r = 0; r < size; r++)
        trace += gram[r * size + r];
    for (int64_t r = 0; r < size; r++)
        gram[r * size + r] += RIDGE_SHARE * trace / (double)size;
    blas_use_one_thread();
    const lapack_int info = LAPACKE_dposv(LAPACK_COL_MAJOR, 'L', (lapack_int)size, (lapack_int)outputs, gram,
                                          (lapack_int)size, cross, (lapack_int)size);
    if (info == 0 && isfinite(trace))
        return 0;
    return error_set(error, "the regression has no solution (%s)",
                     info > 0 && isfinite(trace) ? "its matrix is not positive definite: too few tokens?"
                                                 : "the states hold something that is not a number");
}

int ridge_solve(const double *values, int64_t inputs, int64_t outputs, float *a, float *b, struct error *error)
{
    const int64_t size = inputs + 1;
    double *gram = NULL, *cross = NULL;
    int result = -1;
    if (array_alloc(&gram, size * size, error) < 0 || array_alloc(&cross, size * outputs, error) < 0)
        goto done;
    spread(values, inputs, outputs, gram, cross);
    if (ridge_solve_gram(gram, size, cross, outputs, error) < 0)
        goto done;
    for (int64_t c = 0; c < outputs; c++) {
        b[c] = (float)cross[c * size];
        for (int64_t i = 0; i < inputs; i++)
            a[i * outputs + c] = (float)cross[c * size + 1 + i];
    }
    result = 0;
done:
    free(gram);
    free(cross);
    return result;
}

/* ---- a map of a lower rank ---- */

/* The lower triangle L of S = L L^T, by rows [size, size], and g [size] / G_11, from the sums. */
static int centred_root(const double *values, int64_t size, double *root, double *mean, struct error *error)
{
    const int64_t all = size + 1;
    double *gram = NULL, *cross = NULL;
    int result = -1;
    if (array_alloc(&gram, all * all, error) < 0 || array_alloc(&cross, all * size, error) < 0)
        goto done;
    const double ridge = RIDGE_SHARE * spread(values, size, size, gram, cross) / (double)all;
    for (int64_t r = 0; r < all; r++)
        gram[r * all + r] += ridge;
    for (int64_t r = 0; r < size; r++)
        mean[r] = gram[r + 1] / gram[0]; /* column 0 is g */
    for (int64_t r = 0; r < size; r++) {
        for (int64_t c = 0; c <= r; c++)
            root[r * size + c] = gram[(c + 1) * all + r + 1] - mean[r] * gram[c + 1];
    }
    blas_use_one_thread();
    const lapack_int info = LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', (lapack_int)size, root, (lapack_int)size);
    result = info == 0 ? 0
                       : blas_fail((int)info,
                                   "the regression has no map of a lower rank: its matrix is not positive "
                                   "definite; too few tokens?",
                                   error);
done:
    free(gram);
    free(cross);
    return result;
}

/* scatter [size, size], its lower triangle, = m^T L L^T m. */
static int scatter_of(const double *root, const double *m, int64_t size, double *scatter, struct error *error)
{
    double *row; /* of L^T m */
    if (array_alloc(&row, size, error) < 0)
        return -1;
    for (int64_t k = 0; k < size; k++) {
        memset(row, 0, (size_t)size * sizeof *row);
        for (int64_t i = k; i < size; i++) {
            for (int64_t c = 0; c < size; c++)
                row[c] += root[i * size + k] * m[i * size + c];
        }
        for (int64_t r = 0; r < size; r++) {
            for (int64_t c = 0; c <= r; c++)
                scatter[r * size + c] += row[r] * row[c];
        }
    }
    free(row);
    return 0;
}

/* u, v and c from Q [size, rank], m = A - I, b and mean. */
static void write_lower(const double *q, const double *m, const float *b, const double *mean, int64_t size,
                        int64_t rank, double *rest, float *u, float *v, float *c)
{
    for (int64_t i = 0; i < size; i++) {
        rest[i] = 0; /* of mean^T m */
        for (int64_t j = 0; j < size; j++)
            rest[i] += mean[j] * m[j * size + i];
    }
    for (int64_t i = 0; i < size; i++)
        c[i] = (float)((double)b[i] + rest[i]);
    for (int64_t k = 0; k < rank; k++) {
        double along = 0;
        for (int64_t i = 0; i < size; i++)
            along += rest[i] * q[i * rank + k];
        for (int64_t i = 0; i < size; i++) {
            double sum = 0;
            for (int64_t j = 0; j < size; j++)
                sum += m[i * size + j] * q[j * rank + k];
            u[i * rank + k] = (float)sum;
            v[k * size + i] = (float)q[i * rank + k];
            c[i] -= (float)(along * q[i * rank + k]);
        }
    }
}

int ridge_lower(const double *values, int64_t size, const float *a, const float *b, int64_t rank, float *u,
                float *v, float *c, struct error *error)
{
    double *m = NULL, *root = NULL, *scatter = NULL, *mean = NULL, *eigen = NULL, *q = NULL;
    lapack_int *support = NULL, found = 0;
    int result = -1;
    if (array_alloc(&m, size * size, error) < 0 || array_alloc(&root, size * size, error) < 0 ||
        array_alloc(&scatter, size * size, error) < 0 || array_alloc(&mean, size, error) < 0 ||
        array_alloc(&eigen, size, error) < 0 || array_alloc(&q, size * rank, error) < 0 ||
        array_alloc(&support, 2 * size, error) < 0)
        goto done;
    for (int64_t i = 0; i < size * size; i++)
        m[i] = (double)a[i] - (i % (size + 1) == 0);
    if (centred_root(values, size, root, mean, error) < 0 || scatter_of(root, m, size, scatter, error) < 0)
        goto done;
    const lapack_int info = LAPACKE_dsyevr(LAPACK_ROW_MAJOR, 'V', 'I', 'L', (lapack_int)size, scatter,
                                           (lapack_int)size, 0, 0, (lapack_int)(size - rank + 1),
                                           (lapack_int)size, 0, &found, eigen, q, (lapack_int)rank, support);
    if (info != 0 || found != rank) {
        blas_fail((int)info, "the regression has no map of that rank", error);
        goto done;
    }
    write_lower(q, m, b, mean, size, rank, eigen, u, v, c);
    result = 0;
done:
    free(m);
    free(root);
    free(scatter);
    free(mean);
    free(eigen);
    free(q);
    free(support);
    return result;
}
