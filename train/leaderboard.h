/* leaderboard.h: the trials of a run, ranked by their KL divergence from the full model. Each counts as its
 * kept head does, which is the one of its best evaluation: on the whole held-out split where the trial is done,
 * else on the sample. Behind those that are done come those that the run has stopped. All is read from the run's
 * folder, so a finished run can be shown without a device.
 */
#ifndef OFFRAMP_TRAIN_LEADERBOARD_H
#define OFFRAMP_TRAIN_LEADERBOARD_H

#include <stdio.h>

#include "common/base/error.h"
#include "train/exit_cost.h"
#include "train/metrics.h"
#include "train/run_folder.h"
#include "train/sweep.h"

struct leaderboard_row {
    const struct trial_config *config; /* of the sweep */
    struct metrics metrics;
    const struct metrics_point *best; /* in metrics: the lowest KL; NULL: none, or it failed */
    struct evaluation held_out; /* of the kept head, where there is one */
    int64_t sequences; /* that held_out was measured on */
    int64_t step; /* the last one in metrics */
    int64_t trained; /* values the optimizer changes */
    struct exit_cost exit; /* what an exit with this head costs, without the product with the output weight */
    bool finished; /* held_out is of the whole split */
    bool draft; /* it says what comes next, and is not an exit */
    int rank; /* among the exits, or among the drafts; from 1 */
    const char *status; /* "done", "failed", "stopped"; "unfinished": it is trained still */
};

struct leaderboard {
    struct leaderboard_row *
        row; /* [count] exits, then drafts; of each the best first: those that are done, stopped ones, the others */
    int count;
    int exits; /* of these */
    int64_t steps;
    struct trial_cost cost; /* of all trials together */
    int64_t split; /* sequences of the held-out split */
    double full_loss; /* held-out loss of the full model, on the whole split */
    double sample_full_loss; /* the same on the sample */
    double output; /* what that product costs (exit_cost.h) */
    double guessing; /* the loss of giving every token the same probability */
};

/* The trials of the sweep, which must outlive the board, for a model of that config. */
int leaderboard_read(const struct run_folder *run, const struct sweep *sweep, const struct model_config *model,
                     struct leaderboard *board, struct error *error);
void leaderboard_free(struct leaderboard *board); /* a zeroed one is fine */

/* What a token costs that leaves at an exit with this head, in layers; of a draft what a step of it costs. */
double leaderboard_cost(const struct leaderboard *board, const struct leaderboard_row *row);

/* Says why a head is worse than guessing. Empty for one that is not, or whose trial is not finished. Returns
 * `text`. */
char *leaderboard_remark(const struct leaderboard *board, const struct leaderboard_row *row, char *text,
                         size_t size);

/* Writes RUN/leaderboard.tsv. */
int leaderboard_write(const struct run_folder *run, const struct leaderboard *board, struct error *error);
/* Prints a table for people. */
void leaderboard_print(const struct leaderboard *board, FILE *stream);
/* An array for --json; NULL when memory is out. */
json_t *leaderboard_to_json(const struct leaderboard *board);

#endif
