/* draft_ridge.c: a draft that begins as a regression (draft_use_regression).
 *
 * The residual stream of a draft is g, which knows nothing of the token x; what x says must go through attention. Let
 * B [H, H] be the regression's rows of e, and C the moment of e. The rank-R map nearest to e B on the rows is
 * e B U U^T, with U the R eigenvectors of B^T C B that belong to the largest eigenvalues (reduced-rank regression,
 * Izenman 1975). So v = (B U)^T on e, and o = U.
 */
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

#include "common/base/blas.h"
#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/head/draft_parts.h"

/* A row's score with itself, of q . k / sqrt(head size): so much that the others, 512 or so, hardly count. */
#define SELF_SCORE 40

struct regression {
    const struct head *head;
    const float *b; /* [H, H] */
    double *eigen; /* [H, H] column after column, ascending */
    float *q, *k, *v, *o; /* in the parameters' shapes */
};

/* eigen = the eigenvectors of B^T C B. */
static int find_directions(const struct regression *regression, const double *moment, struct error *error)
{
    const int64_t hidden = regression->head->config.hidden;
    const float *b = regression->b;
    double *product, *values;
    int result = -1;
    if (array_alloc(&product, hidden * hidden, error) < 0)
        return -1;
    if (array_alloc(&values, hidden, error) < 0)
        goto done;
    for (int64_t r = 0; r < hidden; r++) { /* C B */
        for (int64_t i = 0; i < hidden; i++)
            for (int64_t c = 0; c < hidden; c++)
                product[r * hidden + c] += moment[r * hidden + i] * (double)b[i * hidden + c];
    }
    for (int64_t i = 0; i < hidden; i++) { /* B^T (C B), which is symmetric */
        for (int64_t r = 0; r < hidden; r++)
            for (int64_t c = 0; c < hidden; c++)
                regression->eigen[r * hidden + c] += (double)b[i * hidden + r] * product[i * hidden + c];
    }
    blas_use_one_thread();
    const lapack_int info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', (lapack_int)hidden, regression->eigen,
                                           (lapack_int)hidden, values);
    result = info == 0 ? 0 : blas_fail((int)info, "the regression of a draft has no directions", error);
done:
    free(product);
    free(values);
    return result;
}

/* Value column `index` of all kv heads: its row of v, and the column of o that the first query head of the group has. */
static void set_value(const struct regression *regression, int64_t index)
{
    const struct model_config *config = &regression->head->config;
    const int64_t hidden = config->hidden, size = config->head_size;
    const int64_t group = config->attention_heads / config->kv_heads, columns = config->attention_heads * size;
    const double *direction = regression->eigen + (hidden - 1 - index) * hidden;
    const int64_t column = index / size * group * size + index % size;
    for (int64_t i = 0; i < hidden; i++) {
        double sum = 0;
        for (int64_t c = 0; c < hidden; c++)
            sum += (double)regression->b[i * hidden + c] * direction[c];
        regression->v[index * 2 * hidden + i] = (float)sum;
        regression->o[i * columns + column] = (float)direction[i];
    }
}

/* q and k of e, of the first query head of each group. */
static void set_keys(const struct regression *regression, uint64_t seed)
{
    const struct model_config *config = &regression->head->config;
    const int64_t hidden = config->hidden, size = config->head_size;
    const int64_t group = config->attention_heads / config->kv_heads;
    const double spread = sqrt(SELF_SCORE / (sqrt((double)size) * (double)hidden)); /* e has H squares in all */
    struct random random = {seed};
    for (int64_t r = 0; r < config->kv_heads * size; r++) {
        float *k = regression->k + r * 2 * hidden;
        float *q = regression->q + (r / size * group * size + r % size) * 2 * hidden;
        for (int64_t i = 0; i < hidden; i++) {
            k[i] = q[i] = (float)(spread * random_normal(&random));
            k[hidden + i] = q[hidden + i] = 0;
        }
    }
}

static int write_all(const struct regression *regression, const float *a, struct error *error)
{
    const struct head *head = regression->head;
    const struct matrix fc = head->parameter[DRAFT_FC].value;
    struct queue *queue;
    float *values;
    if (array_alloc(&values, fc.rows * fc.cols, error) < 0)
        return -1;
    for (int64_t r = 0; r < fc.rows; r++) {
        for (int64_t c = 0; c < fc.cols; c++)
            values[r * fc.cols + c] = a[c * fc.rows + r];
    }
    int result = queue_create(head->backend, &queue, error);
    if (result == 0) {
        op_write(queue, fc, values);
        op_write(queue, head->parameter[DRAFT_Q].value, regression->q);
        op_write(queue, head->parameter[DRAFT_K].value, regression->k);
        op_write(queue, head->parameter[DRAFT_V].value, regression->v);
        op_write(queue, head->parameter[DRAFT_O].value, regression->o);
        result = queue_wait(queue, error);
        queue_destroy(queue);
    }
    free(values);
    return result;
}

/* What head_initialise has left in a parameter. */
static int read_values(const struct head *head, enum draft_parameter parameter, float **values,
                       struct error *error)
{
    const struct matrix matrix = head->parameter[parameter].value;
    struct queue *queue;
    if (array_alloc(values, matrix.rows * matrix.cols, error) < 0 ||
        queue_create(head->backend, &queue, error) < 0)
        return -1;
    op_read(queue, matrix, *values);
    int result = queue_wait(queue, error);
    queue_destroy(queue);
    return result;
}

int draft_use_regression(struct head *head, const float *a, const double *moment, uint64_t seed,
                         struct error *error)
{
    const int64_t hidden = head->config.hidden, values = head->config.kv_heads * head->config.head_size;
    struct regression regression = {.head = head, .b = a + (head->spec.befores + 1) * hidden * hidden};
    int result = -1;
    if (array_alloc(&regression.eigen, hidden * hidden, error) < 0 ||
        read_values(head, DRAFT_Q, &regression.q, error) < 0 ||
        read_values(head, DRAFT_K, &regression.k, error) < 0 ||
        read_values(head, DRAFT_V, &regression.v, error) < 0 ||
        read_values(head, DRAFT_O, &regression.o, error) < 0 || find_directions(&regression, moment, error) < 0)
        goto done;
    for (int64_t i = 0; i < values; i++) {
        for (int64_t c = 0; c < 2 * hidden; c++)
            regression.v[i * 2 * hidden + c] = 0;
        if (i < hidden)
            set_value(&regression, i);
    }
    set_keys(&regression, seed);
    result = write_all(&regression, a, error);
done:
    free(regression.eigen);
    free(regression.q);
    free(regression.k);
    free(regression.v);
    free(regression.o);
    return result;
}
