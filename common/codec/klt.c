/* klt: a tap's states in the basis in which they are uncorrelated (Karhunen-Loeve), with one spacing for all.
 *
 *     y = x / rms(x) - mean,  q = round(y B / spacing)            a token x, B's columns the directions
 *
 * One spacing for all coefficients is reverse water-filling (Cover and Thomas, Elements of Information Theory,
 * 10.3): each direction gets the same error, and those that vary less than it are left out. Directions are
 * ordered by variance, so that neighbouring coefficients have like spreads.
 *
 * The parameters are in klt.h.
 *
 * Payload: u16 rms[rows] (bf16), then the coefficients (coefficients.h).
 */
#include "common/codec/klt.h"

#include <stdlib.h>

#include "common/base/memory.h"
#include "common/codec/coefficients.h"
#include "common/codec/rms.h"
#include "common/codec/rotate.h"

/* Rounds to the nearest integer, ties to even, for |value| < 2^22: the sum's last bits are that integer. */
#define ROUNDER 12582912.0f

struct klt {
    struct codec_setting setting;
    float spacing;
    float *mean; /* [cols] */
    float *offset; /* [cols] mean B / spacing */
    float *basis; /* [cols, cols], a direction a row: from coefficients to states */
    float *inverse; /* its transpose: from states to coefficients */
};

/* ---- parameters ---- */

static void klt_release(void *prepared)
{
    struct klt *klt = prepared;
    if (!klt)
        return;
    free(klt->mean);
    free(klt->offset);
    free(klt->basis);
    free(klt->inverse);
    free(klt);
}

static double norm(const float *values, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)values[i] * values[i];
    return sqrt(sum);
}

/* The smallest spacing with which no coefficient leaves int16: a token divided by its RMS has length
 * sqrt(cols), but for the rounding to bf16, and a direction length 1. */
static double least_spacing(const float *mean, int64_t cols)
{
    return (1.01 * sqrt((double)cols) + norm(mean, cols)) / 32000;
}

static int check_values(const struct klt *klt, int64_t cols, struct error *error)
{
    for (int64_t c = 0; c < cols; c++) {
        const double length = norm(klt->basis + c * cols, cols);
        if (!(length > 0.999 && length < 1.001)) /* not a number either */
            return error_set(error, "direction %lld has length %g", (long long)c, length);
    }
    if (!(norm(klt->mean, cols) < 2 * sqrt((double)cols)))
        return error_set(error, "the mean has length %g", norm(klt->mean, cols));
    if (!(klt->spacing >= least_spacing(klt->mean, cols) && klt->spacing < 1e6f))
        return error_set(error, "the spacing is %g: this codec takes %g and more", (double)klt->spacing,
                         least_spacing(klt->mean, cols));
    return 0;
}

/* Copies what follows the header, and makes what is derived. */
static int fill(struct klt *klt, const unsigned char *values, int64_t cols, struct error *error)
{
    const size_t row = (size_t)cols * sizeof(float);
    if (array_alloc(&klt->mean, cols, error) < 0 || array_alloc(&klt->offset, cols, error) < 0 ||
        array_alloc(&klt->basis, cols * cols, error) < 0 || array_alloc(&klt->inverse, cols * cols, error) < 0)
        return -1;
    memcpy(klt->mean, values, row);
    memcpy(klt->basis, values + row, (size_t)cols * row);
    transpose(klt->basis, cols, klt->inverse);
    for (int64_t c = 0; c < cols; c++) {
        double offset = 0;
        for (int64_t i = 0; i < cols; i++)
            offset += (double)klt->mean[i] * klt->basis[c * cols + i];
        klt->offset[c] = (float)(offset / klt->spacing);
    }
    return check_values(klt, cols, error);
}

static int klt_prepare(const void *parameters, size_t size, int64_t cols, void **prepared, struct error *error)
{
    struct klt_header header;
    *prepared = NULL;
    if (klt_header_read(parameters, size, &header, error) < 0)
        return -1;
    if (header.cols != (uint64_t)cols)
        return error_set(error, "they are for %u columns, not %lld", header.cols, (long long)cols);
    if (!(header.spacing > 0))
        return error_set(error, "the spacing is %g", (double)header.spacing);
    struct klt *klt = memory_alloc(1, sizeof *klt, error);
    if (!klt)
        return -1;
    klt->setting = (struct codec_setting){header.spacing, header.bits, header.loss};
    klt->spacing = header.spacing;
    if (fill(klt, (const unsigned char *)parameters + sizeof header, cols, error) < 0) {
        klt_release(klt);
        return -1;
    }
    *prepared = klt;
    return 0;
}

