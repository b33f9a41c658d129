/* q8: eight bits a value, with a scale for every token and every channel of the record.
 *
 *     x[r][c] = token[r] * channel[c] * q[r][c],  q in -127 .. 127
 *
 * The token's scale is its RMS; the channel's is such that the largest value of the channel, its token's
 * scale taken out, is 127. Needs no parameters.
 *
 *     u16 token[rows], u16 channel[cols]     bf16
 *     i8 q[rows][cols]                       as pack.h writes it
 */
#include "common/base/memory.h"
#include "common/codec/pack.h"
#include "common/codec/rms.h"

/* Rounds to the nearest integer, ties to even, for |value| < 2^22: the sum's last bits are that integer. */
#define ROUNDER 12582912.0f

static size_t scales_size(int64_t rows, int64_t cols)
{
    return ((size_t)rows + (size_t)cols) * sizeof(uint16_t);
}

static size_t q8_bound(int64_t rows, int64_t cols)
{
    const size_t values = codec_values(rows, cols);
    return values ? scales_size(rows, cols) + pack_bound(values) : 0;
}

static void store_bf16(unsigned char *bytes, int64_t index, uint16_t value)
{
    memcpy(bytes + index * (int64_t)sizeof value, &value, sizeof value);
}

static float load_bf16(const unsigned char *bytes, int64_t index)
{
    uint16_t value;
    memcpy(&value, bytes + index * (int64_t)sizeof value, sizeof value);
    return bf16_to_f32(value);
}

/* Tokens' scales into `tokens`; the channels' largest value by those scales into largest [cols], zeros. */
static int find_scales(const float *states, int64_t rows, int64_t cols, unsigned char *tokens,
                       float *restrict largest, struct error *error)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *restrict row = states + r * cols;
        uint16_t rms = 0;
        if (row_rms(row, cols, &rms, error) < 0)
            return -1;
        store_bf16(tokens, r, rms);
        const float inverse = rms ? 1 / bf16_to_f32(rms) : 0;
        for (int64_t c = 0; c < cols; c++) {
            const float size = fabsf(row[c] * inverse);
            largest[c] = size > largest[c] ? size : largest[c];
        }
    }
    return 0;
}

/* The largest values become the channels' scales: in `channels` as stored, in scale and inverse as used. */
static void set_channels(int64_t cols, unsigned char *channels, float *restrict scale, float *restrict inverse)
{
    for (int64_t c = 0; c < cols; c++) {
        uint16_t bits = f32_to_bf16(scale[c] / 127);
        if (bits >> 7 == 0)
            bits = 0;
        store_bf16(channels, c, bits);
        scale[c] = bf16_to_f32(bits);
        inverse[c] = bits ? 1 / scale[c] : 0;
    }
}

/* A row to bytes; returns |error|^2 / |row|^2. */
static double code_row(const float *restrict row, float token, const float *restrict scale,
                       const float *restrict inverse, int64_t cols, signed char *restrict bytes)
{
    const float by_token = token > 0 ? 1 / token : 0;
    double lost = 0, whole = 0;
    for (int64_t c = 0; c < cols; c++) {
        const float value = row[c] * by_token, rounded = value * inverse[c] + ROUNDER - ROUNDER;
        const float difference = value - rounded * scale[c];
        bytes[c] = (signed char)rounded;
        lost += (double)(difference * difference);
        whole += (double)(value * value);
    }
    return whole > 0 ? lost / whole : 0;
}

static int q8_encode(const struct codec_call *call, const float *states, struct codec_payload *payload,
                     struct error *error)
{
    struct codec_worker *worker = call->worker;
    const int64_t rows = call->rows, cols = call->cols;
    unsigned char *bytes = payload->bytes;
    const size_t values = codec_values(rows, cols), scales = scales_size(rows, cols);
    if (array_grow(&worker->plane, &worker->plane_capacity, values, error) < 0 ||
        array_grow(&worker->floats, &worker->floats_capacity, 2 * (size_t)cols, error) < 0)
        return -1;
    float *scale = worker->floats, *inverse = scale + cols;
    memset(scale, 0, (size_t)cols * sizeof *scale);
    if (find_scales(states, rows, cols, bytes, scale, error) < 0)
        return error_prefix(error, "q8");
    set_channels(cols, bytes + (size_t)rows * sizeof(uint16_t), scale, inverse);
    for (int64_t r = 0; r < rows; r++)
        payload->loss += code_row(states + r * cols, load_bf16(bytes, r), scale, inverse, cols,
                                  (signed char *)worker->plane + r * cols) /
                         (double)rows;

    if (pack(worker, worker->plane, values, bytes + scales, payload->capacity - scales, &payload->size, error) <
        0)
        return error_prefix(error, "q8");
    payload->size += scales;
    return 0;
}

static int q8_decode(const struct codec_call *call, const void *payload, size_t size, float *states,
                     struct error *error)
{
    struct codec_worker *worker = call->worker;
    const int64_t rows = call->rows, cols = call->cols;
    const unsigned char *bytes = payload;
    const size_t values = codec_values(rows, cols), scales = scales_size(rows, cols);
    if (codec_check("q8", rows, cols, size, scales, error) < 0 ||
        array_grow(&worker->plane, &worker->plane_capacity, values, error) < 0 ||
        array_grow(&worker->floats, &worker->floats_capacity, (size_t)cols, error) < 0)
        return -1;
    if (unpack(worker, bytes + scales, size - scales, worker->plane, values, error) < 0)
        return error_prefix(error, "q8 payload is damaged");
    float *restrict scale = worker->floats;
    for (int64_t c = 0; c < cols; c++)
        scale[c] = load_bf16(bytes + (size_t)rows * sizeof(uint16_t), c);
    for (int64_t r = 0; r < rows; r++) {
        const signed char *restrict row = (const signed char *)worker->plane + r * cols;
        const float token = load_bf16(bytes, r);
        float *restrict out = states + r * cols;
        for (int64_t c = 0; c < cols; c++)
            out[c] = (float)row[c] * scale[c] * token;
    }
    return 0;
}

const struct codec codec_q8 = {
    .name = "q8",
    .id = CODEC_Q8,
    .type = DTYPE_BF16,
    .packs = true,
    .summary = "int8 with a scale per token and per channel, packed, about 7.5 bits each",
    .bound = q8_bound,
    .encode = q8_encode,
    .decode = q8_decode,
};
