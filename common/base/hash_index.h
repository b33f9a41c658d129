/* hash_index.h: finds entries of an array by a key.
 *
 * The array is the caller's. The index has a number of 64 bits for each entry, by which it is found: the
 * entry's key itself, or a hash of it. Where it is a hash, the caller compares the keys of what is found.
 *
 *     struct hash_index index = {0};
 *     hash_index_put(&index, hash_of(entries[7].name), 7, error);
 *
 *     struct hash_probe probe = {hash_of(name)};
 *     for (uint32_t i; (i = hash_index_next(&index, &probe)) != HASH_INDEX_END;)
 *         if (strcmp(entries[i].name, name) == 0)
 *             return i;
 *     hash_index_free(&index);
 *
 *     slots      | 7 |   |   | 2 | 0 |   |   | 1 |     a power of two of them, at most half taken; an entry is in the slot that
 *                                                      its number is mixed to, or in the next one that was free
 *
 * Several threads may look up at once, as long as none puts.
 */
#ifndef OFFRAMP_BASE_HASH_INDEX_H
#define OFFRAMP_BASE_HASH_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

#define HASH_INDEX_END UINT32_MAX

/* Zeroed: empty. */
struct hash_index {
    struct hash_slot {
        uint64_t key;
        uint32_t entry; /* entry + 1; 0: free */
    } * slots;
    size_t mask; /* slots - 1 */
    size_t count; /* of entries */
};

/* Adds entry 0 .. HASH_INDEX_END - 1, even where there is one of that key. -1 when memory is out: nothing has
 * changed then. */
int hash_index_put(struct hash_index *index, uint64_t key, uint32_t entry, struct error *error);
void hash_index_free(struct hash_index *index);

/* A search: what is looked for, and how many slots it has gone on from the first. */
struct hash_probe {
    uint64_t key;
    size_t gone;
};

/* Fibonacci hashing: the high bits are mixed best. */
static inline size_t hash_index_mix(uint64_t key)
{
    return (size_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

/* The next entry of that key, or HASH_INDEX_END. Inline: a tokenizer spends its time here. */
static inline uint32_t hash_index_next(const struct hash_index *index, struct hash_probe *probe)
{
    const size_t first = hash_index_mix(probe->key);
    while (index->slots) {
        const struct hash_slot *slot = &index->slots[(first + probe->gone++) & index->mask];
        if (!slot->entry)
            break;
        if (slot->key == probe->key)
            return slot->entry - 1;
    }
    return HASH_INDEX_END;
}

#endif
