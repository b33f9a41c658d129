/* metrics.h: metrics.jsonl, which says what a trial did. Each line is a JSON object:
 *
 *     {"step": 8, "tokens": 16384, "loss": 4.1, "rate": 0.001, "norm": 0.7, COST}    after every step
 *     {"step": 8, "tokens": 16384, "held_out_loss": 4.0, "kl": 1.3, "agreement": 0.55,
 *      "sequences": 4, COST}                                         evaluations, on so many held-out sequences
 *     {..., "hits": [0.43, 0.37, 0.33], "accepted": [0.43, 0.2, 0.11]}      a draft's have these, too
 *
 * and the last line of a trial says how it has ended:
 *
 *     {"step": 8, "tokens": 16384, "held_out_loss": 4.1, "kl": 1.4, "agreement": 0.54,
 *      "sequences": 60, "whole": true, "of_step": 6, COST}           its kept head, on the whole split
 *     {"step": 8, "failed": "..."}
 *     {"step": 8, "stopped": "..."}                                  the run has stopped it; it keeps its head
 *
 * A trial of `vocabulary: subset` estimates the "loss" and the "norm" of its steps (subset.h). What is held out is
 * measured on the whole vocabulary.
 *
 * COST is "tokens_per_second": 2100, "seconds": 0.9, "shared_seconds": 0.3, "stall_seconds": 0.2: what the
 * trial has taken since the line before (struct trial_cost; "seconds" is all of it), and its rate: tokens of the
 * step, or of the evaluation, over these seconds. Lines are the same whenever the run is, but for COST.
 *
 * A line counts once it is complete. A trial that goes on from a checkpoint cuts the lines behind the
 * checkpoint's step, and the line that says that it has ended. Runs of before there were samples have no
 * "sequences" and no "whole": their evaluations are all on the whole split, and the one after the last step ends
 * a trial.
 */
#ifndef OFFRAMP_TRAIN_METRICS_H
#define OFFRAMP_TRAIN_METRICS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"
#include "common/base/string.h"
#include "train/evaluate.h"
#include "train/trial.h"

/* What is known of one step of a trial. */
struct metrics_point {
    int64_t step, tokens;
    bool trained; /* loss, rate and norm are known */
    struct trial_result training;
    bool evaluated; /* held_out is known */
    int64_t sequences; /* that held_out was measured on; 0: the whole split, in a run of before samples */
    struct evaluation held_out;
};

/* What a kept head is worth on the whole split. */
struct metrics_whole {
    int64_t step, tokens; /* the trial's last ones */
    int64_t of_step; /* the kept head's */
    int64_t sequences;
    struct evaluation held_out;
};

struct metrics {
    struct metrics_point *point; /* [count], ascending steps, each once */
    size_t count, capacity;
    struct trial_cost cost; /* the sum of all lines */
    bool ended; /* `whole` is known */
    struct metrics_whole whole;
    char failed[512]; /* the reason; empty: it has not failed */
    char stopped[512]; /* the reason; empty: it was not stopped */
};

/* A file that is missing gives no points. A line that is not one of the above is an error, except for the last
 * one when it is incomplete. */
int metrics_read(const char *path, struct metrics *metrics, struct error *error);
void metrics_free(struct metrics *metrics); /* a zeroed one is fine */

/* Drops the points after `step`, and how the trial has ended; the cost still counts them. */
void metrics_cut(struct metrics *metrics, int64_t step);

/* The last evaluation, or NULL. The one of the whole split is none of the points. */
const struct metrics_point *metrics_last_evaluation(const struct metrics *metrics);

/* The evaluation with the lowest KL divergence, the first of equal ones, or NULL. */
const struct metrics_point *metrics_best_evaluation(const struct metrics *metrics);

/* Drops the lines after `step` and opens the file for more. Close it with fclose. */
int metrics_continue(const char *path, int64_t step, FILE **file, struct error *error);

/* Writes lines, and takes those that are written from them. After a failure the same call goes on where that one
 * ended, within a line, too. */
int metrics_flush(FILE *file, struct string *lines, struct error *error);

/* These put a line behind those that are to be written; they fail only where memory is out.
 * tokens: that the trial has been trained on so far. cost: since the line before. read: tokens of the step, or
 * of the evaluation. */
int metrics_write_step(struct string *lines, int64_t step, int64_t tokens, const struct trial_result *result,
                       const struct trial_cost *cost, int64_t read, struct error *error);
int metrics_write_evaluation(struct string *lines, int64_t step, int64_t tokens,
                             const struct evaluation *held_out, int64_t sequences,
                             const struct trial_cost *cost, int64_t read, struct error *error);
int metrics_write_whole(struct string *lines, const struct metrics_whole *whole, const struct trial_cost *cost,
                        int64_t read, struct error *error);
int metrics_write_failure(struct string *lines, int64_t step, const char *reason, struct error *error);
int metrics_write_stop(struct string *lines, int64_t step, const char *reason, struct error *error);

/* A list of shares; NULL where memory is out. */
json_t *metrics_shares(const double *share, int count);

/* An evaluation as it is read again: lines have fewer digits. */
struct evaluation metrics_as_read(const struct evaluation *held_out);

#endif
