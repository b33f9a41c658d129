/* mend.h: a flipped bit, found by trying every one against the hash. For values small enough that this takes a moment:
 * of 64 KB, half a million hashes.
 */
#ifndef OFFRAMP_REPAIR_MEND_H
#define OFFRAMP_REPAIR_MEND_H

#include <stdbool.h>
#include <stddef.h>

#define MEND_MAX ((size_t)64 << 10)

/* Whether the bytes, a copy with a bit flipped, are right: by a hash of all of them. */
typedef bool mend_check(void *context, const unsigned char *bytes, size_t size);

/* True: bytes [size] are right now. Else they are as they were. */
bool mend_bit(unsigned char *bytes, size_t size, mend_check *check, void *context);

#endif
