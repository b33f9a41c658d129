/* training.h: a run: all trials of a sweep, step by step, from one read of the stores.
 *
 *     training_open(&options, &sweep, &training, error);
 *     if (training->left == LEFT_TRAINING)
 *         training_train(training, error);        // goes on where an earlier process stopped
 *     if (training->left != LEFT_NOTHING)
 *         results_write(training, error);         // results.h
 *     training_close(training);
 *
 * Trials that are ahead (their last checkpoint is a later one) wait until the rest catch up. One that
 * fails is marked so, and the others do not notice.
 */
#ifndef OFFRAMP_TRAIN_TRAINING_H
#define OFFRAMP_TRAIN_TRAINING_H

#include <stdbool.h>
#include <stdio.h>

#include "common/base/error.h"
#include "train/evaluate.h"
#include "train/policy_table.h"
#include "train/run_folder.h"
#include "train/sweep.h"

struct training_options {
    const char *const *store; /* [stores] */
    int stores;
    const char *out; /* RUN */
    const char *device;
    enum math math;
    int threads; /* 0: one per processor */
    double agreement, threshold; /* of the policy's wish; NaN: not given */
    const char *exits; /* "12,24": taps, NULL: not given */
};

/* What a run that is opened has to do still. */
enum training_left { LEFT_NOTHING, LEFT_POLICY, LEFT_TRAINING };

/* A trial and its files. */
struct member {
    struct trial *trial; /* NULL: it has failed, or was done before this process began */
    char *checkpoint, *metrics_path, *head; /* paths */
    FILE *metrics;
    int64_t saved; /* the step of its checkpoint, -1: none */
};

struct training {
    const struct training_options *options;
    struct sweep *sweep; /* trial i is member i */
    struct run_folder run;
    struct stores stores;
    struct backend *backend;
    uint64_t device_memory; /* free bytes of the device before anything was put there; 0: it has none */
    struct batch *batch;
    struct workspace *workspace;
    struct member *member; /* [sweep->trials] */
    int64_t steps;
    int threads; /* options' resolved */
    enum training_left
        left; /* nothing: only the run's folder and the stores are open; policy: no members are */
    struct policy_wish wish;
    struct feed *feed;
    int64_t feed_step; /* steps before the feed's next batch */
    double started; /* clock_seconds */
    double stalled; /* seconds spent waiting for the stores */
    struct device_times device_times; /* as they were noted last */
    int trials_told; /* of a group, that the device's memory holds, as it was said last */
    int64_t rows_told; /* of a piece of a batch, likewise */
};

/* Opens everything, resolves the sweep, and refuses to go on with a run that was begun otherwise. */
int training_open(const struct training_options *options, struct sweep *sweep, struct training **training,
                  struct error *error);
void training_close(struct training *training); /* NULL is fine */

/* To the last step and its evaluation. -1 also when the program was told to stop: all trials are saved
 * then, and the error says how to go on. */
int training_train(struct training *training, struct error *error);

/* Trials that can still be used, into active (room for sweep->trials); returns how many. */
int training_active(const struct training *training, struct trial **active);
struct evaluation_setting training_evaluation(const struct training *training);

/* Adds the time and memory of this process to the run's facts. */
int training_note_cost(struct training *training, struct error *error);

#endif
