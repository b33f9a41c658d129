/* evaluate.h: how good heads are on the held-out split: the loss on the next token, the Kullback-
 * Leibler divergence of a head from the full model, and how often their likeliest tokens agree.
 *
 *     KL(full || exit) = sum_v q_v (log q_v - log p_v) = lse(z) - sum_v q_v z_v - entropy(q)
 * with q the full model's probabilities and z the head's logits. With a tied output weight the sum is
 * h . u, u of docs/design.md, which all trials share; otherwise op_vocab_cross finds it, with q (and
 * its entropy) of the final states as the store keeps them.
 *
 *     struct evaluation results[count], full;
 *     evaluate_trials(&setting, trials, count, results, &full, NULL, &complete, error);
 */
#ifndef OFFRAMP_TRAIN_EVALUATE_H
#define OFFRAMP_TRAIN_EVALUATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "train/batch.h"
#include "train/trial.h"

struct evaluation { /* means over the held-out tokens */
    double loss; /* nats */
    double kl; /* nats; 0 for the full model */
    double agreement; /* share; 1 for the full model */
};

/* What a confidence exit would have done with one token. */
struct outcome {
    float confidence; /* the likeliest token's probability */
    bool agrees; /* it is the full model's, too */
};

struct evaluation_setting {
    const struct stores *stores;
    struct batch *batch;
    struct workspace *workspace;
    int sequences; /* per batch; both hold rows for that */
    int threads; /* that decode */
};

/* results [count]. outcomes: NULL, or [count] arrays of as many tokens as the held-out split has. A trial
 * that fails here by its own fault is marked so; the others go on. -1: the machine failed, which marks none.
 * *complete is false, and the results are none, when the program was told to stop meanwhile. */
int evaluate_trials(const struct evaluation_setting *setting, struct trial *const *trials, int count,
                    struct evaluation *results, struct evaluation *full, struct outcome *const *outcomes,
                    bool *complete, struct error *error);

#endif