static struct codec_setting klt_setting(const void *prepared)
{
    return ((const struct klt *)prepared)->setting;
}

/* ---- coding ---- */

static size_t klt_bound(int64_t rows, int64_t cols)
{
    const size_t coefficients = cols > KLT_MOST_COLS ? 0 : coefficients_bound(rows, cols);
    return coefficients ? (size_t)rows * sizeof(uint16_t) + coefficients : 0;
}

/* Sums side by side, so that they can be a vector; their order is one for all machines. */
#define SUMS 16

/* Coefficients in units of the spacing, of a token divided by its RMS, to the nearest integers less the mean's;
 * returns the squared error in such units. */
static double quantise_row(const float *restrict coefficients, const float *restrict offset, int64_t cols,
                           int16_t *restrict integers)
{
    float lost[SUMS] = {0};
    double sum = 0;
    int64_t c = 0;
    for (; c + SUMS <= cols; c += SUMS)
        for (int i = 0; i < SUMS; i++) {
            const float value = coefficients[c + i] - offset[c + i], rounded = value + ROUNDER - ROUNDER;
            integers[c + i] = (int16_t)(int32_t)rounded;
            lost[i] += (value - rounded) * (value - rounded);
        }
    for (; c < cols; c++) {
        const float value = coefficients[c] - offset[c], rounded = value + ROUNDER - ROUNDER;
        integers[c] = (int16_t)(int32_t)rounded;
        sum += (value - rounded) * (value - rounded);
    }
    for (int i = 0; i < SUMS; i++)
        sum += lost[i];
    return sum;
}

/* Rows divided by their RMS, which goes to `scales`. */
static int normalise(const float *states, int64_t rows, int64_t cols, float *normal, unsigned char *scales,
                     struct error *error)
{
    for (int64_t r = 0; r < rows; r++) {
        uint16_t rms;
        if (normalise_row(states + r * cols, cols, normal + r * cols, &rms, error) < 0)
            return error_prefix(error, "klt");
        memcpy(scales + r * (int64_t)sizeof rms, &rms, sizeof rms);
    }
    return 0;
}

/* Buffers for both directions: floats [2, rows, cols] and integers [rows, cols]. */
static int grow_buffers(struct codec_worker *worker, int64_t rows, int64_t cols, struct error *error)
{
    const size_t values = codec_values(rows, cols);
    return array_grow(&worker->floats, &worker->floats_capacity, 2 * values, error) < 0
               ? -1
               : array_grow(&worker->integers, &worker->integers_capacity, values, error);
}

/* Of a record, from one row's squared error in units of the spacing. */
static double row_loss(const struct klt *klt, double lost, int64_t rows, int64_t cols)
{
    const double by_row = (double)klt->spacing * klt->spacing / (double)cols; /* |token / rms|^2 is cols */
    return lost * by_row / (double)rows;
}

/* What follows the RMS in a payload: worker->integers, coded. */
static int put_integers(const struct codec_call *call, struct codec_payload *payload, struct error *error)
{
    const size_t scales = (size_t)call->rows * sizeof(uint16_t);
    struct codec_payload rest = {.bytes = payload->bytes + scales, .capacity = payload->capacity - scales};
    if (coefficients_encode(call->worker, call->worker->integers, call->rows, call->cols, &rest, error) < 0)
        return error_prefix(error, "klt");
    payload->size = scales + rest.size;
    return 0;
}

static int klt_encode(const struct codec_call *call, const float *states, struct codec_payload *payload,
                      struct error *error)
{
    struct codec_worker *worker = call->worker;
    const struct klt *klt = call->prepared;
    const int64_t rows = call->rows, cols = call->cols;
    if (grow_buffers(worker, rows, cols, error) < 0)
        return -1;
    float *normal = worker->floats, *coefficients = normal + rows * cols;
    if (normalise(states, rows, cols, normal, payload->bytes, error) < 0 ||
        rotate(normal, klt->inverse, 1 / klt->spacing, rows, cols, coefficients, error) < 0)
        return -1;
    for (int64_t r = 0; r < rows; r++) {
        const double lost =
            quantise_row(coefficients + r * cols, klt->offset, cols, worker->integers + r * cols);
        payload->loss += row_loss(klt, lost, rows, cols);
    }
    return put_integers(call, payload, error);
}

