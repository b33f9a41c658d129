/* token_map.h: finds an id by its bytes. Keys are borrowed: they must outlive the map. */
#ifndef OFFRAMP_TEXT_TOKEN_MAP_H
#define OFFRAMP_TEXT_TOKEN_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* Open addressing with linear probing; at most half of the slots are taken. */
struct token_map {
    struct token_slot {
        const char *key; /* NULL: free */
        uint32_t size, hash;
        int32_t id;
    } * slots;
    size_t mask; /* slots - 1 */
};

/* Room for `count` keys. */
int token_map_create(struct token_map *map, size_t count, struct error *error);
void token_map_free(struct token_map *map); /* a zeroed map is fine */

/* -1 when no such key. */
int32_t token_map_find(const struct token_map *map, const char *key, size_t size);

/* The key must be new, and no more than `count` may be put in. */
void token_map_put(struct token_map *map, const char *key, size_t size, int32_t id);

#endif
