/* wreck.h: what can be had of LMDB's file when its structure is damaged.
 *
 * Caveats:
 *   - Nothing here says that a value is right. The visitor checks its hash.
 *   - The file must not be written meanwhile.
 *
 *     wreck_open("STORE/data.mdb", &wreck, error);
 *     for (int i = 0; i < wreck_commits(wreck); i++)
 *         wreck_visit(wreck, i, visit, context, error);
 *     wreck_close(wreck);
 *
 * A file holds its last two commits, since LMDB writes its two meta pages in turn, and never over pages that
 * the commit before needs. To read a commit, one of two trees must be whole. One is the tree of databases: its
 * entries are all there is. The other is the tree of freed pages: all pages that it does not list are in use.
 * Then the leaf pages and large values among those are taken one by one, whatever the branches above them say.
 * Free pages are never read: they hold what was right once.
 */
#ifndef OFFRAMP_LMDB_WRECK_H
#define OFFRAMP_LMDB_WRECK_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"

struct wreck;

/* An error: the file cannot be read, or both meta pages are damaged. */
int wreck_open(const char *path, struct wreck **wreck, struct error *error);
void wreck_close(struct wreck *wreck); /* NULL is fine */

/* Bytes of the file. */
size_t wreck_size(const struct wreck *wreck);

/* How many commits can be read: 0 to 2, the newest first. */
int wreck_commits(const struct wreck *wreck);
/* Whether a commit is the last that was made. */
bool wreck_is_last(const struct wreck *wreck, int commit);

/* A value in the mapped file. `size` is what its entry says; `room` bytes can be read. Where the entry is lost,
 * key is NULL and size is 0. */
struct wreck_value {
    const void *key, *bytes;
    size_t key_size, size, room;
};
/* Returns 1 when the value is right, 0 when it is not, -1 to stop. */
typedef int wreck_visitor(void *context, const struct wreck_value *value, struct error *error);

/* Visits every value of one commit, in the order of keys only where the trees are whole. -1: the visitor
 * stopped. */
int wreck_visit(struct wreck *wreck, int commit, wreck_visitor *visit, void *context, struct error *error);

#endif
