/* half.h: a half of a layer (common/model/block.h) whose weights are a head's parameters. For common/head/
 * only.
 *
 *     y = x + out(mix(in(norm(x))))
 *
 * A kind that has a half lists the half's tensors in its rules. They are found by the roles that block.h names.
 * A bias is added where the head has one. The norm is frozen; x is a tap's state, so it has no gradient. No
 * kind has an attention half yet.
 *
 *     static const struct scratch_rule scratches[] = {HALF_SCRATCH(HALF_MLP), ...};
 *     half_forward(queue, runs, count, HALF_MLP, 0);       // y is in scratch HALF_Y
 *     ...                                                  // the gradient of y into scratch HALF_DY
 *     half_backward(queue, runs, count, HALF_MLP, 0);
 */
#ifndef OFFRAMP_HEAD_HALF_H
#define OFFRAMP_HEAD_HALF_H

#include "common/head/kind.h"

/* The working memory of a half. */
enum half_scratch {
    HALF_NORMED, /* norm(x) */
    HALF_PROJECTED, /* what `in` makes of it: [gate, up] */
    HALF_MIXED, /* what `out` multiplies */
    HALF_Y,
    HALF_DY,
    HALF_DMIXED,
    HALF_DPROJECTED
};

/* Their rules, in that order. */
#define HALF_SCRATCH(half)                                                                                     \
    {COLUMNS_HIDDEN, half, false}, {COLUMNS_PROJECTED, half, false}, {COLUMNS_MIXED, half, false},             \
        {COLUMNS_HIDDEN, half, false}, {COLUMNS_HIDDEN, half, true}, {COLUMNS_MIXED, half, true},              \
    {                                                                                                          \
        COLUMNS_PROJECTED, half, true                                                                          \
    }

/* y from x of each run. half: HALF_MLP of block.h; first: the index of the half's first scratch in the kind's
 * list. */
void half_forward(struct queue *queue, const struct head_run *runs, int count, int half, int first);
/* Adds to the gradients of the parameters. */
void half_backward(struct queue *queue, const struct head_run *runs, int count, int half, int first);

#endif
