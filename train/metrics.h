/* metrics.h: metrics.jsonl, which says what a trial did. Each line is a JSON object:
 *
 *     {"step": 8, "tokens": 16384, "loss": 4.1, "rate": 0.001, "norm": 0.7, COST}    after every step
 *     {"step": 8, "tokens": 16384, "held_out_loss": 4.0, "kl": 1.3, "agreement": 0.55, COST}   evaluations
 *     {"step": 8, "failed": "..."}                                   the trial's last line
 *
 * COST is "tokens_per_second": 2100, "seconds": 0.9, "shared_seconds": 0.3, "stall_seconds": 0.2: what the
 * trial has taken since the line before (struct trial_cost; "seconds" is all of it), and its rate: tokens of the
 * step, or of the evaluation, over these seconds. Lines are the same whenever the run is, but for COST.
 *
 * A line counts once it is complete. A run that goes on from a checkpoint cuts the lines behind the
 * checkpoint's step.
 */
#ifndef OFFRAMP_TRAIN_METRICS_H
#define OFFRAMP_TRAIN_METRICS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"
#include "train/evaluate.h"
#include "train/trial.h"

/* What is known of one step of a trial. */
struct metrics_point {
    int64_t step, tokens;
    bool trained; /* loss, rate and norm are known */
    struct trial_result training;
    bool evaluated; /* held_out is known */
    struct evaluation held_out;
};

struct metrics {
    struct metrics_point *point; /* [count], ascending steps, each once */
    size_t count, capacity;
    struct trial_cost cost; /* the sum of all lines */
    char failed[512]; /* the reason; empty: it has not failed */
};

/* A file that is missing gives no points. A line that is not one of the above is an error, except for the last
 * one when it is incomplete. */
int metrics_read(const char *path, struct metrics *metrics, struct error *error);
void metrics_free(struct metrics *metrics); /* a zeroed one is fine */

/* Drops the points after `step`; the cost still counts them. */
void metrics_cut(struct metrics *metrics, int64_t step);

/* The last evaluation, or NULL. */
const struct metrics_point *metrics_last_evaluation(const struct metrics *metrics);

/* The evaluation with the lowest KL divergence, the first of equal ones, or NULL. */
const struct metrics_point *metrics_best_evaluation(const struct metrics *metrics);

/* Drops the lines after `step` and opens the file for more. Close it with fclose. */
int metrics_continue(const char *path, int64_t step, FILE **file, struct error *error);

/* tokens: that the trial has been trained on so far. cost: since the line before. read: tokens of the step, or
 * of the evaluation. */
int metrics_write_step(FILE *file, int64_t step, int64_t tokens, const struct trial_result *result,
                       const struct trial_cost *cost, int64_t read, struct error *error);
int metrics_write_evaluation(FILE *file, int64_t step, int64_t tokens, const struct evaluation *held_out,
                             const struct trial_cost *cost, int64_t read, struct error *error);
int metrics_write_failure(FILE *file, int64_t step, const char *reason, struct error *error);

#endif
