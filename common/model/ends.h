/* ends.h: a model's two ends on a backend: the embedding below the first layer; the final norm and the output
 * weight above the last one.
 *
 *     ends_load(model, backend, true, WEIGHT_FORWARD, &ends, error);
 *     ends_embed(ends, queue, ids, x);
 *     ...                                                       // the layers
 *     op_norm(queue, x, ends_final_norm(ends), config->norm_epsilon, normed);
 *     op_matmul(queue, normed, ends_output(ends), logits, OP_STORE);
 */
#ifndef OFFRAMP_MODEL_ENDS_H
#define OFFRAMP_MODEL_ENDS_H

#include <stdbool.h>

#include "common/model/model.h"
#include "kernels/ops.h"

struct ends;

/* uses of the output weight; the embedding is always usable for op_embed. `with_output` false loads
 * no output weight beyond that (extraction never needs logits). */
int ends_load(const struct model *model, struct backend *backend, bool with_output, unsigned uses,
              struct ends **ends, struct error *error);
/* The final norm and the output weight alone: ends_embed is not for these. */
int ends_load_output(const struct model *model, struct backend *backend, unsigned uses, struct ends **ends,
                     struct error *error);
void ends_destroy(struct ends *ends); /* NULL is fine */
/* x [M, H] = embedding rows of ids [M, 1]. */
void ends_embed(const struct ends *ends, struct queue *queue, struct matrix ids, struct matrix x);
/* The final norm's scale [1, H]; its epsilon is the config's. */
struct matrix ends_final_norm(const struct ends *ends);
/* NULL when loaded without. */
const struct weight *ends_output(const struct ends *ends);

#endif
