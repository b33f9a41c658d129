/* results.h: what a run leaves: heads, the policy, the leaderboard and the report, and what is printed. */
#ifndef OFFRAMP_TRAIN_RESULTS_H
#define OFFRAMP_TRAIN_RESULTS_H

#include "train/training.h"

/* After training_train: writes everything into the run's folder. An error when every trial has failed
 * (the leaderboard and the report are written all the same). */
int results_write(struct training *training, struct error *error);

/* The ranked table, the exits and where everything lies, from the run's folder; as JSON when asked. */
int results_print(const struct training *training, bool json, struct error *error);

#endif
