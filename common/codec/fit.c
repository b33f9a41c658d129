#include "common/codec/fit.h"

#include <stdlib.h>

#include "common/base/memory.h"
#include "common/codec/rms.h"
#include "common/codec/rotate.h"

#define PIECE_ROWS 512

int moments_create(int64_t cols, struct moments **result, struct error *error)
{
    struct moments *moments = memory_alloc(1, sizeof *moments, error);
    size_t square;
    *result = NULL;
    if (!moments)
        return -1;
    moments->cols = cols;
    if (!size_multiply((size_t)cols, (size_t)cols, &square))
        error_set(error, "%lld columns are too many", (long long)cols);
    else if (array_alloc(&moments->sum, cols, error) == 0 &&
             array_alloc(&moments->products, square, error) == 0 &&
             array_alloc(&moments->part, square, error) == 0 &&
             array_alloc(&moments->rows, PIECE_ROWS * cols, error) == 0) {
        *result = moments;
        return 0;
    }
    moments_destroy(moments);
    return -1;
}

void moments_destroy(struct moments *moments)
{
    if (!moments)
        return;
    free(moments->sum);
    free(moments->products);
    free(moments->part);
    free(moments->rows);
    free(moments);
}

/* Up to PIECE_ROWS rows: products in f32, summed in f64. */
static int add_piece(struct moments *moments, const float *states, int64_t rows, struct error *error)
{
    const int64_t cols = moments->cols;
    for (int64_t r = 0; r < rows; r++) {
        float *normal = moments->rows + r * cols;
        uint16_t rms;
        if (normalise_row(states + r * cols, cols, normal, &rms, error) < 0)
            return -1;
        moments->count += rms != 0;
        for (int64_t c = 0; c < cols; c++)
            moments->sum[c] += normal[c];
    }
    if (gram(moments->rows, rows, cols, moments->part, error) < 0)
        return -1;
    for (int64_t i = 0; i < cols * cols; i++)
        moments->products[i] += moments->part[i];
    return 0;
}

int moments_add(struct moments *moments, const float *states, int64_t rows, struct error *error)
{
    for (int64_t r = 0; r < rows; r += PIECE_ROWS)
        if (add_piece(moments, states + r * moments->cols, rows - r < PIECE_ROWS ? rows - r : PIECE_ROWS,
                      error) < 0)
            return -1;
    return 0;
}

int moments_covariance(const struct moments *moments, double **covariance, struct error *error)
{
    const int64_t cols = moments->cols;
    const double count = (double)moments->count;
    if (moments->count < 2)
        return error_set(error, "%lld tokens are too few to fit a codec to", (long long)moments->count);
    if (array_alloc(covariance, cols * cols, error) < 0)
        return -1;
    for (int64_t i = 0; i < cols; i++)
        for (int64_t j = 0; j <= i; j++) {
            const double value =
                (moments->products[i * cols + j] - moments->sum[i] * moments->sum[j] / count) / count;
            (*covariance)[i * cols + j] = (*covariance)[j * cols + i] = value;
        }
    return 0;
}
