/* pass.h: whole sequences through the first layers of a model, with a look at their states on the way.
 *
 * Layer by layer over a super-batch of calls: each layer's weights take all calls through before the next
 * layer's turn, so that weights which do not stay in memory are loaded once for all of them. When all stay,
 * a super-batch of one call is the ordinary forward pass. Layers above the last one wanted are never loaded.
 *
 *     const struct pass_shape shape = {.rows = 512, .batch = 4, .group = 1, .layers = 24, .resident = true};
 *     pass_open(model, backend, &shape, &pass, error);
 *     while (...) {
 *         pass_add(pass, ids, sequences);                  // 1 .. group times
 *         pass_run(pass, visit, context, error);           // visit sees every call after every half layer
 *     }
 *     pass_close(pass);
 *
 * The states of a sequence do not depend on the sequences computed with it.
 */
#ifndef OFFRAMP_MODEL_PASS_H
#define OFFRAMP_MODEL_PASS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/model/model.h"
#include "kernels/ops.h"

struct pass_shape {
    int rows; /* tokens per sequence; more than MATMUL_FEW_ROWS */
    int batch; /* sequences per call, at most */
    int group; /* calls per super-batch, at most */
    int layers; /* to run */
    bool half; /* of the last one, the attention only */
    bool resident; /* all weights stay in memory */
};

struct pass;

/* Loads what stays in memory. The model must outlive the pass. */
int pass_open(const struct model *model, struct backend *backend, const struct pass_shape *shape,
              struct pass **pass, struct error *error);
void pass_close(struct pass *pass); /* NULL is fine */

/* One more call for the next pass_run: ids [sequences * rows], sequences <= batch. Fewer than `group` calls
 * may wait. */
void pass_add(struct pass *pass, const int32_t *ids, int sequences);

/* Looks at the states of call number `call`, in the order they were added: states [sequences * rows, hidden]
 * after `layer` (0: the embedding), or with `mid` after that layer's attention. They may be read with
 * op_read on `queue`. -1 with an error ends the run. */
typedef int pass_visit(void *context, int call, int layer, bool mid, struct queue *queue, struct matrix states,
                       struct error *error);

/* Takes the calls that were added through all layers. None wait afterwards. */
int pass_run(struct pass *pass, pass_visit *visit, void *context, struct error *error);

#endif
