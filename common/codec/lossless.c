/* lossless: bf16 in about two thirds of its size.
 *
 * Rotated left by one bit, a bf16 value is its exponent (high byte) and its mantissa and sign (low
 * byte). The low byte is noise and is kept as it is. The exponent is close to the sum of a level of
 * its channel and a level of its token; what is left over is small, has one distribution for the whole
 * record, and is packed.
 *
 *     E[r][c]  = round((8 * base + channel[c] + token[r]) / 8) + residual[r][c]   (mod 256)
 *
 * Levels are in eighths. On SmolLM2-135M (taps 6 to 30, T = 512) the exponent's bits a value fall from
 * 2.80 (as they are, channel after channel) over 2.68 (whole levels of channels) to 2.65 with all
 * levels counted, and nothing is transposed.
 *
 * Payload:
 *     u8 base                          whole exponent around which the levels lie
 *     i8 channel[cols], i8 token[rows]
 *     u8 low[rows][cols]
 *     u8 residual[rows][cols]          as pack.h writes it
 *
 * All of it is integer arithmetic, so the bytes are the same on every machine with the same zstd.
 */
#include <string.h>

#include "common/base/memory.h"
#include "common/codec/pack.h"

/* Loops over whole rows, also built for wider vectors: of integers, so that the values are the same. */
#ifdef __x86_64__
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

/* Where the parts of a payload begin. */
struct layout {
    size_t channel, token, low, residual;
};

static struct layout layout_of(int64_t rows, int64_t cols)
{
    struct layout layout = {.channel = 1};
    layout.token = layout.channel + (size_t)cols;
    layout.low = layout.token + (size_t)rows;
    layout.residual = layout.low + codec_values(rows, cols);
    return layout;
}

static size_t lossless_bound(int64_t rows, int64_t cols)
{
    size_t values = codec_values(rows, cols);
    return values ? layout_of(rows, cols).residual + pack_bound(values) : 0;
}

/* Exponents to `exponents`, mantissas and signs to `low`; the exponents' sum over the rows to `sums`. */
static void split_row(const float *restrict states, int64_t cols, unsigned char *restrict exponents,
                      unsigned char *restrict low, uint32_t *restrict sums)
{
    for (int64_t c = 0; c < cols; c++) {
        uint32_t bits = f32_to_bf16(states[c]);
        uint32_t rotated = bits << 1 | bits >> 15;
        low[c] = (unsigned char)rotated;
        exponents[c] = (unsigned char)(rotated >> 8);
        sums[c] += rotated >> 8 & 255;
    }
}

static int clamp_level(int64_t level)
{
    return level < -128 ? -128 : level > 127 ? 127 : (int)level;
}

/* sum / count to the nearest integer, halves upward; sum may be negative. */
static int64_t divide_round(int64_t sum, int64_t count)
{
    int64_t doubled = 2 * sum + count, quotient = doubled / (2 * count);
    return quotient - (doubled % (2 * count) < 0);
}

/* The channels' mean exponents, in eighths, around their own mean, which is returned in whole exponents. */
static unsigned char level_channels(const uint32_t *sums, int64_t rows, int64_t cols, signed char *channel)
{
    int64_t total = 0;
    for (int64_t c = 0; c < cols; c++)
        total += sums[c];
    unsigned char base = (unsigned char)divide_round(total, rows * cols);
    for (int64_t c = 0; c < cols; c++)
        channel[c] = (signed char)clamp_level(divide_round(8 * ((int64_t)sums[c] - base * rows), rows));
    return base;
}

/* The token's mean exponent, in eighths, above what its channels explain. */
static signed char level_token(const unsigned char *exponents, int64_t cols, unsigned char base,
                               int64_t channel_total)
{
    int64_t sum = 0;
    for (int64_t c = 0; c < cols; c++)
        sum += exponents[c];
    return (signed char)clamp_level(divide_round(8 * (sum - base * cols) - channel_total, cols));
}

