/* raw:f32 and raw: the values themselves, row after row, little-endian. */
#include <string.h>

#include "common/codec/worker.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "payloads are written as they lie in memory");

/* Anything behind the last value is as wrong as a value too few. */
static int check_payload(const char *name, int64_t rows, int64_t cols, size_t size, size_t expected,
                         struct error *error)
{
    if (codec_check(name, rows, cols, size, expected, error) < 0)
        return -1;
    if (size > expected)
        return error_set(error, "%s payload has %zu bytes more than its shape", name, size - expected);
    return 0;
}

static size_t raw_f32_bound(int64_t rows, int64_t cols)
{
    return codec_values(rows, cols) * sizeof(float);
}

static int raw_f32_encode(const struct codec_call *call, const float *states, struct codec_payload *payload,
                          struct error *error)
{
    (void)error;
    payload->size = raw_f32_bound(call->rows, call->cols);
    memcpy(payload->bytes, states, payload->size);
    return 0;
}

static int raw_f32_check(size_t size, int64_t rows, int64_t cols, struct error *error)
{
    return check_payload("raw:f32", rows, cols, size, raw_f32_bound(rows, cols), error);
}

static int raw_f32_decode(const struct codec_call *call, const void *payload, size_t size, float *states,
                          struct error *error)
{
    if (raw_f32_check(size, call->rows, call->cols, error) < 0)
        return -1;
    memcpy(states, payload, size);
    return 0;
}

static size_t raw_bound(int64_t rows, int64_t cols)
{
    return codec_values(rows, cols) * sizeof(uint16_t);
}

static void round_values(const float *restrict states, size_t count, unsigned char *restrict bytes)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t bits = f32_to_bf16(states[i]);
        memcpy(bytes + 2 * i, &bits, sizeof bits);
    }
}

static int raw_encode(const struct codec_call *call, const float *states, struct codec_payload *payload,
                      struct error *error)
{
    (void)error;
    payload->size = raw_bound(call->rows, call->cols);
    round_values(states, payload->size / 2, payload->bytes);
    return 0;
}

static int raw_check(size_t size, int64_t rows, int64_t cols, struct error *error)
{
    return check_payload("raw", rows, cols, size, raw_bound(rows, cols), error);
}

static int raw_decode(const struct codec_call *call, const void *payload, size_t size, float *states,
                      struct error *error)
{
    const unsigned char *bytes = payload;
    if (raw_check(size, call->rows, call->cols, error) < 0)
        return -1;
    for (size_t i = 0; i < size / 2; i++) {
        uint16_t bits;
        memcpy(&bits, bytes + 2 * i, sizeof bits);
        states[i] = bf16_to_f32(bits);
    }
    return 0;
}

const struct codec codec_raw_f32 = {
    .name = "raw:f32",
    .id = CODEC_RAW_F32,
    .type = DTYPE_F32,
    .exact = true,
    .summary = "the values as they are, 32 bits each, exact",
    .bound = raw_f32_bound,
    .encode = raw_f32_encode,
    .decode = raw_f32_decode,
    .check_plain = raw_f32_check,
};

const struct codec codec_raw = {
    .name = "raw",
    .id = CODEC_RAW,
    .type = DTYPE_BF16,
    .exact = true,
    .summary = "rounded to bf16, 16 bits each",
    .bound = raw_bound,
    .encode = raw_encode,
    .decode = raw_decode,
    .check_plain = raw_check,
};
