/* pass.h: whole sequences through the first layers of a model, with a look at their states on the way.
 *
 * Layer by layer over a super-batch of calls: each layer's weights take all calls through before the next
 * layer's turn, so that weights which do not stay in memory are loaded once for all of them, the next layer's
 * while one computes. When all stay, a super-batch of one call is the ordinary forward pass. Layers above the
 * last one wanted are never loaded.
 *
 *     const struct pass_shape shape = {.rows = 512, .batch = 4, .group = 1, .layers = 24, .resident = true};
 *     pass_open(model, backend, &shape, &pass, error);
 *     while (...) {
 *         pass_add(pass, ids, sequences);                  // 1 .. group times
 *         pass_run(pass, more, visit, context, error);     // visit sees every call after every half layer
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
    int group; /* calls per super-batch, at most; pass_resize */
    int layers; /* to run */
    bool half; /* of the last one, the attention only */
    bool resident; /* all weights stay in memory */
};

struct pass;

/* Seconds, where weights are loaded layer by layer. */
struct pass_times {
    double read; /* a layer's weights from disk, or the system's cache of it: mean */
    double prepare; /* them for computing, when nothing else runs */
    double call; /* a full call through a layer */
    double loading; /* the thread that loads, at work in all */
    double waited; /* for it, in all */
};

/* Loads what stays in memory. The model must outlive the pass. */
int pass_open(const struct model *model, struct backend *backend, const struct pass_shape *shape,
              struct pass **pass, struct error *error);
void pass_close(struct pass *pass); /* NULL is fine */

/* Another number of calls per super-batch, while none waits. After an error only pass_close is left. */
int pass_resize(struct pass *pass, int group, struct error *error);

/* Times the first layer, loaded and run once; while no call waits. */
int pass_measure(struct pass *pass, struct error *error);
/* What pass_measure and all loads since have taken. */
struct pass_times pass_times(const struct pass *pass);

/* One more call for the next pass_run: ids [sequences * rows], sequences <= batch. Fewer than `group` calls
 * may wait. */
void pass_add(struct pass *pass, const int32_t *ids, int sequences);

/* Looks at the states of call number `call`, in the order they were added: states [sequences * rows, hidden]
 * after `layer` (0: the embedding), or with `mid` after that layer's attention. They may be read with
 * op_read on `queue`. -1 with an error ends the run. */
typedef int pass_visit(void *context, int call, int layer, bool mid, struct queue *queue, struct matrix states,
                       struct error *error);

/* Takes the calls that were added through all layers; `more`: another run follows, whose first layer can be
 * loaded ahead. None wait afterwards. */
int pass_run(struct pass *pass, bool more, pass_visit *visit, void *context, struct error *error);

#endif
