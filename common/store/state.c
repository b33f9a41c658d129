/* Bytes of the dictionary: u32 entries; per entry u32 name length, u32 value size, name, value. */
#include "common/store/state.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"

static struct state_entry *find(const struct state *state, const char *name)
{
    for (size_t i = 0; i < state->count; i++)
        if (strcmp(state->entries[i].name, name) == 0)
            return &state->entries[i];
    return NULL;
}

const void *state_get(const struct state *state, const char *name, size_t *size)
{
    const struct state_entry *entry = find(state, name);
    if (!entry)
        return NULL;
    *size = entry->size;
    return entry->value;
}

int state_set(struct state *state, const char *name, const void *value, size_t size, struct error *error)
{
    struct state_entry *entry = find(state, name);
    void *copy = memory_alloc(size, 1, error);
    if (!copy)
        return -1;
    memcpy(copy, value, size);
    if (!entry) {
        char *key = NULL;
        if (array_grow(&state->entries, &state->capacity, state->count + 1, error) < 0 ||
            !(key = string_copy(name, error))) {
            free(copy);
            return -1;
        }
        entry = &state->entries[state->count++];
        *entry = (struct state_entry){.name = key};
    }
    free(entry->value);
    entry->value = copy;
    entry->size = size;
    return 0;
}

void state_remove(struct state *state, const char *name)
{
    struct state_entry *entry = find(state, name);
    if (!entry)
        return;
    free(entry->name);
    free(entry->value);
    *entry = state->entries[--state->count];
}

void state_free(struct state *state)
{
    for (size_t i = 0; i < state->count; i++) {
        free(state->entries[i].name);
        free(state->entries[i].value);
    }
    free(state->entries);
    *state = (struct state){0};
}

void state_write(const struct state *state, struct string *bytes)
{
    uint32_t count = (uint32_t)state->count;
    string_append(bytes, (const char *)&count, sizeof count);
    for (size_t i = 0; i < state->count; i++) {
        const struct state_entry *entry = &state->entries[i];
        uint32_t sizes[2] = {(uint32_t)strlen(entry->name), (uint32_t)entry->size};
        string_append(bytes, (const char *)sizes, sizeof sizes);
        string_append(bytes, entry->name, sizes[0]);
        string_append(bytes, entry->value, sizes[1]);
    }
}

static bool take(const unsigned char **at, size_t *left, void *target, size_t size)
{
    if (size > *left)
        return false;
    memcpy(target, *at, size);
    *at += size;
    *left -= size;
    return true;
}

static int read_entry(const unsigned char **at, size_t *left, struct state *state, struct error *error)
{
    uint32_t sizes[2];
    char name[256];
    if (!take(at, left, sizes, sizeof sizes) || sizes[0] >= sizeof name || !take(at, left, name, sizes[0]) ||
        sizes[1] > *left)
        return error_set_kind(error, ERROR_DAMAGED, "an entry is cut short");
    name[sizes[0]] = 0;
    if (strlen(name) != sizes[0] || find(state, name))
        return error_set_kind(error, ERROR_DAMAGED, "two entries, or half of one, are named \"%s\"", name);
    if (state_set(state, name, *at, sizes[1], error) < 0)
        return -1;
    *at += sizes[1];
    *left -= sizes[1];
    return 0;
}

int state_read(const void *bytes, size_t size, struct state *state, struct error *error)
{
    const unsigned char *at = bytes;
    uint32_t count;
    if (!take(&at, &size, &count, sizeof count))
        return error_set_kind(error, ERROR_DAMAGED, "the store's state is cut short");
    for (uint32_t i = 0; i < count; i++)
        if (read_entry(&at, &size, state, error) < 0)
            return error_prefix(error, "the store's state");
    return size == 0 ? 0
                     : error_set_kind(error, ERROR_DAMAGED, "the store's state has %zu bytes too many", size);
}
