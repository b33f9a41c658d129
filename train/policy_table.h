/* policy_table.h: a policy: of the taps' best heads the exits that pay, and what confidence exits through them
 * would do, counted on the cached held-out split.
 *
 * A token leaves at the first exit whose likeliest token has at least the threshold's probability. Costs
 * are predicted from parameter counts, which is what decoding one token at a time is bound by: a
 * layer is 1, a head and a vocabulary product as much as they have parameters in comparison. Every
 * check that a token did not pass counts. Layers that an early token skipped and a later one makes up
 * for cost nothing more here: their weights are read for the later token anyway.
 *
 * A policy is predicted to be faster than the full model, or has no exits, unless these were asked for by name.
 */
#ifndef OFFRAMP_TRAIN_POLICY_TABLE_H
#define OFFRAMP_TRAIN_POLICY_TABLE_H

#include <stdio.h>

#include "common/base/error.h"
#include "common/head/policy.h"
#include "common/model/config.h"
#include "train/evaluate.h"
#include "train/leaderboard.h"

/* What is asked of a policy. */
struct policy_wish {
    double agreement; /* share of the tokens that leave which have the full model's token */
    double threshold; /* NaN: by the agreement */
    int exits; /* 0: those that pay */
    struct tap *exit; /* [exits], by tap: these, whatever they cost */
};
#define POLICY_AGREEMENT 0.95

/* What a check and a run down to a tap cost, in layers. */
struct exit_cost {
    double depth; /* layers down to the tap */
    double head; /* without the output product */
};

struct policy_costs {
    double layers; /* of the model */
    double output; /* a vocabulary product */
    struct exit_cost *exit; /* [exits] */
    int exits;
};

/* How many layers' work leads to a tap; the attention half of a layer counts by the values of its matrices. */
double tap_depth(const struct model_config *config, struct tap tap);

/* One row of the table: `tokens` tokens, observed [exits] holds them, exits in order along the model;
 * row->exit_rate [exits] is the caller's. */
void policy_count(const struct policy_costs *costs, const struct observed *observed, uint64_t tokens,
                  double threshold, struct policy_row *row);

/* The finished trial with the lowest KL of each tap, in order along the model, into best (room for all of the board);
 * returns how many. Left out are the final tap, which is not an exit, and a tap that is no nearer to the full model than an
 * exit before it; of taps that are asked for by `wish` none is. */
int policy_choose(const struct leaderboard *board, int layers, const struct policy_wish *wish,
                  const struct leaderboard_row **best);

/* What is predicted of exits at the threshold that they would have. */
struct policy_choice {
    bool agrees; /* as often as was asked for */
    double threshold, agreement, speedup;
};

/* The threshold of these exits: the one that was asked for, or of the table's the one that is predicted fastest of
 * those that agree often enough; the one that agrees most where none does. */
int policy_threshold(const struct policy_costs *costs, const struct observed *observed, uint64_t tokens,
                     const struct policy_wish *wish, struct policy_choice *choice, struct error *error);

/* The exits that are predicted fastest: of all, of all but the one without which they are fastest, and so on down to a
 * single one. Of costs->exit and observed [exits] those come first; kept [exits] has their numbers before. */
int policy_thin(struct policy_costs *costs, struct observed *observed, uint64_t tokens,
                const struct policy_wish *wish, int *kept, struct policy_choice *choice, struct error *error);

/* Writes the policy and the heads of its exits, of those of `best`, into `folder`, which is made.
 * *complete is false when the program was told to stop meanwhile. */
int policy_table_write(const struct evaluation_setting *setting, struct trial *const *best, int count,
                       const struct policy_wish *wish, const char *folder, bool *complete, struct error *error);

/* One or two plain sentences: what the policy's own threshold does, and whether it is predicted to pay; or why it has
 * no exits. */
void policy_verdict(const struct policy *policy, char *text, size_t size);

/* The table for people, with the verdict. */
void policy_table_print(const struct policy *policy, FILE *stream);

#endif
