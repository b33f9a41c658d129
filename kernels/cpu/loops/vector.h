/* vector.h: the few vector operations that the loops of the cpu backend are written in.
 *
 * A `vec` is as wide as the instruction set the file is compiled for (build.mk compiles every file of
 * this folder once per set), so the number of lanes that a sum is spread over is a property of the set.
 * Widening loads are intrinsics: gcc 12 builds them from single elements otherwise.
 */
#ifndef OFFRAMP_KERNELS_CPU_VECTOR_H
#define OFFRAMP_KERNELS_CPU_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define VEC_BYTES 64
#elif defined(__AVX2__)
#include <immintrin.h>
#define VEC_BYTES 32
#else
#define VEC_BYTES 16
#endif

enum { LANES = VEC_BYTES / 4 };

typedef float vec __attribute__((vector_size(VEC_BYTES)));
typedef int32_t int_vec __attribute__((vector_size(VEC_BYTES)));
typedef uint32_t uint_vec __attribute__((vector_size(VEC_BYTES)));
typedef uint16_t half_vec __attribute__((vector_size(VEC_BYTES / 2)));

#define INLINE static inline __attribute__((always_inline, unused))

INLINE vec vec_load(const void *x)
{
    vec v;
    memcpy(&v, x, sizeof v);
    return v;
}

INLINE void vec_store(float *x, vec v)
{
    memcpy(x, &v, sizeof v);
}

/* The first `count` < LANES values, zeros behind them. */
INLINE vec vec_load_part(const float *x, int64_t count)
{
    vec v = {0};
    memcpy(&v, x, (size_t)count * sizeof *x);
    return v;
}

INLINE void vec_store_part(float *x, vec v, int64_t count)
{
    memcpy(x, &v, (size_t)count * sizeof *x);
}

INLINE vec vec_fill(float x)
{
    return x - (vec){0};
}

/* a where the mask's lane is all ones, b where it is zero. */
INLINE vec vec_select(int_vec mask, vec a, vec b)
{
    return (vec)((mask & (int_vec)a) | (~mask & (int_vec)b));
}

/* The larger of a and b, b where either is NaN. */
INLINE vec vec_max(vec a, vec b)
{
#if VEC_BYTES == 64
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif VEC_BYTES == 32
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vec_select(a > b, a, b);
#endif
}

/* The smaller of a and b, b where either is NaN. */
INLINE vec vec_min(vec a, vec b)
{
#if VEC_BYTES == 64
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif VEC_BYTES == 32
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return vec_select(a < b, a, b);
#endif
}

/* Whether a lane of the mask is all ones. */
INLINE bool vec_any(int_vec mask)
{
#if VEC_BYTES == 64
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif VEC_BYTES == 32
    return _mm256_movemask_ps((__m256)mask) != 0;
#else
    return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
#endif
}

/* Folds the upper half of the lanes onto the lower one until one is left. */
#if VEC_BYTES == 64
#define VEC_FOLD(v, combine)                                                                                   \
    v = combine(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));       \
    v = combine(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));       \
    v = combine(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));       \
    v = combine(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14))
#elif VEC_BYTES == 32
#define VEC_FOLD(v, combine)                                                                                   \
    v = combine(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3));                                     \
    v = combine(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5));                                     \
    v = combine(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6))
#else
#define VEC_FOLD(v, combine)                                                                                   \
    v = combine(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));                                                 \
    v = combine(v, __builtin_shufflevector(v, v, 1, 0, 3, 2))
#endif

INLINE vec vec_add(vec a, vec b)
{
    return a + b;
}

INLINE float vec_sum(vec v)
{
    VEC_FOLD(v, vec_add);
    return v[0];
}

INLINE float vec_largest(vec v)
{
    VEC_FOLD(v, vec_max);
    return v[0];
}

/* ---- widening loads ---- */

INLINE vec vec_load_i8(const int8_t *x)
{
#if VEC_BYTES == 64
    return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)x)));
#elif VEC_BYTES == 32
    return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)x)));