/* Where a transformed row's scale stands. */
static size_t scale_offset(int64_t cols)
{
    return ((size_t)cols * sizeof(int16_t) + 3) / 4 * 4;
}

static struct codec_transform klt_transform(const void *prepared, int64_t cols)
{
    const struct klt *klt = prepared;
    const size_t row = scale_offset(cols) + 2 * sizeof(float);
    if (row > (size_t)cols * sizeof(float))
        return (struct codec_transform){.kind = CODEC_NO_TRANSFORM};
    return (struct codec_transform){CODEC_QUANTISE, row, klt->inverse, klt->offset, klt->spacing};
}

/* check_values lets no spacing pass with which an integer would leave int16: none has been cut there. */
static int klt_encode_transformed(const struct codec_call *call, const unsigned char *transformed,
                                  struct codec_payload *payload, struct error *error)
{
    struct codec_worker *worker = call->worker;
    const struct klt *klt = call->prepared;
    const int64_t rows = call->rows, cols = call->cols;
    const size_t offset = scale_offset(cols);
    unsigned char *bytes = payload->bytes;
    if (grow_buffers(worker, rows, cols, error) < 0)
        return -1;
    for (int64_t r = 0; r < rows; r++) {
        const unsigned char *row = transformed + (size_t)r * (offset + 2 * sizeof(float));
        float scale, lost;
        memcpy(worker->integers + r * cols, row, (size_t)cols * sizeof(int16_t));
        memcpy(&scale, row + offset, sizeof scale);
        memcpy(&lost, row + offset + sizeof scale, sizeof lost);
        if (!isfinite(scale))
            return error_set(error, "klt: a state is not a finite number");
        const uint16_t rms = f32_to_bf16(scale);
        memcpy(bytes + r * (int64_t)sizeof rms, &rms, sizeof rms);
        payload->loss += row_loss(klt, (double)lost, rows, cols);
    }
    return put_integers(call, payload, error);
}

static void scale_row(const float *restrict normal, const float *restrict mean, float rms, int64_t cols,
                      float *restrict states)
{
    for (int64_t c = 0; c < cols; c++)
        states[c] = (normal[c] + mean[c]) * rms;
}

static int klt_decode(const struct codec_call *call, const void *payload, size_t size, float *states,
                      struct error *error)
{
    struct codec_worker *worker = call->worker;
    const struct klt *klt = call->prepared;
    const int64_t rows = call->rows, cols = call->cols;
    const size_t scales = (size_t)rows * sizeof(uint16_t);
    const unsigned char *bytes = payload;
    if (codec_check("klt", rows, cols, size, scales, error) < 0 || grow_buffers(worker, rows, cols, error) < 0)
        return -1;
    if (coefficients_decode(worker, bytes + scales, size - scales, rows, cols, worker->integers, error) < 0)
        return error_prefix(error, "klt payload");
    float *coefficients = worker->floats, *normal = coefficients + rows * cols;
    for (int64_t i = 0; i < rows * cols; i++)
        coefficients[i] = worker->integers[i];
    if (rotate(coefficients, klt->basis, klt->spacing, rows, cols, normal, error) < 0)
        return -1;
    for (int64_t r = 0; r < rows; r++) {
        uint16_t rms = 0;
        memcpy(&rms, bytes + r * (int64_t)sizeof rms, sizeof rms);
        if ((rms >> 7 & 0xff) == 0xff)
            return error_set(error, "klt payload is damaged: the size of token %lld is not finite",
                             (long long)r);
        scale_row(normal + r * cols, klt->mean, bf16_to_f32(rms), cols, states + r * cols);
    }
    return 0;
}

const struct codec codec_klt = {
    .name = "klt",
    .id = CODEC_KLT,
    .type = DTYPE_BF16,
    .usage = "klt:BITS or klt:kl=NATS",
    .summary = "rotated into the tap's own basis and rounded: so many bits each, or so little lost",
    .bound = klt_bound,
    .prepare = klt_prepare,
    .release = klt_release,
    .encode = klt_encode,
    .decode = klt_decode,
    .transform = klt_transform,
    .encode_transformed = klt_encode_transformed,
    .setting = klt_setting,
    .fit = klt_fit,
    .choose_spacing = klt_choose_spacing,
    .set = klt_set,
};
