#include "common/codec/rotate.h"

#include <oneapi/dnnl/dnnl.h>

/* From libgomp, whose header clang lacks: threads of parallel regions that the calling thread opens. */
void omp_set_num_threads(int threads);

static int check(dnnl_status_t status, struct error *error)
{
    return status == dnnl_success ? 0 : error_set(error, "oneDNN: a product failed (status %d)", (int)status);
}

int rotate(const float *x, const float *m, float alpha, int64_t rows, int64_t cols, float *y,
           struct error *error)
{
    omp_set_num_threads(1);
    return check(dnnl_sgemm('N', 'N', rows, cols, cols, alpha, x, cols, m, cols, 0, y, cols), error);
}

void transpose(const float *from, int64_t cols, float *to)
{
    for (int64_t r = 0; r < cols; r++)
        for (int64_t c = 0; c < cols; c++)
            to[c * cols + r] = from[r * cols + c];
}

int gram(const float *x, int64_t rows, int64_t cols, float *g, struct error *error)
{
    omp_set_num_threads(1);
    return check(dnnl_sgemm('T', 'N', cols, cols, rows, 1, x, cols, x, cols, 0, g, cols), error);
}
