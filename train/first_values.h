/* first_values.h: the values that the heads of new trials begin with: copied from the model, random, or the
 * ridge regression from a tap to where the head's map leads.
 *
 *     members_regress(&members, &setting, error);             // before the first is opened
 *     ... member_resume(...) ...
 *     members_set_first_values(&members, &setting, error);    // of those that are open
 *
 * The regressions of all pairs of taps come from one read of the training split. Their trials are opened for that one at a
 * time, and each is put away with a checkpoint of before its first step.
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
    const struct resume_setting *resume; /* for members_regress */
};

/* For the members that wait, have no checkpoint, and begin with a regression: afterwards they have one. A trial
 * whose regression cannot be solved, by the fault of its states, fails. */
int members_regress(struct members *members, const struct first_values_setting *setting, struct error *error);

/* For the others that have no checkpoint, once they are trained. */
int members_set_first_values(struct members *members, const struct first_values_setting *setting,
                             struct error *error);

#endif
