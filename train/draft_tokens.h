/* draft_tokens.h: which tokens a draft chooses from: those that the full model chooses most often on the training
 * split, counted from the stores' target.
 *
 *     draft_tokens_count(&stores, threads, &counts, error);
 *     draft_tokens_choose(&counts, trial's draft_vocab, tokens, error);
 *     draft_counts_free(&counts);
 */
#ifndef OFFRAMP_TRAIN_DRAFT_TOKENS_H
#define OFFRAMP_TRAIN_DRAFT_TOKENS_H

#include "train/stores.h"

struct draft_counts {
    int64_t vocab; /* V */
    int64_t *chosen; /* [V] rows where the token is the likeliest */
    double *weight; /* [V] the sum of its probabilities where it is among a row's best */
};

/* From one read of the training split, with `threads` decoders. */
int draft_tokens_count(const struct stores *stores, int threads, struct draft_counts *counts,
                       struct error *error);
void draft_counts_free(struct draft_counts *counts); /* a zeroed one is fine */

/* tokens [count], ascending: those chosen most often, of equal ones the likelier, then the smaller. */
int draft_tokens_choose(const struct draft_counts *counts, int count, int32_t *tokens, struct error *error);

#endif
