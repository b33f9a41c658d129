#include "common/repair/mend.h"

bool mend_bit(unsigned char *bytes, size_t size, mend_check *check, void *context)
{
    if (size > MEND_MAX)
        return false;
    for (size_t bit = 0; bit < size * 8; bit++) {
        const unsigned char mask = (unsigned char)(1 << bit % 8);
        bytes[bit / 8] ^= mask;
        if (check(context, bytes, size))
            return true;
        bytes[bit / 8] ^= mask;
    }
    return false;
}
