/* frame.h: the ids that a model was trained to find around a text: most often a begin-of-text token before
 * it. */
#ifndef OFFRAMP_TEXT_FRAME_H
#define OFFRAMP_TEXT_FRAME_H

#include <stdint.h>

enum { FRAME_MAX = 8 }; /* the most known is 2 */

struct frame_side {
    int32_t id[FRAME_MAX];
    int count; /* 0: nothing goes there */
};

struct frame {
    struct frame_side before, behind;
    const char *source; /* who says so, for messages; NULL: nobody says anything */
};

#endif
