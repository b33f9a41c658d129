/* first_values.h: the values that the heads of new trials begin with: copied from the model, random, or the
 * ridge regression from a tap to the final state. The regressions of all taps come from one read of the
 * training split.
 */
#ifndef OFFRAMP_TRAIN_FIRST_VALUES_H
#define OFFRAMP_TRAIN_FIRST_VALUES_H

#include "train/members.h"
#include "train/stores.h"

struct first_values_setting {
    const struct stores *stores;
    struct backend *backend;
    uint64_t seed; /* of random values */
    int threads; /* that decode */
};

/* For the members that are trained and have no checkpoint. One whose regression cannot be solved, by the fault
 * of its states, fails. */
int members_set_first_values(struct members *members, const struct first_values_setting *setting,
                             struct error *error);

#endif
