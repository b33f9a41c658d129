/* loops.h: the inner loops of the cpu backend, one table of them per instruction set.
 *
 * The files of this folder are compiled once per set (build.mk) with LOOP_SET naming it; LOOP(name)
 * is that file's own version of a function, and table.c gathers them. device.c picks a table when a
 * backend is opened. Loops take plain arrays: `n` neighbouring values, or rows with a stride in values.
 * A loop's result for one value or row must not depend on the values or rows beside it.
 */
#ifndef OFFRAMP_KERNELS_CPU_LOOPS_H
#define OFFRAMP_KERNELS_CPU_LOOPS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/dtype.h"

/* Adam's constants of one step, worked out once per op. */
struct adam_step {
    float clip, beta1, beta2, epsilon, decay; /* decay: rate times decay */
    float rate; /* divided by the first moment's bias correction */
    float second_scale; /* 1 / the second moment's bias correction */
};

/* A softmax over part of a row: values are e^(z - exponent ln 2). The reference is a power of two, so that
 * several parts are brought to a common reference exactly. */
struct part_sums {
    float exponent;
    float sum; /* of the values */
    float moment; /* of value * (z - exponent ln 2) */
    float cross; /* of value * other z */
};

/* One of the largest logits of a row. */
struct part_best {
    float logit;
    int32_t token;
};

/* Puts a logit into best [count] (at most `most`), which is by falling logit; behind equal ones. The last one
 * drops out where there is no more room. Returns the new count. */
static inline int64_t part_best_add(struct part_best one, int64_t most, int64_t count, struct part_best *best)
{
    int64_t at = count < most ? count : most - 1;
    if (count == most && !(one.logit > best[at].logit))
        return count;
    for (; at > 0 && best[at - 1].logit < one.logit; at--)
        best[at] = best[at - 1];
    best[at] = one;
    return count < most ? count + 1 : most;
}

/* Some of the keys that a query sees, and their values: one key head's. */
struct attend_keys {
    const float *keys, *values; /* rows */
    int64_t key_stride, value_stride, count;
};
/* Where the gradients of such keys and values are added; NULL: not wanted. */
struct attend_grads {
    float *keys, *values;
    int64_t key_stride, value_stride;
};
enum { ATTEND_KEYS = 2 }; /* those of the span, and the query's own */

/* Up to FEW_BLOCK rows share one read of a weight row. */
enum { FEW_BLOCK = 4 };

/* y [rows, count] = x [rows, cols] times `count` weight rows, row_bytes apart, in a file's format. */
typedef void few_rows_loop(const void *weight, size_t row_bytes, int64_t count, int64_t cols, const float *x,
                           int64_t x_stride, int rows, float *y, int64_t y_stride);

struct cpu_loops {
    const char *name;

    /* convert.c */
    void (*round_bf16)(const float *x, int64_t n, uint16_t *y);
    /* y [cols, rows] = x [rows, cols] transposed */
    void (*transpose)(const float *x, int64_t x_stride, int64_t rows, int64_t cols, float *y, int64_t y_stride);

    /* elementwise.c */
    void (*axpy)(float alpha, const float *x, int64_t n, float *y); /* y += alpha x */
    void (*scale)(float alpha, const float *x, int64_t n, float *y); /* y = alpha x; may be in place */
    void (*multiply)(const float *x, int64_t n, float *y); /* y *= x */
    void (*add_double)(const float *x, int64_t n, double *y); /* y += x */
    double (*sum_squares)(const float *x, int64_t n);
    float (*dot)(const float *x, const float *y, int64_t n);
    void (*adam)(const struct adam_step *step, int64_t n, float *gradient, float *value, float *first,
                 float *second);

    /* norm.c: one group of n values */
    float (*mean_square)(const float *x, int64_t n);
    void (*norm)(const float *x, const float *scale, float epsilon, int64_t n, float *y);
    /* dx = (or += when add); dscale += unless NULL */
    void (*norm_grad)(const float *dy, const float *x, const float *scale, float epsilon, int64_t n, bool add,
                      float *dx, float *dscale);

    /* activation.c */
    void (*swiglu)(const float *gate, const float *up, int64_t n, float *y);
    void (*swiglu_grad)(const float *dy, const float *gate, const float *up, int64_t n, float *dgate,
                        float *dup);
    /* direction: 1, or -1 for the gradient */
    void (*rope_halves)(float *x, const float *cosine, const float *sine, float direction, int64_t half);
    void (*rope_adjacent)(float *x, const float *cosine, const float *sine, float direction, int64_t half);

    /* softmax.c: values = e^(x - largest x), their sum is returned */
    float (*softmax)(const float *x, int64_t n, float *values);
    /* The same in two parts, over `blocks` blocks of `width` values (a multiple of LANES), x_stride apart. The
     * values of all blocks come one behind the other, as f32 or as bf16 (the other NULL). */
    float (*blocks_largest)(const float *x, int64_t x_stride, int64_t blocks, int64_t width);
    float (*blocks_exp)(const float *x, int64_t x_stride, int64_t blocks, int64_t width, float largest,
                        float *values, uint16_t *values_bf16);

