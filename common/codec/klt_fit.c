/* klt's parameters: the basis from LAPACK, and the spacing that gives so many bits. */
#include "common/codec/klt.h"

#include <lapacke.h>
#include <stdlib.h>

#include "common/base/blas.h"
#include "common/base/memory.h"
#include "common/codec/rms.h"
#include "common/codec/rotate.h"

#define KLT_VERSION 1
static const char klt_magic[4] = {'O', 'F', 'R', 'K'};

/* ---- the header ---- */

size_t klt_parameters_size(int64_t cols)
{
    return sizeof(struct klt_header) + (size_t)(cols * (cols + 1)) * sizeof(float);
}

/* The header for so many columns. All else is 0. */
static struct klt_header make_header(int64_t cols)
{
    struct klt_header header = {.version = KLT_VERSION, .cols = (uint32_t)cols};
    memcpy(header.magic, klt_magic, sizeof header.magic);
    return header;
}

int klt_header_read(const void *parameters, size_t size, struct klt_header *header, struct error *error)
{
    if (size < sizeof *header)
        return error_set(error, "%zu bytes are too few", size);
    memcpy(header, parameters, sizeof *header);
    if (memcmp(header->magic, klt_magic, sizeof klt_magic) != 0)
        return error_set(error, "these are not parameters of klt");
    if (header->version != KLT_VERSION || header->reserved != 0 || header->reserved2 != 0)
        return error_set(error, "they have format version %u; this program reads %d: use a newer one",
                         header->version, KLT_VERSION);
    if (header->cols < 1 || header->cols > KLT_MOST_COLS || size != klt_parameters_size(header->cols))
        return error_set(error, "%zu bytes are not those of %u columns", size, header->cols);
    return 0;
}

int klt_set(void *parameters, size_t size, const struct codec_setting *setting, struct error *error)
{
    struct klt_header header;
    if (klt_header_read(parameters, size, &header, error) < 0)
        return -1;
    header.spacing = (float)setting->spacing;
    header.bits = (float)setting->bits;
    header.loss = (float)setting->loss;
    memcpy(parameters, &header, sizeof header);
    return 0;
}

/* ---- the basis ---- */

/* Eigenvectors are unique but for their sign: the largest component is made positive. */
static void fix_sign(float *direction, int64_t cols)
{
    int64_t largest = 0;
    for (int64_t i = 1; i < cols; i++)
        if (fabsf(direction[i]) > fabsf(direction[largest]))
            largest = i;
    const float sign = direction[largest] < 0 ? -1 : 1;
    for (int64_t i = 0; i < cols; i++)
        direction[i] *= sign;
}

/* The basis [cols, cols] of the eigenvectors, largest variance first. */
static int decompose(double *covariance, int64_t cols, float *basis, struct error *error)
{
    double *variance;
    if (array_alloc(&variance, cols, error) < 0)
        return -1;
    blas_use_one_thread();
    /* Column-major: eigenvector i lies in row i of our matrix, and a symmetric matrix is its transpose. */
    const lapack_int info =
        LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', (lapack_int)cols, covariance, (lapack_int)cols, variance);
    for (int64_t c = 0; c < cols && info == 0; c++) {
        const int64_t from = cols - 1 - c; /* LAPACK's order ascends */
        for (int64_t i = 0; i < cols; i++)
            basis[c * cols + i] = (float)covariance[from * cols + i];
        fix_sign(basis + c * cols, cols);
    }
    free(variance);
    return info == 0 ? 0 : blas_fail((int)info, "the covariance has no eigenvectors", error);
}

int klt_fit(const struct moments *moments, struct string *parameters, struct error *error)
{
    const int64_t cols = moments->cols;
    struct klt_header header = make_header(cols);
    double *covariance = NULL;
    float *values = NULL; /* mean, basis */
    int result = -1;
    if (cols < 1 || cols > KLT_MOST_COLS)
        return error_set(error, "klt takes states of 1 to %d values, not %lld", KLT_MOST_COLS, (long long)cols);
    if (moments_covariance(moments, &covariance, error) < 0 ||
        array_alloc(&values, cols * (cols + 1), error) < 0)
        goto done;
    for (int64_t c = 0; c < cols; c++)
        values[c] = (float)(moments->sum[c] / (double)moments->count);
    if (decompose(covariance, cols, values + cols, error) < 0)
        goto done;
    string_append(parameters, (const char *)&header, sizeof header);
    string_append(parameters, (const char *)values, klt_parameters_size(cols) - sizeof header);
    result = string_failed(parameters, error) ? -1 : 0;
done:
    free(covariance);
    free(values);
    return result;
}

