/* draft_chain.h: what a verifier accepts of a draft's chains, when all tokens are chosen greedily.
 *
 * At row t the model has seen the tokens up to x_t and chosen x_(t+1). The draft proposes those behind it, step by step.
 * Of its proposals the first ones that are what the model would choose are accepted; then the model has chosen one more
 * itself, and the next round begins at the row before that:
 *
 *     rows     t      t+1    t+2    t+3    t+4          hits at t: yes, yes, no
 *     tokens          x_t+1  yes    yes    model's      2 are accepted, the next round begins at row t + 3
 *
 * An accepted token is the text's. So where the text is the model's own, hits may be counted with the text's tokens as
 * the draft's own ones, and the rounds need no model.
 *
 *     struct draft_chain chain = {.steps = 3};
 *     draft_chain_count(&chain, hit, rows, first);
 */
#ifndef OFFRAMP_HEAD_DRAFT_CHAIN_H
#define OFFRAMP_HEAD_DRAFT_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/head/draft.h"

struct draft_chain {
    int steps; /* proposals of a round */
    int64_t rounds;
    int64_t accepted
        [DRAFT_STEPS_MOST]; /* rounds in which the proposal of a step, and all before it, was accepted */
};

/* Adds the rounds of a text. hit [rows][steps]: whether the step's best token at the row is the model's. The first
 * round is at row `first`; the last one at a row below `rows`. */
void draft_chain_count(struct draft_chain *chain, const bool *hit, int64_t rows, int64_t first);

#endif