    /* attend.c: one query over keys [ATTEND_KEYS], one list behind the other; scores [all keys] is working memory */
    void (*attend)(const float *query, const struct attend_keys *keys, int64_t head_size, float scale,
                   float *scores, float *out);
    /* Its gradients, all added; grads [ATTEND_KEYS] */
    void (*attend_grad)(const float *query, const struct attend_keys *keys, int64_t head_size, float scale,
                        float *scores, const float *out, const float *dout, float *dq,
                        const struct attend_grads *grads);

    /* Of n weights before they are divided by their sum, and the gradients of the weights:
     * weights *= inverse, dweights = weights * (dweights - mean). */
    void (*slopes)(float inverse, float mean, int64_t n, float *weights, float *dweights);

    /* vocab.c: one row's logits z of one part of the vocabulary */
    /* values (f32 or bf16, or both NULL); other: NULL, or the z of `cross` */
    void (*part_softmax)(const float *z, const float *other, int64_t n, struct part_sums *sums, float *values,
                         uint16_t *values_bf16);
    /* Index of the largest z, the first of equals. */
    int64_t (*part_top)(const float *z, int64_t n);
    /* The `most` largest z that are at least `least`, in the order of part_best_add; z[0] is `first`. Returns how
     * many there are. */
    int64_t (*part_best)(const float *z, int64_t n, int64_t first, float least, int64_t most,
                         struct part_best *best);
    /* values = factor * values - other_factor * others (others may be NULL) */
    void (*part_combine)(float factor, float other_factor, const float *others, int64_t n, float *values);
    void (*part_combine_bf16)(float factor, float other_factor, const uint16_t *others, int64_t n,
                              uint16_t *values);
    void (*widen_bf16)(const void *x, int64_t n, float *y); /* x: bf16 at any address */

    /* few_rows.c, by dtype; NULL for types that are not weights */
    few_rows_loop *few_rows[DTYPE_COUNT];
};

extern const struct cpu_loops cpu_loops_base, cpu_loops_avx2, cpu_loops_avx512;

#ifdef LOOP_SET
#define LOOP_PASTE_(name, set) cpu_##name##_##set
#define LOOP_PASTE(name, set)  LOOP_PASTE_(name, set)
#define LOOP(name)             LOOP_PASTE(name, LOOP_SET)

/* Prototypes of one set's functions: for table.c and -Wmissing-prototypes. */
void LOOP(round_bf16)(const float *, int64_t, uint16_t *);
void LOOP(transpose)(const float *, int64_t, int64_t, int64_t, float *, int64_t);
void LOOP(axpy)(float, const float *, int64_t, float *);
void LOOP(scale)(float, const float *, int64_t, float *);
void LOOP(multiply)(const float *, int64_t, float *);
void LOOP(add_double)(const float *, int64_t, double *);
double LOOP(sum_squares)(const float *, int64_t);
float LOOP(dot)(const float *, const float *, int64_t);
void LOOP(adam)(const struct adam_step *, int64_t, float *, float *, float *, float *);
float LOOP(mean_square)(const float *, int64_t);
void LOOP(norm)(const float *, const float *, float, int64_t, float *);
void LOOP(norm_grad)(const float *, const float *, const float *, float, int64_t, bool, float *, float *);
void LOOP(swiglu)(const float *, const float *, int64_t, float *);
void LOOP(swiglu_grad)(const float *, const float *, const float *, int64_t, float *, float *);
void LOOP(rope_halves)(float *, const float *, const float *, float, int64_t);
void LOOP(rope_adjacent)(float *, const float *, const float *, float, int64_t);
float LOOP(softmax)(const float *, int64_t, float *);
float LOOP(blocks_largest)(const float *, int64_t, int64_t, int64_t);
float LOOP(blocks_exp)(const float *, int64_t, int64_t, int64_t, float, float *, uint16_t *);
void LOOP(attend)(const float *, const struct attend_keys *, int64_t, float, float *, float *);
void LOOP(attend_grad)(const float *, const struct attend_keys *, int64_t, float, float *, const float *,
                       const float *, float *, const struct attend_grads *);
void LOOP(slopes)(float, float, int64_t, float *, float *);
void LOOP(part_softmax)(const float *, const float *, int64_t, struct part_sums *, float *, uint16_t *);
int64_t LOOP(part_top)(const float *, int64_t);
int64_t LOOP(part_best)(const float *, int64_t, int64_t, float, int64_t, struct part_best *);
void LOOP(part_combine)(float, float, const float *, int64_t, float *);
void LOOP(part_combine_bf16)(float, float, const uint16_t *, int64_t, uint16_t *);
void LOOP(widen_bf16)(const void *, int64_t, float *);
few_rows_loop LOOP(few_rows_f32), LOOP(few_rows_f16), LOOP(few_rows_bf16), LOOP(few_rows_q8_0),
    LOOP(few_rows_q4_0), LOOP(few_rows_q4_1);
#endif

#endif
