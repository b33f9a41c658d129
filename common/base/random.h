/* random.h: small seeded generators whose output is part of offramp's formats and must not change. */
#ifndef OFFRAMP_BASE_RANDOM_H
#define OFFRAMP_BASE_RANDOM_H

#include <stdint.h>

/* SplitMix64 (Steele, Lea, Flood 2014): state is any 64-bit number, the next value is returned. */
struct random {
    uint64_t state;
};

uint64_t random_next(struct random *random);
/* Uniform in [0, 1). */
double random_uniform(struct random *random);
/* Normal with mean 0 and deviation 1 (Box-Muller, one of the pair). */
double random_normal(struct random *random);

/* The position of `index` in a seeded permutation of 0 .. count-1. The permutation is computed, not stored
 * (Feistel network with cycle walking), so that a shuffled order takes no memory. */
uint64_t random_permute(uint64_t index, uint64_t count, uint64_t seed);

#endif
