/* results.h: what a run leaves beside its trials: gates, the policy, the leaderboard and the report; and what is
 * printed of it. */
#ifndef OFFRAMP_TRAIN_RESULTS_H
#define OFFRAMP_TRAIN_RESULTS_H

#include <stdbool.h>

#include "common/base/error.h"
#include "train/cost.h"
#include "train/evaluate.h"
#include "train/policy_table.h"
#include "train/run_folder.h"
#include "train/sweep.h"

struct results_setting {
    struct run_folder *run;
    const struct sweep *sweep;
    const struct evaluation_setting *evaluation;
    const struct observations *seen; /* of heads that this process has measured */
    const struct policy_wish *wish;
    struct cost *cost; /* noted before the report, which shows it */
};

/* After the last step: writes everything into the run's folder, marks the run as done, and removes its
 * checkpoints. A trial that failed is in the leaderboard, with the reason. */
int results_write(const struct results_setting *setting, struct error *error);

/* Of a run that is done: makes the gates that are asked for and not there, and the report again. */
int results_add_gates(const struct results_setting *setting, struct error *error);

/* The ranked table, the exits and where everything lies, from the run's folder; as JSON when asked. An error
 * when every trial has failed, after that was printed. */
int results_print(const struct run_folder *run, const struct sweep *sweep, const struct model_config *model,
                  bool json, struct error *error);

#endif
