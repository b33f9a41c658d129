/* pages.h: LMDB's file read without LMDB: to know that it is whole before LMDB believes it, and what a value
 * takes in it. README.md says why, and of which LMDB this is true.
 *
 *     pages_check_meta("STORE/data.mdb", error);                                 // cheap: before every open
 *     pages_check("STORE/data.mdb", 0, report, context, &problems, error);       // all trees: before every write
 *
 * Caveats:
 *   - Values of the store are not read, and not hashed. pages_check reads LMDB's own pages, and pages_value_is_right the
 *     16 bytes before a value.
 *   - A transaction's pages must not change while pages_check walks them. An open read transaction sees to that.
 *   - LMDB does not check a page before it reads it: with a damaged one it may crash, or write over live pages.
 */
#ifndef OFFRAMP_LMDB_PAGES_H
#define OFFRAMP_LMDB_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* ---- the whole file ---- */

/* The two meta pages agree with each other, and the file is as long as they say. An error says which of this is
 * not so, or that the file cannot be read. */
int pages_check_meta(const char *path, struct error *error);

/* One line about one thing that is wrong. */
typedef void pages_report(void *context, const char *problem);

/* Walks the trees of one transaction (0: the last). Every page must be what its parent expects, lie in the
 * file, and be used once or listed as free; keys must ascend; counts must be true. Pages of large values are
 * counted, not read. *problems: how many were reported, at most 100. -1: the walk could not be made. */
int pages_check(const char *path, uint64_t transaction, pages_report *report, void *context, int *problems,
                struct error *error);

/* ---- one value in the mapped file ---- */

/* Where LMDB has mapped the file. */
struct pages_map {
    size_t page_size;
    uintptr_t origin; /* address of page 0 */
};

/* From an address in the map. The page around it must be sound, since it says which page it is. */
struct pages_map pages_map_of(const void *address, size_t page_size);

/* LMDB keeps a small value beside others in a page. A large one has pages of its own, behind a header of so
 * many bytes. */
#define PAGES_VALUE_HEADER 16

/* Whether the header before a large value fits its size and its address. True of small values, which have
 * none. */
bool pages_value_is_right(const struct pages_map *map, const void *value, size_t size);

/* Writes that header again, into the file at `path`, and syncs it. The value's address must be right. */
int pages_mend_value(const struct pages_map *map, const char *path, const void *value, size_t size,
                     struct error *error);

/* ---- room ---- */

/* About the bytes that a value adds to the file: its pages, or its share of one, and its entry. */
double pages_value_bytes(size_t page_size, size_t key_size, size_t size);
/* Of those, the unused rest of a large value's last page; 0 of a small one. */
size_t pages_value_slack(size_t page_size, size_t key_size, size_t size);

#endif
