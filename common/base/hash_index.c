#include "common/base/hash_index.h"

#include <stdlib.h>

#include "common/base/memory.h"

enum { FIRST_SLOTS = 16 };

static void take_slot(struct hash_slot *slots, size_t mask, struct hash_slot taken)
{
    size_t at = hash_index_mix(taken.key) & mask;
    while (slots[at].entry)
        at = (at + 1) & mask;
    slots[at] = taken;
}

/* Twice the slots, so that half of them stay free. */
static int grow(struct hash_index *index, struct error *error)
{
    const size_t before = index->slots ? index->mask + 1 : 0;
    const size_t after = before ? before * 2 : FIRST_SLOTS;
    struct hash_slot *slots;
    if (array_alloc(&slots, after, error) < 0)
        return -1;
    for (size_t i = 0; i < before; i++)
        if (index->slots[i].entry)
            take_slot(slots, after - 1, index->slots[i]);
    free(index->slots);
    index->slots = slots;
    index->mask = after - 1;
    return 0;
}

int hash_index_put(struct hash_index *index, uint64_t key, uint32_t entry, struct error *error)
{
    if ((!index->slots || index->count + 1 > (index->mask + 1) / 2) && grow(index, error) < 0)
        return -1;
    take_slot(index->slots, index->mask, (struct hash_slot){key, entry + 1});
    index->count++;
    return 0;
}

void hash_index_free(struct hash_index *index)
{
    free(index->slots);
    *index = (struct hash_index){0};
}
