/* draft.h: a draft says what the full model will say next, from what the model has computed already. It is the head of
 * EAGLE-3 (Li et al. 2025, arXiv 2503.01840) as its published checkpoints have it.
 *
 * Row t of a sequence has the states of up to three taps there (h, ascending), and the token x that the model chose
 * after it. Step 0 predicts what the model says after x:
 *
 *     g = fc [h ...]                                            no bias
 *     e = norm(embedding of x, input_norm)      n = norm(g, hidden_norm)
 *     q, k, v = the products of [e, n]                          grouped heads; rope in halves; row t is at position t + 1
 *     m = g + o attention(q, k, v)
 *     r = m + down (silu(gate s) * up s)        s = norm(m, mlp_norm)
 *     y = norm(r, scale)                        logits = y output^T; logit i is that of tokens[i]
 *
 * Step k takes its own r of step k - 1 for g, the token k further on for x, and the position t + 1 + k. A row sees the
 * step-0 keys at or before it, and of steps 1 .. k its own ones alone. That is what the drafted tokens of a row see
 * when they are made one after another.
 *
 * Row t of step k has a token and a teacher while t + 1 + k is a row of the sequence. The rows behind that count
 * nothing: what they come to is finite, and no other row sees it.
 *
 * Parameters in head.safetensors, F32; T taps, D tokens, q, k and v rows as the model's, I the model's:
 *     fc [H, T H]; input_norm, hidden_norm, mlp_norm, scale [H]; q, k, v [., 2 H], columns of e first; o [H, .]
 *     gate, up [I, H]; down [H, I]; tokens [D] ascending ids; output [D, H] the model's rows of them (`tied`: frozen), or
 *     trained from there on (`untied`)
 *
 *     head_create(&spec, ...), head_initialise(head, INIT_COPY, ...), draft_set_tokens(head, tokens, &source, error);
 *     draft_scratch_create(head, &size, &scratch, error);
 *     draft_begin(queue, &run);
 *     for k in 0 .. steps - 1:
 *         draft_step(queue, &run, k);
 *         ... op_vocab_loss from draft_output(&run, k) into draft_output_gradient(&run, k) ...
 *     draft_backward(queue, &run, steps);
 */
#ifndef OFFRAMP_HEAD_DRAFT_H
#define OFFRAMP_HEAD_DRAFT_H

#include "common/head/head.h"

#define DRAFT_STEPS_MOST 7

bool head_kind_is_draft(const struct head_kind *kind);

/* Gives the draft its tokens [D], which ascend, and their rows of the model's output weight. */
int draft_set_tokens(struct head *head, const int32_t *tokens, const struct head_source *source,
                     struct error *error);
/* tokens [D] of a draft, on the host. */
int draft_get_tokens(const struct head *head, struct queue *queue, int32_t *tokens, struct error *error);

/* After head_initialise by INIT_RIDGE: fills the draft from a regression without an intercept, from the states of its
 * T taps at t and the normed embedding e of the token after it, to the final state at t + 1. a [(T + 1) H, H], e's rows
 * last; moment [H, H]: sum of e e^T over the rows, row by row.
 *     fc      the rows of the states
 *     v, o    the best approximation of e's rows that v and o can hold: of rank kv_heads head_size, in the first query
 *             head of each group. Its q and k are the same random map of e, so long that a row attends to itself, or to
 *             rows with the same token, whose v are the same */
int draft_use_regression(struct head *head, const float *a, const double *moment, uint64_t seed,
                         struct error *error);

/* The scale [1, H] of its last norm. */
struct matrix draft_scale(const struct head *head);

/* What working memory is for. */
struct draft_size {
    int64_t rows; /* of a call, at most: whole sequences */
    int64_t length; /* rows of a sequence */
    int steps; /* at most DRAFT_STEPS_MOST */
    bool backward; /* draft_backward is called, too */
};

struct draft_scratch;
int draft_scratch_create(const struct head *head, const struct draft_size *size, struct draft_scratch **scratch,
                         struct error *error);
void draft_scratch_destroy(struct draft_scratch *scratch); /* NULL is fine */
/* Its values for each row, for any draft of the model. */
int64_t draft_scratch_values(const struct model_config *config, int steps, bool backward);

/* A draft at work on whole sequences, M rows in all. */
struct draft_run {
    const struct head *head;
    struct draft_scratch *scratch;
    struct matrix states[HEAD_TAPS]; /* [M, H] of its taps, in order */
    struct matrix embedded; /* [M, H] the embedding of each row's next token; of a last row anything finite */
    int64_t sequences; /* M / length */
    const struct matrix *gradients; /* [parameter] draft_backward adds to them; none for a frozen one */
};

/* The rows of each sequence that count in a step: its first so many. */
int64_t draft_rows(const struct draft_run *run, int step);

/* What all steps have in common; then each step, in order. */
void draft_begin(struct queue *queue, const struct draft_run *run);
void draft_step(struct queue *queue, const struct draft_run *run, int step);
/* y [M, H] of a step. */
struct matrix draft_output(const struct draft_run *run, int step);
/* Where the gradient of y [M, H] belongs, of rows that count; the others need not be written. */
struct matrix draft_output_gradient(const struct draft_run *run, int step);
/* After `steps` steps, of which each has its gradient. "output" has none here. */
void draft_backward(struct queue *queue, const struct draft_run *run, int steps);

#endif
