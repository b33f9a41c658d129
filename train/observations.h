/* observations.h: what was seen of heads on the whole held-out split when their trials ended. The policy looks at
 * the same heads on the same tokens, and need not compute them again.
 *
 * Of each tap the head with the lowest KL is kept, which is the one that a policy may take; memory is that of
 * nine bytes a token and tap. A process that goes on with a run has none of the heads that ended before it.
 */
#ifndef OFFRAMP_TRAIN_OBSERVATIONS_H
#define OFFRAMP_TRAIN_OBSERVATIONS_H

#include "train/evaluate.h"
#include "train/sweep.h"

struct observation {
    char id[TRIAL_ID_SIZE];
    struct tap tap;
    double kl;
    struct observed observed;
};

struct observations {
    struct observation *list; /* [count], each of another tap */
    size_t count, capacity;
};

void observations_free(struct observations *observations); /* a zeroed one is fine */

/* Keeps what was seen of a trial's head where its KL is the lowest of its tap; of equal ones the first by name. Takes
 * *observed over, and leaves it empty. */
int observations_keep(struct observations *observations, const struct trial_config *config, double kl,
                      struct observed *observed, struct error *error);

/* NULL: there is none of this trial. */
const struct observed *observations_find(const struct observations *observations, const char *id);

#endif