/* Of a row, what is added to its channels' levels; an eighth of the sum, rounded down, is then the level in
 * whole exponents, rounded to the nearest. */
static int16_t row_offset(unsigned char base, signed char token)
{
    return (int16_t)(8 * base + token + 4);
}

/* Takes the levels of a row away. */
static void level_row(unsigned char *restrict exponents, const signed char *restrict channel, int64_t cols,
                      int16_t offset)
{
    for (int64_t c = 0; c < cols; c++)
        exponents[c] = (unsigned char)(exponents[c] - ((int16_t)(offset + channel[c]) >> 3));
}

/* Room for a record's exponents and their sums, which are 0. */
static int grow_buffers(struct codec_worker *worker, int64_t rows, int64_t cols, struct error *error)
{
    if (array_grow(&worker->plane, &worker->plane_capacity, codec_values(rows, cols), error) < 0 ||
        array_grow(&worker->sums, &worker->sums_capacity, (size_t)cols, error) < 0)
        return -1;
    memset(worker->sums, 0, (size_t)cols * sizeof *worker->sums);
    return 0;
}

/* All of the payload but the low bytes, which are there, from the exponents in worker->plane and their sums. */
static int put_exponents(const struct codec_call *call, struct codec_payload *payload, struct error *error)
{
    struct codec_worker *worker = call->worker;
    const int64_t rows = call->rows, cols = call->cols;
    const struct layout layout = layout_of(rows, cols);
    unsigned char *bytes = payload->bytes;
    signed char *channel = (signed char *)bytes + layout.channel, *token = (signed char *)bytes + layout.token;
    int64_t channel_total = 0;
    bytes[0] = level_channels(worker->sums, rows, cols, channel);
    for (int64_t c = 0; c < cols; c++)
        channel_total += channel[c];
    for (int64_t r = 0; r < rows; r++) {
        unsigned char *row = worker->plane + r * cols;
        token[r] = level_token(row, cols, bytes[0], channel_total);
        level_row(row, channel, cols, row_offset(bytes[0], token[r]));
    }

    if (pack(worker, worker->plane, codec_values(rows, cols), bytes + layout.residual,
             payload->capacity - layout.residual, &payload->size, error) < 0)
        return error_prefix(error, "lossless");
    payload->size += layout.residual;
    return 0;
}

static int lossless_encode(const struct codec_call *call, const float *states, struct codec_payload *payload,
                           struct error *error)
{
    struct codec_worker *worker = call->worker;
    const int64_t rows = call->rows, cols = call->cols;
    unsigned char *low = payload->bytes + layout_of(rows, cols).low;
    if (grow_buffers(worker, rows, cols, error) < 0)
        return -1;
    for (int64_t r = 0; r < rows; r++)
        split_row(states + r * cols, cols, worker->plane + r * cols, low + r * cols, worker->sums);
    return put_exponents(call, payload, error);
}

static struct codec_transform lossless_transform(const void *prepared, int64_t cols)
{
    (void)prepared;
    return (struct codec_transform){.kind = CODEC_SPLIT, .row = (2 * (size_t)cols + 3) / 4 * 4};
}

/* Exponents added to their sums; the largest of them. */
static unsigned sum_exponents(const unsigned char *restrict exponents, int64_t cols, uint32_t *restrict sums)
{
    unsigned largest = 0;
    for (int64_t c = 0; c < cols; c++) {
        sums[c] += exponents[c];
        largest = exponents[c] > largest ? exponents[c] : largest;
    }
    return largest;
}

