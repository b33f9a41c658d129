/* Encoding, and decoding without any instruction set in particular. */
#include "common/codec/rans.h"

#include <string.h>

#define STATE_LEAST ((uint32_t)1 << 16)

static int clamp_level(int level)
{
    return level < 0 ? 0 : level > RANS_LEVELS - 1 ? RANS_LEVELS - 1 : level;
}

/* How many of the lowest bits count as noise at a level; without them its values have a table. */
static int shift_of(int level)
{
    return level < RANS_TABLES ? 0 : (level - RANS_TABLES) / RANS_OCTAVE + 1;
}

static int64_t block_count(const struct rans_matrix *matrix)
{
    return (matrix->cols + RANS_LANES - 1) / RANS_LANES;
}

static int lanes_of(const struct rans_matrix *matrix, int64_t block)
{
    const int64_t left = matrix->cols - block * RANS_LANES;
    return left < RANS_LANES ? (int)left : RANS_LANES;
}

/* ---- encoding ---- */

void rans_encode_start(struct rans_encoder *encoder, unsigned char *words_end, unsigned char *escapes_end)
{
    for (int lane = 0; lane < RANS_LANES; lane++)
        encoder->state[lane] = STATE_LEAST;
    encoder->words = words_end;
    encoder->escapes = escapes_end;
}

static void put_escape(struct rans_encoder *encoder, int16_t value)
{
    encoder->escapes -= sizeof value;
    memcpy(encoder->escapes, &value, sizeof value);
}

/* x becomes (x / frequency) * total + start + x % frequency, the total being 2^(RANS_BITS + shift) and the
 * symbol's part of it `frequency` slots of 2^shift; before, it is made small enough to stay below 2^32. */
static inline void encode_value(const struct rans *rans, struct rans_encoder *encoder, int lane, int level,
                                int16_t value)
{
    const int shift = shift_of(level), table = level - shift * RANS_OCTAVE;
    const int32_t centred = value + (1 << shift >> 1), symbol = centred >> shift;
    const bool known = symbol > -RANS_REACH && symbol < RANS_REACH;
    const struct rans_symbol *entry = &rans->symbol[table][known ? symbol + RANS_REACH : 0];
    if (entry->frequency == 0)
        entry = &rans->symbol[table][0];
    if (entry == &rans->symbol[table][0])
        put_escape(encoder, value);

    uint32_t x = encoder->state[lane];
    const uint16_t word =
        (uint16_t)x; /* written in any case, kept if need be: a branch would be a coin's toss */
    const unsigned full = x >> (32 - RANS_BITS - shift) >= entry->frequency;
    memcpy(encoder->words - sizeof word, &word, sizeof word);
    encoder->words -= full * sizeof word;
    x >>= 16 * full;
    const uint32_t quotient = (uint32_t)(int64_t)(x * rans->inverse[entry->frequency]);
    const uint32_t slot = x - quotient * entry->frequency + entry->start;
    encoder->state[lane] =
        (quotient << RANS_BITS | slot) << shift | ((uint32_t)centred & (((uint32_t)1 << shift) - 1));
}

void rans_encode(const struct rans *rans, struct rans_encoder *encoder, const struct rans_matrix *matrix,
                 const int16_t *residuals)
{
    struct rans_encoder local = *encoder; /* of which the compiler knows that nothing else points to it */
    for (int64_t block = block_count(matrix) - 1; block >= 0; block--) {
        const int16_t *column_level = matrix->column_level + block * RANS_LANES;
        for (int64_t row = matrix->rows - 1; row >= 0; row--) {
            const int16_t *values = residuals + row * matrix->cols + block * RANS_LANES;
            for (int lane = lanes_of(matrix, block) - 1; lane >= 0; lane--)
                encode_value(rans, &local, lane, clamp_level(matrix->row_level[row] + column_level[lane]),
                             values[lane]);
        }
    }
    *encoder = local;
}

/* ---- decoding ---- */

int rans_decode_start(struct rans_decoder *decoder, const uint32_t state[RANS_LANES], struct error *error)
{
    for (int lane = 0; lane < RANS_LANES; lane++) {
        if (state[lane] < STATE_LEAST)
            return error_set(error, "state %d is below what it can be", lane);
        decoder->state[lane] = state[lane];
    }
    decoder->failed = false;
    return 0;
}

static int16_t take_word(struct rans_decoder *decoder, const unsigned char **from, const unsigned char *end)
{
    int16_t word = 0;
    if (end - *from < (ptrdiff_t)sizeof word) {
        decoder->failed = true;
        return 0;
    }
    memcpy(&word, *from, sizeof word);
    *from += sizeof word;
    return word;
}

static int32_t decode_value(const struct rans *rans, struct rans_decoder *decoder, int lane, int level)
{
    const int shift = shift_of(level), table = level - shift * RANS_OCTAVE;
    uint32_t x = decoder->state[lane];
    const uint32_t slot = x >> shift & (RANS_SLOTS - 1), noise = x & (((uint32_t)1 << shift) - 1);
    const uint32_t entry = rans->slot[(size_t)table << RANS_BITS | slot];
    x = (entry & 0xfff) * (x >> shift >> RANS_BITS) + (entry >> 12 & 0xfff);
    if (x < STATE_LEAST)
        x = x << 16 | (uint16_t)take_word(decoder, &decoder->words, decoder->words_end);
    decoder->state[lane] = x;
    const int32_t symbol = (int32_t)entry >> 24;
    if (symbol == RANS_ESCAPE)
        return take_word(decoder, &decoder->escapes, decoder->escapes_end);
    return symbol * (1 << shift) + (int32_t)noise - (1 << shift >> 1);
}

static void decode_row(const struct rans *rans, struct rans_decoder *decoder, const struct rans_matrix *matrix,
                       int64_t block, int64_t row, int16_t *values)
{
    const int64_t first = block * RANS_LANES, at = row * matrix->cols + first;
    for (int lane = 0; lane < lanes_of(matrix, block); lane++) {
        const int level = clamp_level(matrix->row_level[row] + matrix->column_level[first + lane]);
        const int32_t residual = decode_value(rans, decoder, lane, level);
        const int32_t above = row > 0 ? values[at - matrix->cols + lane] : 0;
        values[at + lane] = (int16_t)(residual + rans_expected(matrix->slope[first + lane], above));
    }
}

void rans_decode(const struct rans *rans, const struct rans_path *path, struct rans_decoder *decoder,
                 const struct rans_matrix *matrix, int16_t *values)
{
    for (int64_t block = 0; block < block_count(matrix); block++) {
        int64_t row = 0;
        if (path->decode && lanes_of(matrix, block) == RANS_LANES)
            row = path->decode(rans, decoder, matrix, block, 0, values);
        for (; row < matrix->rows; row++)
            decode_row(rans, decoder, matrix, block, row, values);
    }
}

int rans_decode_finish(const struct rans_decoder *decoder, struct error *error)
{
    bool ended =
        !decoder->failed && decoder->words == decoder->words_end && decoder->escapes == decoder->escapes_end;
    for (int lane = 0; lane < RANS_LANES; lane++)
        ended = ended && decoder->state[lane] == STATE_LEAST;
    return ended ? 0 : error_set(error, "the values do not end where their bytes do");
}
