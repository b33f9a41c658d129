/* evaluate.h: how good heads are on the held-out split. It measures the loss on the next token, the
 * Kullback-Leibler divergence of a head from the full model, and how often their likeliest tokens agree.
 *
 *     KL(full || exit) = sum_v q_v (log q_v - log p_v) = lse(z) - sum_v q_v z_v - entropy(q)
 *
 * q and p are the probabilities of the full model and of the head, z is the head's logits. Where the head's
 * output weight is tied, the sum is h . u (docs/design.md, section 1), and all trials share u. Where it is not,
 * op_vocab_cross computes the sum; q and its entropy are of the final states as the store keeps them.
 *
 *     struct evaluation results[count], full;
 *     evaluate_trials(&setting, trials, count, results, &full, NULL, &complete, error);
 */
#ifndef OFFRAMP_TRAIN_EVALUATE_H
#define OFFRAMP_TRAIN_EVALUATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/head/rule.h"
#include "train/batch.h"
#include "train/step.h"

/* Means over the held-out tokens. */
struct evaluation {
    double loss; /* nats */
    double kl; /* nats; the full model's is 0 */
    double agreement; /* a share; the full model's is 1 */
};

/* What is seen of a head on each of the held-out tokens, in the order of the split. */
struct observed {
    struct evidence *evidence; /* [tokens] what an exit with this head knows */
    bool *agrees; /* [tokens] what it does not know: its likeliest token is the full model's, too */
};

struct evaluation_setting {
    const struct stores *stores;
    struct batch *batch;
    struct workspace *workspace;
    int sequences; /* of a batch; `batch` and `workspace` have room for their rows */
    int threads; /* that decode records */
};

/* results [count]. observed: NULL, or [count], each with room for all held-out tokens. A trial that fails here
 * by its own fault is marked so, and the others go on. -1: the machine failed, and no trial is marked. When the
 * program was told to stop meanwhile, *complete is false and there are no results. */
int evaluate_trials(const struct evaluation_setting *setting, struct trial *const *trials, int count,
                    struct evaluation *results, struct evaluation *full, const struct observed *observed,
                    bool *complete, struct error *error);

#endif
