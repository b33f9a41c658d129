/* fit.h: how the parameters of a codec are made.
 *
 *     moments_create(cols, &moments, error);
 *     moments_add(moments, states, rows, error);                    // any number of times
 *     codec->fit(moments, &parameters, error);                      // appends the parameters' bytes
 *     codec->choose_spacing(parameters.data, parameters.length, states, rows, 4, &setting.spacing, error);
 *     codec->set(parameters.data, parameters.length, &setting, error);       // any number of times
 *     coder_create(codec, parameters.data, parameters.length, cols, &coder, error);
 *
 * choose_spacing finds the spacing with which the coefficients of the states have so many bits a value. That is
 * the mean of the entropies of the columns, each by itself: what an ideal coder would need for them. Real
 * records are smaller by what the entropy stage finds between values, and larger by what it needs for tables.
 * The states should not be those that were fitted to.
 *
 * The same states in the same calls give the same bytes.
 */
#ifndef OFFRAMP_CODEC_FIT_H
#define OFFRAMP_CODEC_FIT_H

#include "common/codec/codec.h"

/* First and second moments of tokens' states, each divided by its RMS. Memory: 8 (+ 4 while adding) bytes
 * times cols squared. */
struct moments {
    int64_t cols, count; /* count: tokens that are not zero */
    double *sum; /* [cols] */
    double *products; /* [cols, cols] */
    float *part; /* [cols, cols], products of up to 512 rows in f32 */
    float *rows; /* [512, cols] */
};

int moments_create(int64_t cols, struct moments **moments, struct error *error);
void moments_destroy(struct moments *moments); /* NULL is fine */
int moments_add(struct moments *moments, const float *states, int64_t rows, struct error *error);

/* The covariance [cols, cols] of all but the mean; free() it. An error when there are too few tokens. */
int moments_covariance(const struct moments *moments, double **covariance, struct error *error);

#endif
