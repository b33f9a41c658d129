/* pages.h: LMDB's file read without LMDB, to know that it is whole before LMDB believes it.
 *
 * LMDB checks nothing but two magic numbers: a file that is cut short kills its reader (SIGBUS), a
 * flipped bit in a tree page does worse. The layout is LMDB 0.9's (data version 1, 64-bit), as
 * mdb.c documents it: pages of one size; pages 0 and 1 are meta pages, written in turn, of which
 * the one with the higher transaction number counts; each page begins with its own number.
 */
#ifndef OFFRAMP_STORE_PAGES_H
#define OFFRAMP_STORE_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* The meta pages agree with each other and the file is as long as they say. Cheap: for every open. */
int pages_check_head(const char *path, struct error *error);

/* One line about one thing that is wrong. */
typedef void pages_report(void *context, const char *problem);

/* Walks the trees of one transaction (0: the last): every page is what its place wants, in range, used
 * once or listed as free; keys ascend; counts are true. Large values are not read. *problems receives
 * how many were reported, at most 100. -1 when the walk could not be made.
 *
 * The transaction's pages must not change meanwhile: a reader that has it open sees to that. */
int pages_check(const char *path, uint64_t transaction, pages_report *report, void *context, int *problems,
                struct error *error);

/* The address of page 0, from the number that the page around `address` claims to have. */
uintptr_t pages_origin(const void *address, size_t page_size);

/* Whether the page header that LMDB keeps before a large value fits its size and its place in the map.
 * True for small values, which lie among others in a leaf. */
bool pages_value_is_right(const void *value, size_t size, size_t page_size, uintptr_t origin);

/* Writes that header again, into the file, for a value at its right place in the map. */
int pages_mend_value(const char *path, const void *value, size_t size, size_t page_size, uintptr_t origin,
                     struct error *error);

#endif
