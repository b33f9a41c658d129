/* state.h: all that changes in a store besides its data, as one small dictionary.
 *
 *     "sequences"     u64 per split: tokens stored
 *     "progress/TAP"  u64 per split: records stored
 *     "sealed"        there once the store is finished
 *     "note/NAME"     the writer's own
 *
 * It is one value in meta, which every commit writes as a whole. So marks and notes cannot disagree, and a mark
 * that was lost does not look like one that was never set. Entries that this program does not know are kept.
 */
#ifndef OFFRAMP_STORE_STATE_H
#define OFFRAMP_STORE_STATE_H

#include <stddef.h>

#include "common/base/error.h"
#include "common/base/string.h"

struct state_entry {
    char *name;
    void *value;
    size_t size;
};

struct state {
    struct state_entry *entries;
    size_t count, capacity;
};

/* NULL: there is none of that name. Borrowed until the next state_set or state_remove. */
const void *state_get(const struct state *state, const char *name, size_t *size);
/* Copies the value. The only error is that memory is out. */
int state_set(struct state *state, const char *name, const void *value, size_t size, struct error *error);
void state_remove(struct state *state, const char *name);
void state_free(struct state *state); /* a zeroed one is fine */

/* Appends the dictionary's bytes. */
void state_write(const struct state *state, struct string *bytes);
/* Into a zeroed state. Bytes that are not a dictionary are an error; free what is there all the same. */
int state_read(const void *bytes, size_t size, struct state *state, struct error *error);

#endif