#else
    return (vec){x[0], x[1], x[2], x[3]};
#endif
}

#if VEC_BYTES < 64
/* The low and the high halves of LANES bytes, each 0 .. 15. */
INLINE void vec_load_nibbles(const uint8_t *x, vec *low, vec *high)
{
#if VEC_BYTES == 32
    __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)x));
    *low = (vec)_mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(15)));
    *high = (vec)_mm256_cvtepi32_ps(_mm256_srli_epi32(bytes, 4));
#else
    for (int i = 0; i < LANES; i++) {
        (*low)[i] = (float)(x[i] & 15);
        (*high)[i] = (float)(x[i] >> 4);
    }
#endif
}
#endif

INLINE uint_vec vec_load_u16(const void *x)
{
#if VEC_BYTES == 64
    return (uint_vec)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x));
#elif VEC_BYTES == 32
    return (uint_vec)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x));
#else
    uint16_t values[LANES];
    memcpy(values, x, sizeof values);
    return (uint_vec){values[0], values[1], values[2], values[3]};
#endif
}

INLINE vec vec_load_bf16(const void *x)
{
    return (vec)(vec_load_u16(x) << 16);
}

/* Half precision. Without an instruction for it by integer arithmetic: a product with 2^112 rebiases
 * the exponent, which also makes subnormal halves normal floats; infinities and NaN get the full
 * exponent back. */
INLINE vec vec_load_f16(const void *x)
{
#if VEC_BYTES == 64
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)x));
#elif VEC_BYTES == 32
    return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x));
#else
    uint_vec bits = vec_load_u16(x), magnitude = bits & 0x7fff;
    uint_vec special = (uint_vec)(magnitude >= 0x7c00) & 0x7f800000;
    vec value = (vec)(magnitude << 13) * 0x1p112f;
    return (vec)((uint_vec)value | special | (bits & 0x8000) << 16);
#endif
}

INLINE float load_f16(const void *source)
{
#if VEC_BYTES >= 32
    uint16_t bits;
    memcpy(&bits, source, sizeof bits);
    return _cvtsh_ss(bits);
#else
    uint16_t bits[LANES] = {0};
    memcpy(bits, source, sizeof *bits);
    return vec_load_f16(bits)[0];
#endif
}

/* Round to nearest even; NaN stays NaN. */
INLINE void vec_store_bf16(uint16_t *x, vec v)
{
    uint_vec bits = (uint_vec)v;
    uint_vec rounded = bits + (0x7fff + ((bits >> 16) & 1));
    uint_vec nan = (uint_vec)(v != v);
    rounded = (rounded & ~nan) | ((bits | 0x400000) & nan);
#if VEC_BYTES == 64
    half_vec half = (half_vec)_mm512_cvtepi32_epi16((__m512i)(rounded >> 16));
#else
    half_vec half = __builtin_convertvector(rounded >> 16, half_vec);
#endif
    memcpy(x, &half, sizeof half);
}

/* e^x to about one unit in the last place, from e^(n ln 2 + r) = 2^n e^r with |r| <= ln(2) / 2; the
 * polynomial is a minimax fit of e^r. Below -87.3 the result is 0, above 88.3 it is e^88.3. */
INLINE vec vec_exp(vec x)
{
    int_vec vanishes = x < -87.3f;
    x = vec_min(vec_fill(88.3f), x);
    x = vec_max(vec_fill(-87.3f), x);
    vec shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: n is in the low bits */
    vec n = shifted - 12582912.0f;
    vec r = x - n * 0.693359375f; /* exact: 10 bits of ln 2 */
    r = r + n * 2.12194440e-4f;
    vec p = r * 1.39261759e-3f + 8.36317334e-3f;
    p = p * r + 4.16665561e-2f;
    p = p * r + 0.166665778f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    vec power = (vec)(((uint_vec)shifted << 23) + 0x3f800000u);
    return (vec)((int_vec)(p * power) & ~vanishes);
}

#endif
