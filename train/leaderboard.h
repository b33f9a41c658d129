/* leaderboard.h: the trials of a run, ranked by the KL divergence from the full model, each as its kept head has it: that
 * of the evaluation with the lowest. Read from the run's folder alone, so that a finished run can be shown without its store.
 */
#ifndef OFFRAMP_TRAIN_LEADERBOARD_H
#define OFFRAMP_TRAIN_LEADERBOARD_H

#include <stdio.h>

#include "common/base/error.h"
#include "train/metrics.h"
#include "train/run_folder.h"
#include "train/sweep.h"

struct leaderboard_row {
    const struct trial_config *config; /* of the sweep */
    struct metrics metrics;
    const struct metrics_point *best; /* of metrics: the evaluation with the lowest KL, or NULL */
    int64_t step; /* the last one in metrics */
    int64_t trained; /* values the optimizer changes */
    bool finished;
    const char *status; /* "done", "failed", "stopped" */
};

struct leaderboard {
    struct leaderboard_row *row; /* [count], best first; failed ones last */
    int count;
    int64_t steps;
    double full_loss; /* held-out loss of the full model */
    double guessing; /* the loss of giving every token the same probability */
};

/* The sweep must outlive the board. */
int leaderboard_read(const struct run_folder *run, const struct sweep *sweep, struct leaderboard *board,
                     struct error *error);
void leaderboard_free(struct leaderboard *board); /* a zeroed one is fine */

/* Why a head is worse than guessing; empty where it is not, or is not finished. Returns text. */
char *leaderboard_remark(const struct leaderboard *board, const struct leaderboard_row *row, char *text,
                         size_t size);

/* RUN/leaderboard.tsv. */
int leaderboard_write(const struct run_folder *run, const struct leaderboard *board, struct error *error);
/* A table for people. */
void leaderboard_print(const struct leaderboard *board, FILE *stream);
/* An array for --json; NULL when memory is out. */
json_t *leaderboard_to_json(const struct leaderboard *board);

#endif
