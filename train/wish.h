/* wish.h: what is asked of a run's policy. The command line says it; when it does not, the run's last wish
 * counts; when there is none, 95 % of agreement. run.json keeps it:
 *     "policy": {"agreement": 0.95, "threshold": null, "exits": ["12", "24"]}        // null, []: as they pay
 * "pending": true beside them says that the policy has not been made yet, or not to its end.
 */
#ifndef OFFRAMP_TRAIN_WISH_H
#define OFFRAMP_TRAIN_WISH_H

#include <jansson.h>
#include <stdbool.h>

#include "common/base/error.h"
#include "train/policy_table.h"
#include "train/run_folder.h"
#include "train/stores.h"
#include "train/sweep.h"

/* As the command line has it. */
struct wish_options {
    double agreement, threshold; /* NaN: not given */
    const char *exits; /* "12,24": taps; NULL: not given */
};

/* Exits that no trial of the sweep has are an error. *other: true when run.json says something else, or says
 * that the wish is pending. The caller frees wish->exit. */
int wish_read(const struct wish_options *options, const struct sweep *sweep, const struct run_folder *run,
              const struct stores *stores, struct policy_wish *wish, bool *other, struct error *error);

/* For run.json; NULL when memory is out. */
json_t *wish_to_json(const struct policy_wish *wish, int layers);

#endif
