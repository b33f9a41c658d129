/* training.h: a run: all trials of a sweep, step by step. Those of a wave (waves.h) have one read of the
 * stores.
 *
 *     training_open(&options, &sweep, &training, error);
 *     if (training_left(training) == LEFT_TRAINING)
 *         training_train(training, error);        // goes on where an earlier process stopped
 *     if (training_left(training) != LEFT_NOTHING)
 *         training_finish(training, error);       // gates, policy, leaderboard, report
 *     results_print(training_run(training), &sweep, training_model(training), false, error);
 *     training_close(training);
 *
 * A trial that fails is marked so, and the others do not notice. What is here puts the parts of a run together;
 * each part is by itself:
 *
 *     stores.h, batch.h, step_feed.h        what is read
 *     run_folder.h, run_identity.h, run_left.h      the run's folder, and whether it may go on
 *     parts.h                               a sweep that several processes share
 *     members.h, first_values.h             the trials and their files
 *     step.h, evaluate.h                    a step, an evaluation
 *     cost.h, results.h                     what the run took, what it leaves
 */
#ifndef OFFRAMP_TRAIN_TRAINING_H
#define OFFRAMP_TRAIN_TRAINING_H

#include "common/base/error.h"
#include "common/device/device.h"
#include "train/run_folder.h"
#include "train/run_left.h"
#include "train/sweep.h"
#include "train/wish.h"

struct training_options {
    const char *const *store; /* [stores] */
    int stores;
    const char *out; /* RUN */
    struct run_share share; /* of the sweep; zeroed: all of it */
    struct device_options device;
    struct wish_options wish; /* of the policy */
    int max_parallel; /* trials that are live at a time, at most; 0: all that memory holds */
    uint64_t memory; /* bytes that the run may take; 0: what the machine has */
};

struct training;

/* Opens everything, resolves the sweep, and refuses to go on with a run that was begun otherwise. Of a part of a
 * sweep, only the part's trials stay in it. To collect, all parts must have ended. The options and the sweep must
 * outlive the run. */
int training_open(const struct training_options *options, struct sweep *sweep, struct training **training,
                  struct error *error);
void training_close(struct training *training); /* NULL is fine */

/* What the run had to do still when it was opened. */
enum run_left training_left(const struct training *training);
const struct run_folder *training_run(const struct training *training);
const struct model_config *training_model(const struct training *training);

/* To the last step and its evaluation. -1 also when the program was told to stop: all trials are saved
 * then, and the error says how to go on. */
int training_train(struct training *training, struct error *error);

/* Writes gates, the policy, the leaderboard and the report (results.h); of a part, that it has ended. Not of a run that has
 * nothing left to do. */
int training_finish(struct training *training, struct error *error);

#endif
