#include "common/base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h> /* the same values, by the widest vectors there are */
#else
#include <xxhash.h>
#endif

uint64_t hash_bytes(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}

void hash_print(uint64_t hash, char text[17])
{
    snprintf(text, 17, "%016" PRIx64, hash);
}
