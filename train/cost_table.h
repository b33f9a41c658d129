/* cost_table.h: what each trial of a run took, as its metrics say: seconds of its own, its part of the work for
 * several trials at once, and what that is of all such work. The rest of the run's time is nobody's: opening,
 * the policy, the report.
 */
#ifndef OFFRAMP_TRAIN_COST_TABLE_H
#define OFFRAMP_TRAIN_COST_TABLE_H

#include <jansson.h>

#include "common/base/error.h"
#include "train/leaderboard.h"

/* One trial's, or that of all. */
struct cost_row {
    struct trial_cost cost;
    double seconds; /* own and shared */
    double part; /* of the shared seconds of all trials: 0 .. 1 */
    double tokens_per_second; /* tokens that it was trained on over `seconds`; 0: none, or it is not known */
};

struct cost_row cost_row(const struct leaderboard *board, const struct leaderboard_row *row);
struct cost_row cost_row_of_all(const struct leaderboard *board);
/* Seconds of the run that are nobody's; `all`: the row of all. */
double cost_of_none(const struct run_folder *run, const struct cost_row *all);

/* Writes RUN/cost.tsv. It is beside leaderboard.tsv, whose bytes are the same whenever the run is. */
int cost_table_write(const struct run_folder *run, const struct leaderboard *board, struct error *error);
/* An object; NULL when memory is out. */
json_t *cost_row_to_json(const struct cost_row *row);

#endif
