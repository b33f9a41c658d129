/* engine.h: a model that is loaded once, and runs rows of several sequences in one call.
 *
 * An engine has the layers, the model's two ends, working memory and the queue. A sequence (sequence.h) has
 * what belongs to its tokens. engine_run takes a list of rows, each with the half-layer at which it is wanted,
 * and goes up half by half. At each half it collects the rows that wait there: the wanted rows, and the rows
 * before them that are lower. So no row takes a half twice. Here the rows A3 and B2 are wanted at half 2 (#:
 * taken before the call):
 *
 *              A0 A1 A2 A3       B0 B1 B2         go through the half together
 *     half 4 | #  .  .  .        .  .  .
 *          3 | #  .  .  .        .  .  .
 *          2 | #  #  .  .        #  .  .          A2 A3 B1 B2
 *          1 | #  #  #  .        #  #  .          A3 B2
 *          0 | #  #  #  #        #  #  #
 *
 * Rows that came alone share calls of at most MATMUL_FEW_ROWS rows. Prompts share calls of more rows; a long
 * prompt is cut into pieces of nearly one size. So what waits beside a row does not decide which kernels it
 * meets (ops.h, "Same bytes"). On the cpu its keys, values and states have the bits that they have when the row
 * goes to the top alone and at once.
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

/* Heads that are not by row, in sequences that are created from now on: every row goes through them on its way up
 * (attached.h). Once, before the first sequence. The heads must outlive the engine. */
int engine_attach(struct engine *engine, const struct attached_head *heads, int count, struct error *error);

/* Bytes of a device's memory for the weights, beside working memory: each in the compute type and as the file
 * has it. */
uint64_t engine_bytes(const struct model *model, enum math math);

/* A sequence without rows, which will hold `positions` at most: no more than the engine's. */
int engine_sequence_create(struct engine *engine, int positions, struct engine_sequence **sequence,
                           struct error *error);

/* A row that is wanted at a half. */
struct engine_row {
    struct engine_sequence *sequence;
    int position; /* below sequence_rows */
    int half;
    bool logits; /* wanted: its state is in the result */
};

/* Brings each row to its half, if it is lower, and the rows before it in its sequence as well. It puts ops on
 * the queue: a failure shows at the next queue_wait. Returns the states of the rows that want logits, one
 * behind the other [rows, H], for a head or the final norm; none wants them: matrix_none. They stay until the
 * next call. At most ENGINE_ROWS rows may want them. */
struct matrix engine_run(struct engine *engine, const struct engine_row *rows, int count);
#define ENGINE_ROWS 512

struct queue *engine_queue(const struct engine *engine);
const struct ends *engine_ends(const struct engine *engine);

#endif
