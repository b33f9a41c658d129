/* Decoding with AVX2 and AVX-512: 8 or 16 lanes at a time, in the same order as rans.c's decode_row. */
#include "common/codec/rans.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>
#include <stdio.h>
#include <string.h>

/* What a row of a block takes at most. */
#define ROW_BYTES ((ptrdiff_t)(RANS_LANES * sizeof(uint16_t)))

#define AVX2   __attribute__((target("avx2,popcnt")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,popcnt")))

/* Puts escapes where lanes have their bit in `mask`. False: the list is too short. */
static void take_escapes(struct rans_decoder *decoder, uint32_t mask, int32_t *residual)
{
    for (; mask; mask &= mask - 1) {
        int16_t value = 0;
        if (decoder->escapes_end - decoder->escapes < (ptrdiff_t)sizeof value) {
            decoder->failed = true;
        } else {
            memcpy(&value, decoder->escapes, sizeof value);
            decoder->escapes += sizeof value;
        }
        residual[__builtin_ctz(mask)] = value;
    }
}

/* ---- AVX2 ---- */

/* Eight entries, loaded one by one: where Gather Data Sampling is mitigated, a gather takes three times as
 * long. */
AVX2 static inline __m256i look_up8(const uint32_t *table, __m256i index)
{
    const __m128i low = _mm256_castsi256_si128(index), high = _mm256_extracti128_si256(index, 1);
    const uint64_t a = (uint64_t)_mm_cvtsi128_si64(low), b = (uint64_t)_mm_extract_epi64(low, 1);
    const uint64_t c = (uint64_t)_mm_cvtsi128_si64(high), d = (uint64_t)_mm_extract_epi64(high, 1);
    __m128i first = _mm_cvtsi32_si128((int)table[(uint32_t)a]),
            second = _mm_cvtsi32_si128((int)table[(uint32_t)c]);
    first = _mm_insert_epi32(first, (int)table[a >> 32], 1);
    second = _mm_insert_epi32(second, (int)table[c >> 32], 1);
    first = _mm_insert_epi32(first, (int)table[(uint32_t)b], 2);
    second = _mm_insert_epi32(second, (int)table[(uint32_t)d], 2);
    first = _mm_insert_epi32(first, (int)table[b >> 32], 3);
    second = _mm_insert_epi32(second, (int)table[d >> 32], 3);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
}

/* Eight lanes' states and what they hold to: . */
struct decoded8 {
    __m256i state, residual;
};

AVX2 static inline struct decoded8 decode8(const struct rans *rans, struct rans_decoder *decoder,
                                           const unsigned char **next, __m256i x, __m256i level)
{
    const __m256i one = _mm256_set1_epi32(1), low12 = _mm256_set1_epi32(0xfff), zero = _mm256_setzero_si256();
    level = _mm256_min_epi32(_mm256_max_epi32(level, zero), _mm256_set1_epi32(RANS_LEVELS - 1));
    const __m256i over = _mm256_sub_epi32(level, _mm256_set1_epi32(RANS_TABLES - RANS_OCTAVE));
    const __m256i shift = _mm256_max_epi32(_mm256_srai_epi32(over, 2), zero);
    const __m256i table = _mm256_sub_epi32(level, _mm256_slli_epi32(shift, 2));
    const __m256i unit = _mm256_sllv_epi32(one, shift), high = _mm256_srlv_epi32(x, shift);
    const __m256i slot = _mm256_or_si256(_mm256_slli_epi32(table, RANS_BITS),
                                         _mm256_and_si256(high, _mm256_set1_epi32(RANS_SLOTS - 1)));
    const __m256i entry = look_up8(rans->slot, slot);
    const __m256i noise = _mm256_and_si256(x, _mm256_sub_epi32(unit, one));
    x = _mm256_add_epi32(_mm256_mullo_epi32(_mm256_and_si256(entry, low12), _mm256_srli_epi32(high, RANS_BITS)),
                         _mm256_and_si256(_mm256_srli_epi32(entry, 12), low12));

    const __m256i needs = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), zero);
    const unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(needs));
    const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)*next));
    const __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)rans->compact[mask]));
    const __m256i fed = _mm256_or_si256(_mm256_slli_epi32(x, 16), _mm256_permutevar8x32_epi32(words, order));
    *next += 2 * __builtin_popcount(mask);
    x = _mm256_blendv_epi8(x, fed, needs);

    const __m256i symbol = _mm256_srai_epi32(entry, 24);
    __m256i residual =
        _mm256_sub_epi32(_mm256_add_epi32(_mm256_sllv_epi32(symbol, shift), noise), _mm256_srli_epi32(unit, 1));
    const __m256i escapes = _mm256_cmpeq_epi32(symbol, _mm256_set1_epi32(RANS_ESCAPE));
    const unsigned escape_mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(escapes));
    if (__builtin_expect(escape_mask != 0, 0)) {
        int32_t lanes[8];
        _mm256_storeu_si256((__m256i *)lanes, residual);
        take_escapes(decoder, escape_mask, lanes);
        residual = _mm256_loadu_si256((const __m256i *)lanes);
    }
    return (struct decoded8){x, residual};
}

