/* pages.h: LMDB's file read without LMDB, to know that it is whole before LMDB believes it.
 *
 * LMDB checks nothing but two magic numbers: a file that is cut short kills its reader (SIGBUS), a
 * flipped bit in a tree page does worse. The layout is LMDB 0.9's (data version 1, 64-bit), as
 * mdb.c documents it: pages of one size; pages 0 and 1 are meta pages, written in turn, of which
 * the one with the higher transaction number counts; each page begins with its own number.
 */
#ifndef OFFRAMP_STORE_PAGES_H
#define OFFRAMP_STORE_PAGES_H

#include <stdint.h>

#include "common/base/error.h"

/* The meta pages agree with each other and the file is as long as they say. Cheap: for every open. */
int pages_check_head(const char *path, struct error *error);

#endif
