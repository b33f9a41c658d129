/* policy_table.h: RUN/policy: of every tap the head that is nearest to the full model, of these the ones that pay,
 * and what confidence exits through them would do, counted on the cached held-out split.
 *
 * A token leaves at the first exit whose likeliest token has at least the threshold's probability. Costs
 * are predicted from parameter counts, which is what decoding one token at a time is bound by: a
 * layer is 1, a head and a vocabulary product as much as they have parameters in comparison. Every
 * check that a token did not pass counts. Layers that an early token skipped and a later one makes up
 * for cost nothing more here: their weights are read for the later token anyway.
 */
#ifndef OFFRAMP_TRAIN_POLICY_TABLE_H
#define OFFRAMP_TRAIN_POLICY_TABLE_H

#include <stdio.h>

#include "common/base/error.h"
#include "common/head/policy.h"
#include "common/model/config.h"
#include "train/evaluate.h"

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

double layer_parameters(const struct model_config *config);
/* How many layers' work leads to a tap; the attention half of a layer counts by its parameters. */
double tap_depth(const struct model_config *config, struct tap tap);

/* One row of the table: `tokens` tokens, outcomes [exits][tokens], exits in order along the model;
 * row->exit_rate [exits] is the caller's. */
void policy_count(const struct policy_costs *costs, struct outcome *const *outcomes, uint64_t tokens,
                  double threshold, struct policy_row *row);

/* The trial with the lowest KL of each tap, in order along the model, into best (room for `count`);
 * returns how many. Left out are failed trials, the final tap, which is no exit, and a tap that is no
 * nearer to the full model than an exit before it. */
int policy_choose(struct trial *const *trials, int count, int layers, struct trial **best);

/* Leaves out exits, one after the other, as long as the policy is predicted faster without: those whose checks cost
 * more than they save. One stays at least. Of costs->exit and outcomes [exits][tokens] what stays comes first;
 * kept [exits] has their numbers before. */
int policy_thin(struct policy_costs *costs, struct outcome **outcomes, uint64_t tokens, int *kept,
                struct error *error);

/* Counts the table for those of `best` that policy_thin keeps, and writes their heads and policy.json into `folder`.
 * *complete is false when the program was told to stop meanwhile. */
int policy_table_write(const struct evaluation_setting *setting, struct trial *const *best, int count,
                       const char *folder, bool *complete, struct error *error);

/* One or two plain sentences: what the policy's own threshold does, and whether it is predicted to pay. */
void policy_verdict(const struct policy *policy, char *text, size_t size);

/* The table for people, with the verdict. */
void policy_table_print(const struct policy *policy, FILE *stream);

#endif