AVX2 static inline __m256i wide8(const int16_t *values)
{
    return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)values));
}

AVX2 static int64_t decode_avx2(const struct rans *rans, struct rans_decoder *decoder,
                                const struct rans_matrix *matrix, int64_t block, int64_t row, int16_t *values)
{
    enum { VECTORS = RANS_LANES / 8 };
    const int64_t first = block * RANS_LANES;
    const unsigned char *words = decoder->words;
    __m256i state[VECTORS], above[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
        state[v] = _mm256_loadu_si256((const __m256i *)(decoder->state + 8 * v));
        above[v] = row > 0 ? wide8(values + (row - 1) * matrix->cols + first + 8 * v) : _mm256_setzero_si256();
    }
    for (; row < matrix->rows && decoder->words_end - words >= ROW_BYTES; row++) {
        const __m256i row_level = _mm256_set1_epi32(matrix->row_level[row]);
        int16_t *to = values + row * matrix->cols + first;
        for (int v = 0; v < VECTORS; v++) {
            const __m256i level = _mm256_add_epi32(row_level, wide8(matrix->column_level + first + 8 * v));
            const struct decoded8 decoded = decode8(rans, decoder, &words, state[v], level);
            const __m256i slope = wide8(matrix->slope + first + 8 * v);
            const __m256i expected = _mm256_srai_epi32(
                _mm256_add_epi32(_mm256_mullo_epi32(slope, above[v]), _mm256_set1_epi32(8)), 4);
            const __m256i sum = _mm256_add_epi32(decoded.residual, expected);
            state[v] = decoded.state;
            above[v] = _mm256_srai_epi32(_mm256_slli_epi32(sum, 16), 16);
            const __m256i packed =
                _mm256_permute4x64_epi64(_mm256_packs_epi32(above[v], above[v]), _MM_SHUFFLE(3, 1, 2, 0));
            _mm_storeu_si128((__m128i *)(to + 8 * v), _mm256_castsi256_si128(packed));
        }
    }
    for (int v = 0; v < VECTORS; v++)
        _mm256_storeu_si256((__m256i *)(decoder->state + 8 * v), state[v]);
    decoder->words = words;
    return row;
}

/* ---- AVX-512 ---- */

struct decoded16 {
    __m512i state, residual;
};

AVX512 static inline __m512i look_up16(const uint32_t *table, __m512i index, bool gathers)
{
    if (gathers)
        return _mm512_i32gather_epi32(index, table, sizeof *table);
    const __m256i low = look_up8(table, _mm512_castsi512_si256(index));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), look_up8(table, _mm512_extracti64x4_epi64(index, 1)),
                              1);
}

AVX512 static inline struct decoded16 decode16(const struct rans *rans, struct rans_decoder *decoder,
                                               const unsigned char **next, __m512i x, __m512i level,
                                               bool gathers)
{
    const __m512i one = _mm512_set1_epi32(1), low12 = _mm512_set1_epi32(0xfff), zero = _mm512_setzero_si512();
    level = _mm512_min_epi32(_mm512_max_epi32(level, zero), _mm512_set1_epi32(RANS_LEVELS - 1));
    const __m512i over = _mm512_sub_epi32(level, _mm512_set1_epi32(RANS_TABLES - RANS_OCTAVE));
    const __m512i shift = _mm512_max_epi32(_mm512_srai_epi32(over, 2), zero);
    const __m512i table = _mm512_sub_epi32(level, _mm512_slli_epi32(shift, 2));
    const __m512i unit = _mm512_sllv_epi32(one, shift), high = _mm512_srlv_epi32(x, shift);
    const __m512i slot = _mm512_or_si512(_mm512_slli_epi32(table, RANS_BITS),
                                         _mm512_and_si512(high, _mm512_set1_epi32(RANS_SLOTS - 1)));
    const __m512i entry = look_up16(rans->slot, slot, gathers);
    const __m512i noise = _mm512_and_si512(x, _mm512_sub_epi32(unit, one));
    x = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_and_si512(entry, low12), _mm512_srli_epi32(high, RANS_BITS)),
                         _mm512_and_si512(_mm512_srli_epi32(entry, 12), low12));

    const __mmask16 needs = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(1 << 16));
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)*next));
    const __m512i fed = _mm512_or_si512(_mm512_slli_epi32(x, 16), _mm512_maskz_expand_epi32(needs, words));
    *next += 2 * __builtin_popcount(needs);
    x = _mm512_mask_mov_epi32(x, needs, fed);

    const __m512i symbol = _mm512_srai_epi32(entry, 24);
    __m512i residual =
        _mm512_sub_epi32(_mm512_add_epi32(_mm512_sllv_epi32(symbol, shift), noise), _mm512_srli_epi32(unit, 1));
    const __mmask16 escapes = _mm512_cmpeq_epi32_mask(symbol, _mm512_set1_epi32(RANS_ESCAPE));
    if (__builtin_expect(escapes != 0, 0)) {
        int32_t lanes[16];
        _mm512_storeu_si512(lanes, residual);
        take_escapes(decoder, escapes, lanes);
        residual = _mm512_loadu_si512(lanes);
    }
    return (struct decoded16){x, residual};
}

