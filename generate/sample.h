/* sample.h: picks a token from logits: greedy, or by temperature, top-k and top-p (Holtzman et al. 2020,
 * arXiv 1904.09751), in this order. One seed gives one sequence of choices.
 */
#ifndef OFFRAMP_GENERATE_SAMPLE_H
#define OFFRAMP_GENERATE_SAMPLE_H

#include <stdint.h>

#include "common/base/error.h"
#include "common/base/random.h"

struct candidate;

struct sampler {
    double temperature; /* 0: greedy, needs no logits */
    int top_k; /* only the k likeliest; 0: all */
    double top_p; /* only the fewest likeliest that together have this share; 1: all */
    struct random random;
    struct candidate *candidate; /* [V] working memory */
};

/* Takes temperature, top_k, top_p and seed; sampler_free it. */
int sampler_create(struct sampler *sampler, double temperature, int top_k, double top_p, uint64_t seed,
                   int vocab, struct error *error);
void sampler_free(struct sampler *sampler); /* a zeroed one is fine */

/* A token from logits [V]; temperature above 0. */
int32_t sampler_pick(struct sampler *sampler, const float *logits, int vocab);

#endif
