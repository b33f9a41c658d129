/* evaluate.h: how good heads are on the held-out split. It measures the loss on the next token, the
 * Kullback-Leibler divergence of a head from the full model, and how often their likeliest tokens agree.
 *
 *     KL(full || exit) = sum_v q_v (log q_v - log p_v) = lse(z) - sum_v q_v z_v - entropy(q)
 *
 * q and p are the probabilities of the full model and of the head, z is the head's logits. Where the head's
 * output weight is tied, the sum is h . u (docs/design.md, section 1), and all trials share u. Where it is not,
 * op_vocab_cross computes the sum; q and its entropy are of the final states as the store keeps them.
 *
 * The held-out sequences have one shuffled order (read_order.h), which depends on the run's seed alone. The first
 * places of it are the sample. Each sequence is summed up by itself, so that a mean has the same bits whatever
 * was read together, and what is known of the sample need not be read again for the whole split.
 *
 *     struct evaluation results[count], full;
 *     evaluate_trials(&setting, trials, count, results, &full, NULL, &complete, error);
 */
#ifndef OFFRAMP_TRAIN_EVALUATE_H
#define OFFRAMP_TRAIN_EVALUATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/head/draft.h"
#include "common/head/rule.h"
#include "train/batch.h"
#include "train/step.h"

/* How often a draft is right: shares of the held-out rows. */
struct draft_hits {
    int steps; /* of its chain; 0: the head is an exit */
    double hit[DRAFT_STEPS_MOST]; /* the best token of step k is the full model's likeliest one there */
    double accepted[DRAFT_STEPS_MOST]; /* and so are those of all steps before */
};

/* Means over the held-out tokens. */
struct evaluation {
    double loss; /* nats */
    double kl; /* nats; the full model's is 0 */
    double agreement; /* a share; the full model's is 1 */
    struct draft_hits draft;
};

/* What is seen of a head on each of the held-out tokens, in the order of the places. */
struct observed {
    struct evidence *evidence; /* [tokens] what an exit with this head knows */
    bool *agrees; /* [tokens] what it does not know: its likeliest token is the full model's, too */
};

/* Room for all held-out tokens of the stores. */
int observed_create(const struct stores *stores, struct observed *observed, struct error *error);
void observed_free(struct observed *observed); /* an empty one is fine */

struct evaluation_setting {
    const struct stores *stores;
    struct batch *batch;
    struct workspace *workspace;
    int sequences; /* of a batch; `batch` and `workspace` have room for their rows */
    int threads; /* that decode records */
    uint64_t seed; /* of the order */
    int64_t sample; /* sequences that are wanted in it; 0: all */
};

/* Sequences of the split, and of the sample. */
uint64_t evaluation_split(const struct evaluation_setting *setting);
uint64_t evaluation_sample(const struct evaluation_setting *setting);

/* What is read, and what comes of it. */
struct evaluation_sums {
    uint64_t first, end; /* places that are read: [first, end) */
    struct evaluation *const
        *trial; /* [count][split] each trial's sums over the tokens of each place; others stay */
    struct evaluation *full; /* [split] the full model's */
    const struct observed *observed; /* [count], each with room for all tokens; NULL: not wanted */
};

/* Fills in the sums of the places. A trial that fails here by its own fault is marked so, and the others go on.
 * -1: the machine failed, and no trial is marked. When the program was told to stop meanwhile, *complete is
 * false and the sums are worth nothing. */
int evaluate_places(const struct evaluation_setting *setting, struct trial *const *trials, int count,
                    const struct evaluation_sums *sums, bool *complete, struct error *error);

/* The means over the tokens of the first `count` places. */
struct evaluation evaluation_mean(const struct evaluation_setting *setting, const struct evaluation *sums,
                                  uint64_t count);

/* The whole split. results [count]. observed: NULL, or as above. The rest is as above, too. */
int evaluate_trials(const struct evaluation_setting *setting, struct trial *const *trials, int count,
                    struct evaluation *results, struct evaluation *full, const struct observed *observed,
                    bool *complete, struct error *error);

#endif
