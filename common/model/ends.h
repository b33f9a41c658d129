/* ends.h: what a model has below its first layer and above its last one, on a backend.
 *
 *     ids -> embedding -> layers -> final norm -> output weight -> logits
 *
 * The output weight may be the embedding ("tied").
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

/* `with_output`: the output weight is loaded too, for `uses` (weight_prepare). Without it, the embedding is for
 * ends_embed only: extraction needs no logits. The model must stay open while the ends live. */
int ends_load(const struct model *model, struct backend *backend, bool with_output, unsigned uses,
              struct ends **ends, struct error *error);
/* Loads the final norm and the output weight only. ends_embed must not be called. */
int ends_load_output(const struct model *model, struct backend *backend, unsigned uses, struct ends **ends,
                     struct error *error);
void ends_destroy(struct ends *ends); /* NULL is fine */
/* x [M, H] = the embedding's rows of ids [M, 1]. */
void ends_embed(const struct ends *ends, struct queue *queue, struct matrix ids, struct matrix x);
/* The final norm's scale [1, H]; its epsilon is the config's. */
struct matrix ends_final_norm(const struct ends *ends);
/* NULL when it was not loaded. */
const struct weight *ends_output(const struct ends *ends);

#endif
