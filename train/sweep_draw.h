/* sweep_draw.h: values of random trials.
 *
 * A draw depends on a seed, the number of its trial in its section, the key, and on what the key may be: on no
 * other key, and not on how many trials there are. It is the text of a value, as somebody would write it. A
 * number that is not whole is rounded to four digits, so that a trial's name names it. It is made by additions,
 * multiplications, divisions and square roots only, which every machine rounds alike.
 */
#ifndef OFFRAMP_TRAIN_SWEEP_DRAW_H
#define OFFRAMP_TRAIN_SWEEP_DRAW_H

#include <stdint.h>

#include "common/base/error.h"
#include "train/sweep_yaml.h"

struct sweep_draw {
    uint64_t seed;
    int64_t number; /* of the trial, in its section */
    int64_t attempt; /* 0, or how often what was drawn for this trial was not taken */
};

/* Room for a drawn number. */
enum { SWEEP_DRAW_SIZE = 32 };

/* An error with its line where a distribution is not one of values that the key can have. A list passes. */
int sweep_draw_check(const struct sweep_document *document, enum trial_key key,
                     const struct sweep_values *values, struct error *error);

/* One of what has passed. Its text is the document's, or in `room`. */
struct sweep_scalar sweep_draw_value(const struct sweep_document *document, enum trial_key key,
                                     const struct sweep_values *values, const struct sweep_draw *draw,
                                     char room[SWEEP_DRAW_SIZE]);

#endif
