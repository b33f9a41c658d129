/* step.h: a step of training of some trials, on a loaded batch.
 *
 * Most of a step is two products with the output weight, [M, H] with [V, H]. (V is 49,152 to 128,256; the
 * products of an affine head itself are 1 to 3 % of them.) So trials that share the model's output weight and
 * the loss take a step together, as a group:
 *
 *     trial 0's head | M rows |
 *     trial 1's head | M rows |  ->  one op_vocab_loss  ->  each head's gradients  ->  one op_adam
 *     trial 2's head | M rows |
 *
 * as many as make TRIALS_ROWS rows. Short batches (M of some hundred rows) fill a device that way, or a
 * processor's chunk; the weight is read once for all; and the host waits for the device twice a group, not
 * twice a trial. A batch of half as many rows or more does so by itself: its trials go one by one. So do
 * batches of at most MATMUL_FEW_ROWS rows, because the stack would go through another kernel.
 *
 * Trials of `vocabulary: subset` take their softmax over the batch's subsets of the vocabulary (subsets.h), whose
 * rows are gathered once for all of them, section by section. Their loss is an estimate then. Those of
 * `vocabulary: all` take it over the whole. On a batch that was loaded without subsets, all do.
 *
 * Where memory is short, a group has fewer trials, and then a batch goes through the head in pieces
 * (workspace.h), whose gradients add up before the one step of the optimizer.
 *
 * What a trial becomes depends on its own settings, the seed and the batches. On cpu and ref it has the same
 * bytes in whatever group (ops.h: rows do not depend on each other). On cuda the library chooses kernels by the
 * number of rows. A loss alone and among others may differ by 1e-4 of its size in f32, by 1e-2 in bf16; in the
 * same groups it has the same bytes. The gradient of a batch in pieces is a sum of sums: it differs by 1e-5 of
 * its largest value from that of the whole batch, on cuda by as much as a loss may.
 *
 *     batch_load(batch, next, teach, error);
 *     trials_step(group, count, workspace, batch, steps, results, error);
 */
#ifndef OFFRAMP_TRAIN_STEP_H
#define OFFRAMP_TRAIN_STEP_H

#include "common/base/error.h"
#include "train/batch.h"
#include "train/trial.h"
#include "train/workspace.h"

/* Step trial->step + 1 of `steps` of each of a group's trials, which join the first one (trial_joins); results
 * [count]. A trial whose loss or gradient is not a number is marked failed and stays as it was; the others do
 * not notice. One that memory does not hold, alone and in the smallest pieces, is marked starved and stays as
 * it was. -1: the machine failed. What the trials hold is not to be believed then. The workspace is clean in
 * any case. */
int trials_step(struct trial *const *trials, int count, struct workspace *workspace, const struct batch *batch,
                int64_t steps, struct trial_result *results, struct error *error);

/* Decides whose fault it is that some of the trials [count] are starved, after a step or an evaluation on the
 * loaded batch. It is the trial's own when it has never taken a step, and memory still holds another one: the
 * trial is too large for this machine, and is marked failed. Otherwise something else has taken the machine's
 * memory: -1. */
int trials_judge(struct trial *const *trials, int count, struct workspace *workspace, const struct batch *batch,
                 struct error *error);

/* What the heads of a group make of a piece of the loaded batch, before the output weight: trial after trial, as
 * above. The workspace's until the next call. */
struct stack {
    struct matrix h; /* [count * piece.rows, H] */
    struct matrix labels; /* [count * piece.rows, 1] the batch's, once for each trial */
};

/* Trials of any losses, as many as the workspace holds; more than one only of a whole batch. The ops are put on
 * the workspace's queue. */
int trials_forward(struct trial *const *trials, int count, struct workspace *workspace,
                   const struct batch *batch, struct piece piece, struct stack *stack, struct error *error);

#endif
