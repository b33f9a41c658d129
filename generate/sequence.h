/* sequence.h: the tokens of one text in an engine: how far up each has gone, and their keys and values.
 *
 * An engine and its sequences belong to one thread. Destroy sequences before their engine.
 *
 * A row is one token at one position. Depth is counted in half-layers, called halves: half 0 is the embedding,
 * half 2 L - 1 the attention of layer L (tap L.mid), half 2 L its MLP (tap L), half 2 n the last. A row keeps
 * its state where it stopped, and waits there until the engine takes it further:
 *
 *     half 2 n | #  #  #  .  .  .       The attention of a row reads the keys of all rows before it. So no row is
 *          ... | #  #  #  .  .  .       higher than the row before it. The rows that wait at a half are the last
 *            1 | #  #  #  #  #  .       ones, one behind the other.
 *            0 | #  #  #  #  #  #
 *                ---------------->
 *                positions
 *
 *     engine_sequence_create(engine, positions, &sequence, error);
 *     sequence_append(sequence, prompt, count, error);                      // then engine_run
 *     sequence_truncate(sequence, sequence_rows(sequence) - 2, error);      // the last two were wrong
 */
#ifndef OFFRAMP_GENERATE_SEQUENCE_H
#define OFFRAMP_GENERATE_SEQUENCE_H

#include "common/base/error.h"
#include "common/model/ends.h"
#include "common/model/layer.h"
#include "common/store/tap.h"
#include "generate/attached.h"

struct engine_sequence;

/* The half that ends at a tap. */
int tap_half(struct tap tap);

void sequence_destroy(struct engine_sequence *sequence); /* NULL is fine */

/* Adds rows at the end, at half 0. Ids outside the vocabulary, and more rows than there are positions, are
 * errors. More than MATMUL_FEW_ROWS rows in one append are a prompt: they go up together, with the kernels of
 * many rows. Other rows go up as if each had come alone, with the kernels of few rows. The two kinds of kernels
 * round differently. */
int sequence_append(struct engine_sequence *sequence, const int32_t *ids, int count, struct error *error);

/* Keeps the first `rows` rows and forgets the others. What follows is, to the last bit, as if those had never
 * been appended. One exception: a prompt that is cut down to MATMUL_FEW_ROWS rows or fewer. Those rows keep the
 * bits of a prompt as far as they have gone, and go on as rows that came alone. To keep more rows than there
 * are is an error. */
int sequence_truncate(struct engine_sequence *sequence, int rows, struct error *error);

/* Makes another sequence that begins with the rows of `from`, each as far up as it is there. States, keys and
 * values are copied on the device: for each row H values, and 2 kv_heads D values a layer; and those of attached heads. A row
 * that waits is run in both sequences later. `positions` as in engine_sequence_create. */
int sequence_fork(const struct engine_sequence *from, int positions, struct engine_sequence **sequence,
                  struct error *error);

/* [1, H]: what the engine's attached head `index` made of the row at a position, which has taken the half of its tap. */
struct matrix sequence_head_row(const struct engine_sequence *sequence, int index, int position);

/* Rows there are. */
int sequence_rows(const struct engine_sequence *sequence);
/* The half that the row at a position has taken last. Where heads are attached, -1 until it takes half 0, behind which they may
 * be. */
int sequence_depth(const struct engine_sequence *sequence, int position);
/* The last half there is: 2 n. */
int sequence_halves(const struct engine_sequence *sequence);
/* Rows that have been put through a half, counted where it is done: never more than have been appended. */
int64_t sequence_work(const struct engine_sequence *sequence, int half);

/* ---- for engine.c ---- */

/* positions >= 1; what is passed must outlive it. attached: NULL, or the heads that its rows go through. */
int sequence_create(const struct model_config *config, struct queue *queue, const struct ends *ends,
                    const struct attached *attached, int positions, struct engine_sequence **sequence,
                    struct error *error);
/* Bytes of keys and values. */
uint64_t sequence_bytes(const struct model_config *config, int positions);
/* States [rows, H] of neighbouring rows. */
struct matrix sequence_states(const struct engine_sequence *sequence, int first, int rows);
const struct kv *sequence_kv(const struct engine_sequence *sequence, int layer);
/* NULL without attached heads. */
struct attached_kept *sequence_kept(const struct engine_sequence *sequence);
/* Of a prompt's row: the position behind the prompt's last row; 0: it came alone. */
int sequence_prompt_end(const struct engine_sequence *sequence, int position);
/* The rows have taken the half. */
void sequence_rise(struct engine_sequence *sequence, int half, int first, int rows);

#endif
