/* token_list.h: a list of token ids that grows. */
#ifndef OFFRAMP_TEXT_TOKEN_LIST_H
#define OFFRAMP_TEXT_TOKEN_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/memory.h"

/* Zeroed at first; free ids.data. */
struct token_list {
    int32_t *data;
    size_t count, capacity;
};

static inline int token_list_append(struct token_list *ids, int32_t id, struct error *error)
{
    if (ids->count == ids->capacity && array_grow(&ids->data, &ids->capacity, ids->count + 1, error) < 0)
        return -1;
    ids->data[ids->count++] = id;
    return 0;
}

#endif
