#include "train/ridge.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/blas.h"
#include "common/base/memory.h"

static const double relative_ridge = 1e-4;

/* Device matrix `joined` [rows, 2 H + 1] has the columns y, 1, x, so that only x changes from tap to tap
 * and one product of [1, x] with all of it gives both sums. */
struct ridge {
    struct queue *queue;
    int64_t hidden, capacity;
    int count;
    struct buffer *joined, *weight, *mean;
    struct buffer **sums; /* [count], each [H + 1, 2 H + 1] f64: rows 1, x; columns y, 1, x */
    float *column, *row; /* [capacity], [H], host */
};

int ridge_create(struct backend *backend, int64_t hidden, int count, int64_t rows, struct ridge **ridge,
                 struct error *error)
{
    struct ridge *made;
    size_t bytes;
    *ridge = NULL;
    if (!size_multiply((size_t)hidden + 1, 2 * (size_t)hidden + 1, &bytes) ||
        !size_multiply(bytes, sizeof(double), &bytes))
        return error_set(error, "a regression of %lld columns is too large", (long long)hidden);
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    *made = (struct ridge){.hidden = hidden, .capacity = rows, .count = count};
    const size_t column = (size_t)rows * sizeof(float);
    if (queue_create(backend, &made->queue, error) < 0 || array_alloc(&made->sums, count, error) < 0 ||
        buffer_create(backend, column * (2 * (size_t)hidden + 1), &made->joined, error) < 0 ||
        buffer_create(backend, column, &made->weight, error) < 0 ||
        array_alloc(&made->column, rows, error) < 0 || array_alloc(&made->row, hidden, error) < 0)
        goto fail;
    for (int t = 0; t < count; t++) {
        if (buffer_create(backend, bytes, &made->sums[t], error) < 0)
            goto fail;
    }
    *ridge = made;
    return 0;
fail:
    ridge_destroy(made);
    return -1;
}

void ridge_destroy(struct ridge *ridge)
{
    if (!ridge)
        return;
    for (int t = 0; ridge->sums && t < ridge->count; t++)
        buffer_destroy(ridge->sums[t]);
    buffer_destroy(ridge->joined);
    buffer_destroy(ridge->weight);
    queue_destroy(ridge->queue);
    free(ridge->sums);
    free(ridge->column);
    free(ridge->row);
    free(ridge);
}

static struct matrix joined_rows(const struct ridge *ridge, int64_t rows)
{
    return matrix_f32(ridge->joined, rows, 2 * ridge->hidden + 1);
}

/* column[r] = 1 / mean of row r's squares. */
static void weigh(struct ridge *ridge, const struct states_view *y, int64_t rows)
{
    const int64_t hidden = ridge->hidden;
    size_t bytes = 0;
    dtype_row_bytes(y->type, hidden, &bytes);
    for (int64_t r = 0; r < rows; r++) {
        double squares = 0;
        dtype_to_f32(y->type, (const char *)y->values + (size_t)r * bytes, hidden, ridge->row);
        for (int64_t c = 0; c < hidden; c++)
            squares += (double)ridge->row[c] * ridge->row[c];
        ridge->column[r] = squares > 0 ? (float)((double)hidden / squares) : 0;
    }
}

int ridge_add(struct ridge *ridge, struct states_view *const *states, int64_t rows, struct error *error)
{
    const int64_t hidden = ridge->hidden;
    struct matrix joined = joined_rows(ridge, rows);
    struct matrix weight = matrix_f32(ridge->weight, rows, 1);
    const struct states_view *y = states[ridge->count];
    if (rows > ridge->capacity)
        return error_set(error, "%lld rows where %lld were said to be the most", (long long)rows,
                         (long long)ridge->capacity);
    feed_write(ridge->queue, y, 1, matrix_cols(joined, 0, hidden));
    for (int64_t r = 0; r < rows; r++)
        ridge->column[r] = 1;
    op_write(ridge->queue, matrix_cols(joined, hidden, 1), ridge->column);
    weigh(ridge, y, rows);
    op_write(ridge->queue, weight, ridge->column);
    for (int t = 0; t < ridge->count; t++) {
        feed_write(ridge->queue, states[t], 1, matrix_cols(joined, hidden + 1, hidden));
        op_gram(ridge->queue, matrix_cols(joined, hidden, hidden + 1), joined, weight,
                matrix_f64(ridge->sums[t], hidden + 1, 2 * hidden + 1));
    }
    return queue_wait(ridge->queue, error);
}

int ridge_solve(struct ridge *ridge, int tap, float *a, float *b, struct error *error)
{
    const int64_t hidden = ridge->hidden, size = hidden + 1, width = 2 * hidden + 1;
    double *sums = NULL, *gram = NULL, *cross = NULL, trace = 0;
    int result = -1;
    if (array_alloc(&sums, size * width, error) < 0 || array_alloc(&gram, size * size, error) < 0 ||
        array_alloc(&cross, size * hidden, error) < 0)
        goto done;
    op_read(ridge->queue, matrix_f64(ridge->sums[tap], size, width), sums);
    if (queue_wait(ridge->queue, error) < 0)
        goto done;
    for (int64_t r = 0; r < size; r++) {
        memcpy(cross + r * hidden, sums + r * width, (size_t)hidden * sizeof *cross);
        memcpy(gram + r * size, sums + r * width + hidden, (size_t)size * sizeof *gram);
        trace += gram[r * size + r];
    }
    for (int64_t r = 0; r < size; r++)
        gram[r * size + r] += relative_ridge * trace / (double)size;
    blas_use_one_thread();
    lapack_int info = LAPACKE_dposv(LAPACK_ROW_MAJOR, 'L', (lapack_int)size, (lapack_int)hidden, gram,
                                    (lapack_int)size, cross, (lapack_int)hidden);
    if (info == LAPACK_WORK_MEMORY_ERROR || info == LAPACK_TRANSPOSE_MEMORY_ERROR) {
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory for a regression of %lld values",
                       (long long)size);
        goto done;
    }
    if (info != 0 || !isfinite(trace)) {
        error_set(error, "the regression has no solution (%s)",
                  isfinite(trace) ? "its matrix is not positive definite: too few tokens?"
                                  : "the states hold something that is not a number");
        goto done;
    }
    for (int64_t c = 0; c < hidden; c++)
        b[c] = (float)cross[c];
    for (int64_t i = 0; i < hidden * hidden; i++)
        a[i] = (float)cross[hidden + i];
    result = 0;
done:
    free(sums);
    free(gram);
    free(cross);
    return result;
}
