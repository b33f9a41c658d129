/* subset.h: the tokens over which a batch's softmax is taken, instead of the whole vocabulary.
 *
 * Of the loss of a row, lse(z) less a target, only the log-sum-exp needs all V logits (docs/design.md). Most of
 * it lies on few tokens. So some rows of a batch, a section (subsets.h), have a subset of S tokens. Their labels are
 * members for sure. The others are drawn at random, and each of those stands for some that were not drawn:
 *
 *     sum over V of e^z   ~   sum over S of e^(z + shift),      shift = log(how many tokens a member stands for)
 *
 * The right side is the left one on average. The shift is added to the logits before the softmax, and the
 * gradient follows.
 *
 * Tokens that the teacher finds likely are drawn first. A token's weight w is how often it is among the best tokens
 * of the section's rows, plus a share of how often it is among those of all rows of the batch, plus a little more, so
 * that none is left out. Its priority is w / u, with u a uniform random number in (0, 1]. The tokens of the highest
 * priorities are members. Let t be the highest priority of a token that is not a member: a member with w >= t stands
 * for itself, as a label does, and one with w < t for t / w tokens (priority sampling, Duffield, Lund and Thorup
 * 2007).
 *
 *     token      0    1    2    3    4    5    6        S = 4, the label is 6
 *     weight    .1   .1  5.1   .1  1.1   .1   .1
 *     priority  .2   .9  9.3   .1  1.5   .3    -        t = .3
 *     shift      .   log 3   0   .   0    .    0
 *
 * A subset depends on the batch, the seed and a number only: not on the trials, and not on where a run was stopped.
 *
 *     subset_create(vocab, SUBSET_SIZE, &subset, error);
 *     subset_draw(subset, &tokens, section, seed, number);
 *     ... subset->token, subset->shift, subset_member(subset, label) ...
 *     subset_destroy(subset);
 */
#ifndef OFFRAMP_TRAIN_SUBSET_H
#define OFFRAMP_TRAIN_SUBSET_H

#include <stdint.h>

#include "common/base/error.h"
#include "common/base/piece.h"

/* Tokens of a subset of about 512 rows. An affine head at tap 24 of the demo model, from the ridge regression on, 60
 * steps of 2,048 tokens (41k tokens), distillation; held-out loss and KL, and what they lack to the whole vocabulary
 * (V = 49,152):
 *     whole           3.6072            0.6212
 *     3,072 tokens    3.6095 (+0.002)   0.6251 (+0.004)     without WEIGHT_BATCH (subset.c), mean of two draws
 *     2,048 tokens    3.6110 (+0.004)   0.6275 (+0.006)     mean of two draws
 * From a poor start they lack more for as long as the head is poor, since it finds tokens likely that the teacher
 * does not: the mlp at 12.mid from its copy has 13.11 for 13.02 after 30 steps of cross-entropy. So
 * `vocabulary: auto` takes a subset for ridge starts only. Distillation at the temperature 2, after 24 steps of 1,024
 * tokens from the ridge regression, lacks 0.008 of the loss and 0.005 of the KL (one draw).
 *
 * What was tried for poor starts, in PyTorch: a subset for each trial, drawn by a running mean of the head's own
 * probabilities (each member's, without its shift) beside the teacher's best tokens. The mlp at 12.mid from its copy,
 * distillation, held-out loss after 10 and 20 steps of 1,024 tokens:
 *     whole                                        16.8992   14.3985
 *     2,048 tokens as here                         16.9292   14.4224
 *     1,024, the mean begins with equal values     16.9361   14.4457     mean of two draws, as the row above
 *     1,024, it begins with that of 1,024 rows     16.8998   14.3819
 * A mean learns little of tokens that are not drawn, so it must begin with the whole vocabulary's. It is not built.
 * pipelines/vocabulary_study.sh measures these, and the time. */
#ifndef SUBSET_SIZE
#define SUBSET_SIZE 2048
#endif

struct subset {
    int64_t vocab; /* V */
    int64_t least; /* members, where V has so many; more where labels alone are more than half of that */

    /* Of the draw before. */
    int64_t size; /* members: S <= V */
    int32_t *token; /* [S], ascending */
    float *shift; /* [S] */

    int32_t *member; /* [V]: of each token its index in `token`, or -1 */
    float *weight, *priority; /* [V] */
};

/* What is known of a whole batch. */
struct subset_tokens {
    int64_t rows; /* M */
    const int32_t *labels; /* [M]; one outside the vocabulary is left out */
    const int32_t
        *best; /* [M, count] the teacher's likeliest tokens, likewise; NULL: nothing is known of them */
    int count;
};

/* Members of a subset of at least `least`, with so many labels that differ. */
int64_t subset_size(int64_t vocab, int64_t least, int64_t labels);

int subset_create(int64_t vocab, int64_t least, struct subset **subset, struct error *error);
void subset_destroy(struct subset *subset); /* NULL is fine */

/* The subset of a section instead of the one before. number: any that the section has for itself. */
void subset_draw(struct subset *subset, const struct subset_tokens *tokens, struct piece section, uint64_t seed,
                 uint64_t number);

/* The index of a token in the subset; -1: it is not a member, or not in the vocabulary. */
int32_t subset_member(const struct subset *subset, int32_t token);

#endif