/* ---- the spacing ---- */

#define LEAST_SPACING 1e-4
#define MOST_SPACING  1e3
#define HALVINGS      40

/* The states' coefficients column after column: values [cols, rows]; free() them. */
static int coefficients_by_column(const float *basis, const float *states, int64_t rows, int64_t cols,
                                  float **values, struct error *error)
{
    float *normal = NULL, *rotated = NULL, *inverse = NULL;
    int result = -1;
    *values = NULL;
    if (array_alloc(&normal, rows * cols, error) < 0 || array_alloc(&rotated, rows * cols, error) < 0 ||
        array_alloc(&inverse, cols * cols, error) < 0 || array_alloc(values, rows * cols, error) < 0)
        goto done;
    transpose(basis, cols, inverse);
    for (int64_t r = 0; r < rows; r++)
        if (normalise_row(states + r * cols, cols, normal + r * cols, &(uint16_t){0}, error) < 0)
            goto done;
    if (rotate(normal, inverse, 1, rows, cols, rotated, error) < 0)
        goto done;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            (*values)[c * rows + r] = rotated[r * cols + c];
    result = 0;
done:
    if (result < 0) {
        free(*values);
        *values = NULL;
    }
    free(normal);
    free(rotated);
    free(inverse);
    return result;
}

static int compare_floats(const void *a, const void *b)
{
    const float left = *(const float *)a, right = *(const float *)b;
    return (left > right) - (left < right);
}

/* The entropy in bits of values [rows], ascending, rounded to multiples of the spacing from `middle`. What few
 * rows hide of the rarer values is made up for (Miller 1955: half a nat per value seen, by rows). */
static double entropy(const float *values, int64_t rows, double middle, double spacing)
{
    double sum = 0;
    int64_t distinct = 0;
    for (int64_t from = 0, to; from < rows; from = to, distinct++) {
        const double number = nearbyint((values[from] - middle) / spacing);
        for (to = from + 1; to < rows && nearbyint((values[to] - middle) / spacing) == number; to++)
            ;
        const double share = (double)(to - from) / (double)rows;
        sum -= share * log2(share);
    }
    return sum + (double)(distinct - 1) / (2 * (double)rows * log(2));
}

static double mean_entropy(const float *values, const float *middle, int64_t rows, int64_t cols, double spacing)
{
    double sum = 0;
    for (int64_t c = 0; c < cols; c++)
        sum += entropy(values + c * rows, rows, middle[c], spacing);
    return sum / (double)cols;
}

/* The mean in the basis: what is subtracted from each coefficient. */
static int rotate_mean(const float *mean, const float *basis, int64_t cols, float **middle, struct error *error)
{
    if (array_alloc(middle, cols, error) < 0)
        return -1;
    for (int64_t c = 0; c < cols; c++) {
        double sum = 0;
        for (int64_t i = 0; i < cols; i++)
            sum += (double)mean[i] * basis[c * cols + i];
        (*middle)[c] = (float)sum;
    }
    return 0;
}

int klt_choose_spacing(const void *parameters, size_t size, const float *states, int64_t rows, double bits,
                       double *spacing, struct error *error)
{
    struct klt_header header;
    float *own = NULL, *values = NULL, *middle = NULL;
    int result = -1;
    if (klt_header_read(parameters, size, &header, error) < 0)
        return -1;
    const int64_t cols = header.cols;
    if (array_alloc(&own, cols * (cols + 1), error) < 0)
        return -1;
    memcpy(own, (const char *)parameters + sizeof header, size - sizeof header); /* aligned */
    const float *basis = own + cols;
    if (rotate_mean(own, basis, cols, &middle, error) < 0 ||
        coefficients_by_column(basis, states, rows, cols, &values, error) < 0)
        goto done;
    for (int64_t c = 0; c < cols; c++)
        qsort(values + c * rows, (size_t)rows, sizeof *values, compare_floats);
    double fine = LEAST_SPACING, coarse = MOST_SPACING;
    for (int i = 0; i < HALVINGS && coarse > fine * 1.0005; i++) {
        const double between = sqrt(fine * coarse);
        if (mean_entropy(values, middle, rows, cols, between) > bits)
            fine = between;
        else
            coarse = between;
    }
    *spacing = coarse;
    result = 0;
done:
    free(own);
    free(values);
    free(middle);
    return result;
}
