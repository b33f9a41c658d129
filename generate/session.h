/* session.h: a model that has read a sequence of tokens, some of them only part of the way up.
 *
 * Depth is counted in half-layers, called steps: step 0 is the embedding, step 2 L - 1 the attention of
 * layer L (tap L.mid), step 2 L its MLP (tap L), step 2 n the last. Every row (one token at one
 * position) keeps its state where it stopped. Attention at a layer reads the keys of all rows before,
 * so when the last row goes up, the rows before it that stopped lower go along: at each step those
 * that have not taken it are the last few rows, one behind the other, and take it together: rows that came
 * alone in pieces of MATMUL_FEW_ROWS, rows that came with more than that as they came (a long prompt in pieces of
 * nearly one size, so that none has as few). So no row takes a step twice, and on the cpu the keys of a layer are
 * to the last bit what the full model would have made of the same tokens.
 *
 *     session_create(model, backend, positions, &session, error);
 *     session_append(session, prompt, count, error);
 *     session_run(session, session_steps(session));       // the prompt, through all layers
 *     session_append(session, &token, 1, error);
 *     session_run(session, tap_step(tap));                // leaves there, or
 *     session_run(session, session_steps(session));       // goes on to the end
 */
#ifndef OFFRAMP_GENERATE_SESSION_H
#define OFFRAMP_GENERATE_SESSION_H

#include "common/base/error.h"
#include "common/model/ends.h"
#include "common/model/layer.h"
#include "common/store/tap.h"

struct session;

/* Bytes of a device's memory that a session takes, beside its working memory: every weight in the compute type and
 * as the file has it; keys and values of `positions` tokens. */
struct session_bytes {
    uint64_t weights, keys;
};
struct session_bytes session_bytes(const struct model *model, enum math math, int positions);

/* Loads every layer; `positions` is the most tokens it will hold. The model and backend must outlive it. */
int session_create(const struct model *model, struct backend *backend, int positions, struct session **session,
                   struct error *error);
void session_destroy(struct session *session); /* NULL is fine */

/* New rows behind those there are, at step 0. Ids outside the vocabulary and more rows than
 * positions are errors. */
int session_append(struct session *session, const int32_t *ids, int count, struct error *error);

/* Brings the last row, and those before it that are lower, to `step`. Puts ops on the queue: a
 * failure shows at the next queue_wait. */
void session_run(struct session *session, int step);

/* The last row's state [1, H], at session_depth. */
struct matrix session_state(const struct session *session);
/* The step the last row has taken last. */
int session_depth(const struct session *session);
/* The last step there is: 2 n. */
int session_steps(const struct session *session);
/* Rows there are. */
int session_rows(const struct session *session);
/* Rows that have taken a step, counted where the work is done: never more than session_rows. */
int64_t session_work(const struct session *session, int step);

struct queue *session_queue(const struct session *session);
const struct ends *session_ends(const struct session *session);

/* The step that ends at a tap. */
int tap_step(struct tap tap);

#endif
