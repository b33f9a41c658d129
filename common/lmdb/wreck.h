/* wreck.h: what can be had of LMDB's file when its structure is damaged.
 *
 * LMDB writes its two meta pages in turn, and never over pages that the one before needs: a file holds its last two
 * commits. To read one of them, one of two things must be whole. The tree of databases: then its entries are all there
 * is. Or the tree of freed pages: then all pages that it does not list are in use, and the leaf pages and large values
 * among them are taken one by one, whatever became of the branches above them. Free pages are never looked into: they
 * hold what was right once.
 *
 * Nothing here says that a value is right. Whoever visits it checks its hash.
 *
 *     wreck_open("STORE/data.mdb", &wreck, error);
 *     for (int i = 0; i < wreck_commits(wreck); i++)
 *         wreck_visit(wreck, i, visit, context, error);
 *     wreck_close(wreck);
 */
#ifndef OFFRAMP_LMDB_WRECK_H
#define OFFRAMP_LMDB_WRECK_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"

struct wreck;

/* The file must not be written meanwhile. An error: it cannot be read at all. */
int wreck_open(const char *path, struct wreck **wreck, struct error *error);
void wreck_close(struct wreck *wreck); /* NULL is fine */

/* Bytes of the file. */
size_t wreck_size(const struct wreck *wreck);

/* How many commits can be read: 0 to 2; the first is the newest of them. */
int wreck_commits(const struct wreck *wreck);
/* Whether a commit is the last that was made. */
bool wreck_is_last(const struct wreck *wreck, int commit);

/* Gets a value in the mapped file: the key it lies under, the size that its entry gives, and the room it has, which is
 * what can be read. Where the entry is lost, key is NULL and size is 0. Returns 1 when the value is right, 0 when not,
 * -1 to stop. */
struct wreck_value {
    const void *key, *bytes;
    size_t key_size, size, room;
};
typedef int wreck_visitor(void *context, const struct wreck_value *value, struct error *error);

/* Every value of one commit. The order is LMDB's only where its trees are whole. -1: the visitor stopped. */
int wreck_visit(struct wreck *wreck, int commit, wreck_visitor *visit, void *context, struct error *error);

#endif
