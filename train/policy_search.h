/* policy_search.h: which exits, with which threshold, are predicted to be the fastest.
 *
 * Speeds are predictions, from costs in layers (exit_cost.h). Every check that lets a token go on counts. Layers
 * that a token has skipped and a later token makes up for count nothing: the later token reads their weights
 * anyway.
 *
 * What exits would do is counted on the held-out tokens (evaluate.h), with the rule that `generate` decides by:
 *
 *     observed at each exit --> policy_count      one threshold: who leaves where, agreement, speed
 *                                   |
 *                               policy_threshold  these exits: the best threshold
 *                                   |
 *                               policy_thin       the best of the exits
 */
#ifndef OFFRAMP_TRAIN_POLICY_SEARCH_H
#define OFFRAMP_TRAIN_POLICY_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/head/policy.h"
#include "train/evaluate.h"
#include "train/exit_cost.h"

/* What is asked of a policy. */
struct policy_wish {
    double agreement; /* of the tokens that leave, the share that must have the full model's token */
    double threshold; /* NaN: chosen by the agreement */
    int exits; /* 0: those that pay */
    struct tap *exit; /* [exits], by tap: these, whatever they cost */
};
#define POLICY_AGREEMENT 0.95

struct policy_costs {
    double layers; /* of the model */
    double output; /* an output product */
    struct exit_cost *exit; /* [exits], by tap */
    int exits;
};

/* The thresholds that are tried, ascending, with the one that was asked for among them. Returns how many. */
enum { POLICY_THRESHOLDS = 12 };
int policy_thresholds(const struct policy_wish *wish, double list[POLICY_THRESHOLDS]);

/* Counts `tokens` tokens through the exits, all with one threshold, into a row of the table. observed [exits],
 * by tap. row->exit_rate [exits] is the caller's. */
void policy_count(const struct policy_costs *costs, const struct observed *observed, uint64_t tokens,
                  double threshold, struct policy_row *row);

/* What is predicted of some exits with the threshold that they would have. */
struct policy_choice {
    bool agrees; /* as often as was asked for */
    double threshold, agreement, speedup;
};

/* Finds the threshold of these exits: the one that was asked for; else, of those that agree often enough, the
 * fastest; where none does, the one that agrees most. */
int policy_threshold(const struct policy_costs *costs, const struct observed *observed, uint64_t tokens,
                     const struct policy_wish *wish, struct policy_choice *choice, struct error *error);

/* Finds the fastest exits. It begins with all, takes away the one without which the others are fastest, and so
 * on down to a single one; the best of these sets wins. costs->exit and observed [exits] hold the winners first
 * then, costs->exits says how many, and kept [exits] which numbers they had. */
int policy_thin(struct policy_costs *costs, struct observed *observed, uint64_t tokens,
                const struct policy_wish *wish, int *kept, struct policy_choice *choice, struct error *error);

#endif
