#include "common/text/token_map.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/memory.h"

int token_map_create(struct token_map *map, size_t count, struct error *error)
{
    size_t slots = 16;
    while (slots / 2 < count)
        slots *= 2;
    map->mask = slots - 1;
    return array_alloc(&map->slots, slots, error);
}

void token_map_free(struct token_map *map)
{
    free(map->slots);
    *map = (struct token_map){0};
}

/* The key's slot, or the free one where it belongs. */
static struct token_slot *find_slot(const struct token_map *map, const char *key, size_t size, uint32_t hash)
{
    size_t at = hash & map->mask;
    for (;; at = (at + 1) & map->mask) {
        struct token_slot *slot = &map->slots[at];
        if (!slot->key || (slot->hash == hash && slot->size == size && memcmp(slot->key, key, size) == 0))
            return slot;
    }
}

int32_t token_map_find(const struct token_map *map, const char *key, size_t size)
{
    const struct token_slot *slot = find_slot(map, key, size, (uint32_t)hash_bytes(key, size, 0));
    return slot->key ? slot->id : -1;
}

void token_map_put(struct token_map *map, const char *key, size_t size, int32_t id)
{
    uint32_t hash = (uint32_t)hash_bytes(key, size, 0);
    *find_slot(map, key, size, hash) =
        (struct token_slot){.key = key, .size = (uint32_t)size, .hash = hash, .id = id};
}
