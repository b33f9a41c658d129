/* hash.h: XXH3, for integrity and identity; not a defence against an adversary. */
#ifndef OFFRAMP_BASE_HASH_H
#define OFFRAMP_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3-64 of the bytes; of several parts by passing the last result as `seed`. */
uint64_t hash_bytes(const void *data, size_t size, uint64_t seed);

/* 16 lowercase hexadecimal digits and a zero byte. */
void hash_print(uint64_t hash, char text[17]);

#endif