static int lossless_encode_transformed(const struct codec_call *call, const unsigned char *transformed,
                                       struct codec_payload *payload, struct error *error)
{
    struct codec_worker *worker = call->worker;
    const int64_t rows = call->rows, cols = call->cols;
    const size_t width = (size_t)cols, row_bytes = lossless_transform(call->prepared, cols).row;
    unsigned char *low = payload->bytes + layout_of(rows, cols).low;
    if (grow_buffers(worker, rows, cols, error) < 0)
        return -1;
    for (int64_t r = 0; r < rows; r++) {
        const unsigned char *row = transformed + (size_t)r * row_bytes;
        memcpy(worker->plane + r * cols, row, width);
        memcpy(low + r * cols, row + width, width);
        if (sum_exponents(row, cols, worker->sums) == 0xff)
            return error_set(error, "lossless: a state is not a finite number");
    }
    return put_exponents(call, payload, error);
}

/* A row's values from what is left of their exponents, the levels, and mantissas with signs. */
WIDE static void join_row(const unsigned char *restrict left, const unsigned char *restrict low,
                          const signed char *restrict channel, int16_t offset, int64_t cols,
                          uint16_t *restrict bits)
{
    for (int64_t c = 0; c < cols; c++) {
        const int16_t exponent = (int16_t)(left[c] + ((int16_t)(offset + channel[c]) >> 3));
        const uint16_t rotated = (uint16_t)((uint16_t)exponent << 8 | low[c]);
        bits[c] = (uint16_t)(rotated >> 1 | rotated << 15);
    }
}

WIDE static void widen_row(const uint16_t *restrict bits, int64_t cols, float *restrict states)
{
    for (int64_t c = 0; c < cols; c++)
        states[c] = bf16_to_f32(bits[c]);
}

/* Either to `states` [rows, cols] or, where that is NULL, to `bits` [rows, cols], which else is one row to work
 * in. */
static int decode(const struct codec_call *call, const unsigned char *bytes, size_t size, float *states,
                  uint16_t *bits, struct error *error)
{
    struct codec_worker *worker = call->worker;
    const int64_t rows = call->rows, cols = call->cols;
    const struct layout layout = layout_of(rows, cols);
    const signed char *channel = (const signed char *)bytes + layout.channel;
    const signed char *token = (const signed char *)bytes + layout.token;
    if (array_grow(&worker->plane, &worker->plane_capacity, codec_values(rows, cols), error) < 0)
        return -1;
    if (unpack(worker, bytes + layout.residual, size - layout.residual, worker->plane, codec_values(rows, cols),
               error) < 0)
        return error_prefix(error, "lossless payload is damaged");
    for (int64_t r = 0; r < rows; r++) {
        const int64_t at = r * cols;
        uint16_t *row = states ? bits : bits + at;
        join_row(worker->plane + at, bytes + layout.low + at, channel, row_offset(bytes[0], token[r]), cols,
                 row);
        if (states)
            widen_row(row, cols, states + at);
    }
    return 0;
}

static int check_size(const struct codec_call *call, size_t size, struct error *error)
{
    return codec_check("lossless", call->rows, call->cols, size, layout_of(call->rows, call->cols).residual,
                       error);
}

static int lossless_decode(const struct codec_call *call, const void *payload, size_t size, float *states,
                           struct error *error)
{
    struct codec_worker *worker = call->worker;
    if (check_size(call, size, error) < 0 ||
        array_grow(&worker->bits, &worker->bits_capacity, (size_t)call->cols, error) < 0)
        return -1;
    return decode(call, payload, size, states, worker->bits, error);
}

static int lossless_decode_bf16(const struct codec_call *call, const void *payload, size_t size,
                                uint16_t *states, struct error *error)
{
    return check_size(call, size, error) < 0 ? -1 : decode(call, payload, size, NULL, states, error);
}

const struct codec codec_lossless = {
    .name = "lossless",
    .id = CODEC_LOSSLESS,
    .type = DTYPE_BF16,
    .packs = true,
    .exact = true,
    .summary = "rounded to bf16 and packed, about 10.6 bits each",
    .bound = lossless_bound,
    .encode = lossless_encode,
    .decode = lossless_decode,
    .decode_bf16 = lossless_decode_bf16,
    .transform = lossless_transform,
    .encode_transformed = lossless_encode_transformed,
};
