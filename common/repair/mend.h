/* mend.h: finds a flipped bit by trying every bit against the hash. For small values, since 64 KB take half a
 * million hashes.
 */
#ifndef OFFRAMP_REPAIR_MEND_H
#define OFFRAMP_REPAIR_MEND_H

#include <stdbool.h>
#include <stddef.h>

#define MEND_MAX ((size_t)64 << 10)

/* Whether the bytes are right, by a hash of all of them. */
typedef bool mend_check(void *context, const unsigned char *bytes, size_t size);

/* True: bytes [size] were mended in place. False: they are as they were, since no single bit makes them right,
 * or there are more than MEND_MAX. */
bool mend_bit(unsigned char *bytes, size_t size, mend_check *check, void *context);

#endif
