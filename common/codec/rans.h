/* rans.h: an entropy coder for integers whose spread is known. Only common/codec includes this.
 *
 * Values come as a matrix; each has a level, the sum of its row's and its column's, in quarters of an octave of
 * standard deviation. A level names a static table of probabilities (a bell curve, rans_tables.c), so that no
 * table travels with the bytes. Values too far out for their table are escapes: they go to a list, exactly.
 *
 * The coder is rANS (Duda, arXiv 1311.2540; interleaved as in Giesen, arXiv 1402.3392): RANS_LANES states in
 * turn, lane i of a block of RANS_LANES columns coding column i, block after block, each row after row. Words
 * of 16 bits are read in that order, so that one instruction set's vectors give the same bytes as another's.
 *
 * Several matrices may follow each other: decoded in an order, encoded in the reverse order.
 */
#ifndef OFFRAMP_CODEC_RANS_H
#define OFFRAMP_CODEC_RANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

enum {
    RANS_LANES = 32,
    RANS_BITS = 11, /* a table's probabilities are multiples of 2^-11 */
    RANS_SLOTS = 1 << RANS_BITS,
    RANS_OCTAVE = 4, /* levels in an octave */
    RANS_TABLES = 24, /* levels with tables of their own: deviations 1/8 to 6.7 */
    RANS_SHIFTS = 16 - RANS_BITS, /* octaves above, with 1, 2, .. lowest bits taken as noise */
    RANS_LEVELS = RANS_TABLES + RANS_SHIFTS * RANS_OCTAVE, /* to 215 */
    RANS_REACH = 64, /* no table has symbols this far from 0 */
    RANS_ESCAPE = -128 /* as a symbol */
};

/* What an encoder needs of a symbol. */
struct rans_symbol {
    uint16_t start, frequency; /* frequency 0: the table does not have it */
};

/* Made by rans_create, then read only. */
struct rans {
    uint32_t slot[RANS_TABLES << RANS_BITS]; /* symbol << 24 | (slot - start) << 12 | frequency */
    struct rans_symbol symbol[RANS_TABLES][2 * RANS_REACH]; /* [symbol + RANS_REACH]; the escape first */
    double inverse[RANS_SLOTS]; /* of a frequency, rounded up */
    double energy[RANS_LEVELS]; /* mean square of a level's values */
    unsigned char compact[256][8]; /* of a mask's bits: from where each lane gets its word */
};

int rans_create(struct rans **rans, struct error *error);
void rans_destroy(struct rans *rans); /* NULL is fine */

/* The level whose values have this mean square. */
int rans_level(const struct rans *rans, double energy);

/* How the values of a matrix spread. All of it may come from bytes that are not trusted: levels outside
 * 0 .. RANS_LEVELS - 1 count as the nearest. */
struct rans_matrix {
    int64_t rows, cols;
    const int16_t *row_level; /* [rows] */
    const int16_t *column_level; /* [cols] */
    const int16_t *slope; /* [cols] what a value has of the one above it, in sixteenths */
};

/* What a value with this slope is expected to be, below `above`. The difference is what is coded, modulo
 * 2^16. */
static inline int32_t rans_expected(int32_t slope, int32_t above)
{
    return (slope * above + 8) >> 4;
}

/* ---- encoding: backwards ---- */

struct rans_encoder {
    uint32_t state[RANS_LANES];
    unsigned char *words, *escapes; /* grow downwards; 2 bytes a value are enough for each */
};

void rans_encode_start(struct rans_encoder *encoder, unsigned char *words_end, unsigned char *escapes_end);
/* residuals [rows, cols]: values less what is expected of them. */
void rans_encode(const struct rans *rans, struct rans_encoder *encoder, const struct rans_matrix *matrix,
                 const int16_t *residuals);

/* ---- decoding ---- */

struct rans_decoder {
    uint32_t state[RANS_LANES];
    const unsigned char *words, *words_end, *escapes, *escapes_end;
    bool failed; /* words or escapes were missing */
};

/* Instruction sets: decodes rows [row, ...) of a whole block, as many as there are words enough for in any
 * case, and returns where it stopped. */
typedef int64_t rans_decode_rows(const struct rans *rans, struct rans_decoder *decoder,
                                 const struct rans_matrix *matrix, int64_t block, int64_t row, int16_t *values);

struct rans_path {
    const char *name;
    rans_decode_rows *decode; /* NULL: the portable one */
};
/* The paths this machine has, the portable one last; returns how many. */
int rans_paths(const struct rans_path **paths);
const struct rans_path *rans_path_fastest(void);

/* States of at least 2^16. The words are not trusted; whatever they are, the states stay what they must be. */
int rans_decode_start(struct rans_decoder *decoder, const uint32_t state[RANS_LANES], struct error *error);
/* values [rows, cols] */
void rans_decode(const struct rans *rans, const struct rans_path *path, struct rans_decoder *decoder,
                 const struct rans_matrix *matrix, int16_t *values);
/* Everything was used up, and ended as encoding began. */
int rans_decode_finish(const struct rans_decoder *decoder, struct error *error);

#endif
