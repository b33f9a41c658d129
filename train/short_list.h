/* short_list.h: the short list of gates: the tokens that the full model says most often, and their rows of an output
 * weight.
 *
 *     short_list_count(&stores, seed, threads, &tokens, &complete, error);     // once a run
 *     short_list_open(&tokens, trial, &stores, &list, error);                  // once a head
 *     ... op_vocab_stats with short_list_vocab(list) ...
 *     short_list_close(list);
 *     short_list_tokens_free(&tokens);
 */
#ifndef OFFRAMP_TRAIN_SHORT_LIST_H
#define OFFRAMP_TRAIN_SHORT_LIST_H

#include "common/base/error.h"
#include "train/batch.h"
#include "train/trial.h"

/* Tokens of the short list: SHORT_LIST_MOST, or an eighth of a small vocabulary. */
#define SHORT_LIST_MOST 4096
/* Tokens of the training split that are counted. */
#define SHORT_LIST_COUNTED (1 << 20)

struct short_list_tokens {
    int count; /* S */
    int32_t *token; /* [S] the most frequent first; of equal ones the smaller first */
    int32_t *rank; /* [V] of each token its index in `token`; S for those that are not there */
    int64_t vocab; /* V */
    double covered; /* the share of the counted tokens that are there */
};

/* Counts the full model's likeliest tokens on the training split, of at most SHORT_LIST_COUNTED tokens in the order of
 * the seed; of stores without a target the tokens of the text. When the program is told to stop meanwhile, *complete is
 * false. */
int short_list_count(const struct stores *stores, uint64_t seed, int threads, struct short_list_tokens *tokens,
                     bool *complete, struct error *error);
void short_list_tokens_free(struct short_list_tokens *tokens); /* a zeroed one is fine */

struct short_list {
    const struct short_list_tokens *tokens;
    float *rows; /* [S, H] of the head's output weight */
    struct weight *weight; /* the same, prepared */
};

/* Of the output weight that the trial's head has, or shares. `tokens` must outlive the list. */
int short_list_open(const struct short_list_tokens *tokens, const struct trial *trial,
                    const struct stores *stores, struct short_list **list, struct error *error);
void short_list_close(struct short_list *list); /* NULL is fine */
struct vocab short_list_vocab(const struct short_list *list);

#endif
