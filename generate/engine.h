/* engine.h: a model that is loaded once, and runs rows of several sequences in one call.
 *
 * An engine has the layers, the model's two ends, working memory and the queue. A sequence (sequence.h) has what
 * belongs to its tokens. engine_run takes a list of rows, each with the half-layer it is wanted at, and goes up half by
 * half. At each half it collects the rows that wait there: the wanted rows, and the rows before them in their sequences
 * that stand lower. So no row takes a half twice:
 *
 *     half   sequence A        sequence B       rows in the calls of this half, A's first
 *       4  | #  .  .  .        .  .  .
 *       3  | #  .  .  .        .  .  .
 *       2  | #  #  .  .        #  .  .          A2 A3 | B1 B2      rows A3 and B2 are wanted at half 2
 *       1  | #  #  #  .        #  #  .          A3 | B2
 *       0  | #  #  #  #        #  #  #
 *
 * Rows that came alone share calls of at most MATMUL_FEW_ROWS rows; a prompt goes in calls of more, a long one in
 * pieces of nearly one size. So the kernels that a row meets do not depend on what waits beside it (ops.h, "Same
 * bytes"), and on the cpu its keys, values and states have the bits that it gets alone in a full model.
 *
 *     engine_open(model, backend, positions, &engine, error);
 *     engine_sequence_create(engine, positions, &sequence, error);
 *     sequence_append(sequence, prompt, count, error);
 *     engine_run(engine, &(struct engine_row){sequence, count - 1, halves, false}, 1);      // the prompt, to the top
 *     sequence_append(sequence, &token, 1, error);
 *     state = engine_run(engine, &(struct engine_row){sequence, count, tap_half(tap), true}, 1);
 */
#ifndef OFFRAMP_GENERATE_ENGINE_H
#define OFFRAMP_GENERATE_ENGINE_H

#include "generate/sequence.h"

struct engine;

/* Loads every layer. positions: of the longest sequence it will run. The model and backend must outlive it. */
int engine_open(const struct model *model, struct backend *backend, int positions, struct engine **engine,
                struct error *error);
void engine_close(struct engine *engine); /* NULL is fine */

/* Bytes of a device's memory for the weights, beside working memory: each in the compute type and as the file has it. */
uint64_t engine_bytes(const struct model *model, enum math math);

/* A sequence without rows, which will hold `positions` at most: no more than the engine's. */
int engine_sequence_create(struct engine *engine, int positions, struct engine_sequence **sequence,
                           struct error *error);

/* A row that is wanted at a half. */
struct engine_row {
    struct engine_sequence *sequence;
    int position; /* below sequence_rows */
    int half;
    bool logits; /* its state is in the result */
};

/* Brings each row to its half, if it is lower, and the rows before it in its sequence as well. Puts ops on the queue: a
 * failure shows at the next queue_wait. Returns the states of the rows that want logits, one behind the other
 * [rows, H], for a head or the final norm; they stay until the next call. At most ENGINE_ROWS rows may want them. */
struct matrix engine_run(struct engine *engine, const struct engine_row *rows, int count);
#define ENGINE_ROWS 512

struct queue *engine_queue(const struct engine *engine);
const struct ends *engine_ends(const struct engine *engine);

#endif