AVX512 static inline __m512i wide16(const int16_t *values)
{
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)values));
}

AVX512 static inline int64_t decode_rows16(const struct rans *rans, struct rans_decoder *decoder,
                                           const struct rans_matrix *matrix, int64_t block, int64_t row,
                                           int16_t *values, bool gathers)
{
    enum { VECTORS = RANS_LANES / 16 };
    const int64_t first = block * RANS_LANES;
    const unsigned char *words = decoder->words;
    __m512i state[VECTORS], above[VECTORS], column_level[VECTORS], slope[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
        state[v] = _mm512_loadu_si512(decoder->state + 16 * v);
        above[v] =
            row > 0 ? wide16(values + (row - 1) * matrix->cols + first + 16 * v) : _mm512_setzero_si512();
        column_level[v] = wide16(matrix->column_level + first + 16 * v);
        slope[v] = wide16(matrix->slope + first + 16 * v);
    }
    for (; row < matrix->rows && decoder->words_end - words >= ROW_BYTES; row++) {
        const __m512i row_level = _mm512_set1_epi32(matrix->row_level[row]);
        int16_t *to = values + row * matrix->cols + first;
        for (int v = 0; v < VECTORS; v++) {
            const struct decoded16 decoded = decode16(rans, decoder, &words, state[v],
                                                      _mm512_add_epi32(row_level, column_level[v]), gathers);
            const __m512i expected = _mm512_srai_epi32(
                _mm512_add_epi32(_mm512_mullo_epi32(slope[v], above[v]), _mm512_set1_epi32(8)), 4);
            const __m256i low = _mm512_cvtepi32_epi16(_mm512_add_epi32(decoded.residual, expected));
            state[v] = decoded.state;
            above[v] = _mm512_cvtepi16_epi32(low);
            _mm256_storeu_si256((__m256i *)(to + 16 * v), low);
        }
    }
    for (int v = 0; v < VECTORS; v++)
        _mm512_storeu_si512(decoder->state + 16 * v, state[v]);
    decoder->words = words;
    return row;
}

AVX512 static int64_t decode_gathering(const struct rans *rans, struct rans_decoder *decoder,
                                       const struct rans_matrix *matrix, int64_t block, int64_t row,
                                       int16_t *values)
{
    return decode_rows16(rans, decoder, matrix, block, row, values, true);
}

AVX512 static int64_t decode_avx512(const struct rans *rans, struct rans_decoder *decoder,
                                    const struct rans_matrix *matrix, int64_t block, int64_t row,
                                    int16_t *values)
{
    return decode_rows16(rans, decoder, matrix, block, row, values, false);
}

int rans_paths(const struct rans_path **paths)
{
    static const struct rans_path all[] = {{"avx512, gathering", decode_gathering},
                                           {"avx512", decode_avx512},
                                           {"avx2", decode_avx2},
                                           {"portable", NULL}};
    const int count = sizeof all / sizeof *all;
    const int skipped = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                __builtin_cpu_supports("avx512vl")
                            ? 0
                        : __builtin_cpu_supports("avx2") ? 2
                                                         : 3;
    *paths = all + skipped;
    return count - skipped;
}

/* Whether gathers run at full speed, as far as Linux says. */
static bool gathers_are_fast(void)
{
    char text[16] = "";
    FILE *file = fopen("/sys/devices/system/cpu/vulnerabilities/gather_data_sampling", "r");
    if (!file)
        return false;
    if (!fgets(text, sizeof text, file))
        text[0] = 0;
    fclose(file);
    return __builtin_cpu_is("intel") && strncmp(text, "Not affected", 12) == 0;
}

const struct rans_path *rans_path_fastest(void)
{
    const struct rans_path *paths;
    rans_paths(&paths);
    return paths->decode == decode_gathering && !gathers_are_fast() ? paths + 1 : paths;
}

#else

int rans_paths(const struct rans_path **paths)
{
    static const struct rans_path portable = {"portable", NULL};
    *paths = &portable;
    return 1;
}

const struct rans_path *rans_path_fastest(void)
{
    const struct rans_path *paths;
    rans_paths(&paths);
    return paths;
}

#endif
