/* draft_parts.h: the working memory of a draft, for common/head/draft*.c only. */
#ifndef OFFRAMP_HEAD_DRAFT_PARTS_H
#define OFFRAMP_HEAD_DRAFT_PARTS_H

#include "common/head/draft.h"
#include "common/head/kind.h"

/* The parameters of a draft, in order. */
enum draft_parameter {
    DRAFT_FC,
    DRAFT_INPUT_NORM,
    DRAFT_HIDDEN_NORM,
    DRAFT_MLP_NORM,
    DRAFT_Q,
    DRAFT_K,
    DRAFT_V,
    DRAFT_O,
    DRAFT_GATE,
    DRAFT_UP,
    DRAFT_DOWN,
    DRAFT_SCALE,
    DRAFT_TOKENS,
    DRAFT_OUTPUT
};

/* Matrices of working memory, [M, columns] each. */
enum draft_matrix {
    /* Once. */
    EMBEDDED, /* e */
    EMBEDDED_PROJECTED, /* what q, k and v make of e alone */
    OWN_KEYS, /* of steps 1, 2, ...: neighbours, as columns */
    OWN_VALUES,
    ZEROS,
    /* Of each step. */
    GIVEN, /* g; of a step after the first it is the result of the one before */
    NORMED, /* n */
    PROJECTED, /* q | k | v, q and k rotated */
    ATTENDED,
    MIDDLE, /* m */
    MLP_NORMED, /* s */
    GATE_UP,
    GATED,
    OUTPUT, /* y */
    D_OUTPUT,
    /* Once, for the way back. */
    D_GIVEN, /* of g, of m and of r, one after another */
    D_NORMED,
    D_ATTENDED,
    D_GATE_UP,
    D_GATED,
    D_PROJECTED,
    D_EMBEDDED_PROJECTED,
    D_KEYS, /* of step 0 */
    D_VALUES,
    D_OWN_KEYS,
    D_OWN_VALUES,
    DRAFT_MATRICES
};

struct draft_scratch {
    struct draft_size size;
    struct buffer *buffer[DRAFT_MATRICES];
    struct buffer *table; /* [length + steps, head size] for op_rope */
    struct buffer *positions; /* [steps][rows] i32 */
    struct attention_span *spans, *dspans; /* [rows / length] */
    int64_t columns[DRAFT_MATRICES];
};

/* The matrix of a step (0 for those that are there once), with the run's rows. Step `steps` has a GIVEN, too. */
struct matrix draft_matrix(const struct draft_run *run, enum draft_matrix which, int step);
/* The positions [M, 1] of a step. */
struct matrix draft_positions(const struct draft_run *run, int step);
struct matrix draft_table(const struct draft_run *run);
struct matrix draft_value(const struct draft_run *run, enum draft_parameter parameter);

/* Columns of q, k and v in PROJECTED. */
struct matrix draft_queries(const struct draft_run *run, struct matrix projected);
struct matrix draft_keys(const struct draft_run *run, struct matrix projected);
struct matrix draft_values(const struct draft_run *run, struct matrix projected);
/* The columns of e, or those of n, of the weight of q, k or v. */
struct matrix draft_half(const struct draft_run *run, struct matrix weight, bool normed);
struct attention draft_attention(const struct draft_run *run);
/* The spans of a step's attention, or, with `gradients`, those of its gradients. */
const struct attention_span *draft_spans(const struct draft_run *run, int step, bool gradients);
/* The first `rows` rows of sequence s, from `first` on, of a matrix of all rows. */
struct matrix draft_sequence(const struct draft_run *run, struct matrix matrix, int64_t s, int64_t first,
                             int64_t rows);

/* head_initialise of a draft: all but its tokens and their rows, which are zeros. */
int draft_initialise(struct head *head, enum head_init init, uint64_t seed, const struct head_source *source,
                     struct error *error);

#endif
